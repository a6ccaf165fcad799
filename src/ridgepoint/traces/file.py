"""Trace files as their format has them: Chrome's JSON object or array of events, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ridgepoint.errors import RidgepointError

WANTED = "give what torch.profiler's export_chrome_trace writes: .json or .json.gz"


class Args(msgspec.Struct, gc=False, frozen=True):
    """What is read of an event's arguments; Kineto's spelling beside the names."""

    correlation: Any = None
    external: Any = msgspec.field(default=None, name="External id")
    sequence: Any = msgspec.field(default=None, name="Sequence number")
    forward_thread: Any = msgspec.field(default=None, name="Fwd thread id")
    device: Any = None
    stream: Any = None
    kind: Any = None
    component: Any = None
    runs: Any = None
    dims: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="Input Dims")


NO_ARGS = Args()


class Event(msgspec.Struct, gc=False, frozen=True):
    """One event. ``ts`` and ``dur`` are microseconds."""

    ph: str = ""
    cat: str = ""
    name: str | int | float | None = ""
    pid: int | str | float | None = None
    tid: int | str | float | None = None
    ts: float | None = None
    dur: float | None = None
    args: Args | None = NO_ARGS


class _Document(msgspec.Struct):
    traceEvents: list[Event] | msgspec.UnsetType = msgspec.UNSET  # noqa: N815 - the format's name
    deviceProperties: Any = None  # noqa: N815


@dataclass(frozen=True)
class File:
    """Events in the order of the file, and what it says about devices."""

    events: list[Event]
    devices: tuple[dict[str, Any], ...] = ()


def read_file(path: Path) -> File:
    """All events of a file.

    Errors: ``bad_file`` where it cannot be read, ``bad_trace`` where it is no trace or ends early.
    """
    raw = _bytes(path)
    if not raw.strip():
        raise RidgepointError("bad_trace", f"{path.name} is empty", WANTED)
    try:
        return parsed(raw)
    except msgspec.DecodeError as error:
        first = error
    try:
        return parsed(repaired(raw))
    except msgspec.ValidationError as error:
        raise RidgepointError("bad_trace", f"{path.name} is no profiler trace: {_lower(error)}", WANTED) from None
    except msgspec.DecodeError:
        pass
    if "truncated" in str(first):
        raise RidgepointError(
            "bad_trace",
            f"{path.name} ends in the middle of an event",
            "copy or export it again: the writer was cut off",
        )
    raise RidgepointError("bad_trace", f"{path.name} is no JSON: {_lower(first)}", WANTED)


def _lower(error: Exception) -> str:
    said = str(error)
    return said if said[1:2].isupper() else said[:1].lower() + said[1:]


def parsed(raw: bytes) -> File:
    """The file in ``raw``.

    >>> parsed(b'[{"ph": "X", "name": "aten::mm", "ts": 1, "dur": 2.5}]').events[0].dur
    2.5
    """
    if raw.lstrip()[:1] == b"[":
        return File(msgspec.json.decode(raw, type=list[Event], strict=False))
    document = msgspec.json.decode(raw, type=_Document, strict=False)
    if isinstance(document.traceEvents, msgspec.UnsetType):
        raise msgspec.ValidationError("Object has no `traceEvents`")
    listed = document.deviceProperties if isinstance(document.deviceProperties, list) else []
    return File(document.traceEvents, tuple(entry for entry in listed if isinstance(entry, dict)))


def _bytes(path: Path) -> bytes:
    raw = path.read_bytes()
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error):
        raise RidgepointError(
            "bad_trace", f"{path.name} is cut off or damaged: gzip cannot read it to its end", "copy it again"
        ) from None


_CONTROL = bytes(range(32))
_NOT_A_NUMBER = re.compile(rb":\s*-?(?:inf|nan|Infinity|NaN)(?=\s*[,}\]])")
_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')


def repaired(raw: bytes) -> bytes:
    """What some releases of the profiler write, as JSON: infinite bandwidths, line ends and backslashes within names.

    >>> repaired(b'{"bandwidth": inf, "name": "a%sb"}' % bytes([92]))
    b'{"bandwidth": null, "name": "a\\\\b"}'
    """
    plain = raw.translate(bytes.maketrans(_CONTROL, b" " * len(_CONTROL)))
    plain = _NOT_A_NUMBER.sub(b": null", plain)
    return _ESCAPE.sub(lambda found: found[0] if len(found[0]) > 1 else rb"\\", plain)
