"""The forms in which public traces of requests come, read as the project's own columns.

Azure's (``TIMESTAMP,ContextTokens,GeneratedTokens``, dates), BurstGPT's (``Timestamp,Request tokens,Response tokens``,
seconds), Mooncake's (JSON Lines of ``timestamp`` in milliseconds, ``input_length``, ``output_length``, ``hash_ids``), Vidur's
(``arrived_at,num_prefill_tokens,num_decode_tokens``).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any, TextIO

import msgspec

from ridgepoint.errors import RidgepointError

_OWN = ("arrival_s", "input_tokens", "output_tokens", "prefix_hash_ids", "priority", "adapter")
_MEANT = {
    **dict.fromkeys(("timestamp", "arrivedat", "arrivaltime", "arrival", "arrivals"), "arrival_s"),
    **dict.fromkeys(("contexttokens", "requesttokens", "inputlength", "prompttokens"), "input_tokens"),
    **dict.fromkeys(("numprefilltokens", "promptlength", "inputlen", "promptlen", "inputtokens"), "input_tokens"),
    **dict.fromkeys(("generatedtokens", "responsetokens", "outputlength", "completiontokens"), "output_tokens"),
    **dict.fromkeys(("numdecodetokens", "outputlen", "outputtokens"), "output_tokens"),
    "hashids": "prefix_hash_ids",
}
_LINE = msgspec.json.Decoder(dict[str, Any])


def meant(titles: list[str]) -> list[str]:
    """The project's name of every column of a header; a title that says nothing stays as it is.

    >>> meant(["TIMESTAMP", "ContextTokens", "GeneratedTokens"]), meant(["Timestamp", "Model", "Request tokens"])
    (['arrival_s', 'input_tokens', 'output_tokens'], ['arrival_s', 'Model', 'input_tokens'])
    """
    plain = [title.strip().lstrip("\ufeff") for title in titles]
    found = [t if t in _OWN else _MEANT.get(re.sub(r"[^a-z]", "", t.lower()), t) for t in plain]
    return [
        t if (f in plain and f != t) or f in found[:i] else f for i, (t, f) in enumerate(zip(plain, found, strict=True))
    ]


def lines(stream: TextIO, name: str) -> Iterator[list[str]]:
    """The header and the rows of a trace: those of a CSV file, or of one JSON object a line."""
    first = stream.readline()
    if not first.lstrip("\ufeff").startswith("{"):
        yield from csv.reader(chain([first], stream))
        return
    names = list(_object(first, name, 1))
    yield names
    for number, line in enumerate(chain([first], stream), start=1):
        found = _object(line, name, number) if line.strip() else {}
        yield [_text(title, found.get(title, "")) for title in names] if found else []


def _object(line: str, name: str, number: int) -> dict[str, Any]:
    try:
        return _LINE.decode(line.lstrip("\ufeff"))
    except msgspec.DecodeError as error:
        raise RidgepointError("bad_trace", f"{name}, line {number}: {error}", "a line is one JSON object") from None


def _text(title: str, value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    milliseconds = title == "timestamp" and isinstance(value, int | float)  # Mooncake's
    return repr(value / 1e3) if milliseconds else str(value)


def seconds(text: str) -> float:
    """A time in seconds; a date counts since 1970, in UTC where it names no zone.

    >>> seconds("12.5"), seconds("1970-01-01 00:00:02.5000000"), seconds("1970-01-01 00:00:02+00:00")
    (12.5, 2.5, 2.0)

    Errors: ``ValueError`` for what is neither.
    """
    try:
        return float(text)
    except ValueError:
        date = datetime.fromisoformat(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
