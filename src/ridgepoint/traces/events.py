"""The events of a PyTorch profiler trace (Kineto's Chrome JSON) as columns.

Kept are complete events (``ph`` X) of six roles; everything else (flow arrows, counters, Python frames that are no module,
annotations drawn once more on the device) carries no time of its own. Times become whole nanoseconds, so that sums are exact
and do not depend on order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.traces.file import NO_ARGS, Args, Event, File, read_file
from ridgepoint.traces.products import product

Ints = NDArray[np.int64]
NOTE, MODULE, OP, CALL, KERNEL, COPY = range(6)
"""Roles: an annotation, an ``nn.Module``'s forward, an operator, a call of the device's runtime, a kernel, a copy or fill."""
ROLES = {
    "user_annotation": NOTE,
    "python_function": MODULE,
    "cpu_op": OP,
    "operator": OP,
    **dict.fromkeys(("runtime", "cuda_runtime", "cuda_driver", "hip_runtime", "hip_driver"), CALL),
    **dict.fromkeys(("xpu_runtime", "xpu_driver", "mtia_runtime", "privateuse1_runtime", "privateuse1_driver"), CALL),
    **dict.fromkeys(("kernel", "mtia_ccp_events"), KERNEL),
    **dict.fromkeys(("memcpy", "memset", "gpu_memcpy", "gpu_memset"), COPY),
}
"""Category of an event → role; older and other back ends' names beside today's."""
MODULE_PREFIX = "nn.Module: "
LATEST = 4e15
"""Microseconds: a century after 1970, and what whole nanoseconds can still be added to."""
NO_TIME = 0.01
"""Part of the events that may lack a time (they are left out and counted) before the trace is refused."""


@dataclass(frozen=True)
class Trace:
    """Columns over the kept events. Names and lanes (threads, streams) are numbered in the order of their names, so that
    nothing depends on the file's order.
    """

    title: str
    names: tuple[str, ...]
    devices: tuple[str, ...]
    """What the profiler says about the devices; empty for runs on the processor alone."""
    role: Ints
    name: Ints
    lane: Ints
    device: Ints
    """Number of the device; -1 on the host."""
    start: Ints
    end: Ints
    correlation: Ints
    """Joins a call and the kernels that it launched; -1 where there is none."""
    external: Ints
    """Joins a kernel and the operator that launched it; -1 where there is none."""
    sequence: Ints
    """Joins an operator and its gradient's; -1 where there is none."""
    backward: NDArray[np.bool_]
    runs: NDArray[np.float64]
    """Executions that an event stands for: 1, but in traces that Ridgepoint wrote."""
    stated: tuple[tuple[str, str], ...]
    """Kind and component that an event states; empty words where it states none."""
    products: tuple[str, ...]
    """Sizes of matrix products, where they were recorded; empty words elsewhere."""
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.start)

    @property
    def on_device(self) -> NDArray[np.bool_]:
        """Which events ran on a device."""
        return self.role >= KERNEL

    @property
    def begin(self) -> int:
        """Start of the first event, in nanoseconds."""
        return int(self.start.min())

    @property
    def finish(self) -> int:
        """End of the last event, in nanoseconds."""
        return int(self.end.max())


def read_trace(path: Path) -> Trace:
    """The trace in a ``.json`` or ``.json.gz`` file.

    Errors: ``bad_file`` where it cannot be read, ``bad_trace`` where it is no trace, ends early or has no event of a
    profiler's.
    """
    return columns(read_file(path), path.name)


def columns(found: File, title: str) -> Trace:
    """The kept events of a file as columns.

    Errors: ``bad_trace`` where none is kept, or where many have no time.
    """
    kept, roles, warnings = _kept(found, title)
    names, name = _codes([str(e.name) for e in kept])
    device = [_device(e) if role >= KERNEL else -1 for e, role in zip(kept, roles, strict=True)]
    _, lane = _codes([_lane(e, d) for e, d in zip(kept, device, strict=True)])
    args = [e.args or NO_ARGS for e in kept]
    start = np.rint(np.array([e.ts for e in kept], dtype=np.float64) * 1e3).astype(np.int64)
    return Trace(
        title=title,
        names=names,
        devices=_devices(found),
        role=_ints(roles),
        name=name,
        lane=lane,
        device=_ints(device),
        start=start,
        end=start + np.rint(np.array([e.dur for e in kept], dtype=np.float64) * 1e3).astype(np.int64),
        correlation=_ints([_number(a.correlation) for a in args]),
        external=_ints([_number(a.external) for a in args]),
        sequence=_ints([_number(a.sequence) for a in args]),
        backward=np.array([_number(a.forward_thread) > 0 for a in args], dtype=bool),
        runs=np.array([_runs(a.runs) for a in args], dtype=np.float64),
        stated=tuple((_word(a.kind), _word(a.component)) for a in args),
        products=tuple(_product(e, a) for e, a in zip(kept, args, strict=True)),
        warnings=warnings,
    )


def _kept(found: File, title: str) -> tuple[list[Event], list[int], tuple[str, ...]]:
    kept: list[Event] = []
    roles: list[int] = []
    untimed, paired = 0, 0
    others: dict[str, None] = {}
    for event in found.events:
        if event.ph != "X":
            paired += event.ph == "B"
            continue
        role = ROLES.get(event.cat.lower())
        if role is None:
            others[event.cat] = None
        elif role != MODULE or str(event.name).startswith(MODULE_PREFIX):
            if not _has_time(event):
                untimed += 1
            else:
                kept.append(event)
                roles.append(role)
    _refuse(title, found, kept, untimed, paired, list(others))
    said = f"{untimed:,} events without a time are left out" if untimed else ""
    begun = (
        f"{paired:,} pairs of begin and end events are left out: the profiler writes complete events" if paired else ""
    )
    return kept, roles, tuple(text for text in (said, begun) if text)


def _has_time(event: Event) -> bool:
    """Whether an event says when it was. Some releases write 0 for both where they lost the time."""
    if event.ts is None or event.dur is None or (event.ts == 0.0 == event.dur):
        return False
    return abs(event.ts) <= LATEST and 0.0 <= event.dur <= LATEST


def _refuse(title: str, found: File, kept: list[Event], untimed: int, paired: int, others: list[str]) -> None:
    if not found.events:
        raise RidgepointError("bad_trace", f"{title} has no events", "record at least one step while the profiler runs")
    if untimed > NO_TIME * (len(kept) + untimed):
        raise RidgepointError(
            "bad_trace",
            f"{untimed:,} of {len(kept) + untimed:,} events in {title} have no time",
            "record it again, with fewer steps",
        )
    if not kept:
        told = ", ".join(f"'{name}'" for name in sorted(others)[:5]) or ("begin and end pairs" if paired else "none")
        raise RidgepointError(
            "bad_trace",
            f"{title} has {len(found.events):,} events, none of operators or kernels (categories: {told})",
            "give what torch.profiler's export_chrome_trace writes",
        )


def _codes(words: Sequence[str]) -> tuple[tuple[str, ...], Ints]:
    """Sorted distinct words, and each word's place among them."""
    distinct = tuple(sorted(set(words)))
    place = {word: i for i, word in enumerate(distinct)}
    return distinct, _ints([place[word] for word in words])


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _number(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1 << 62 else -1


def _runs(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value >= 0.0 else 1.0


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _device(event: Event) -> int:
    """The device that an event states; else its process, which is the device's number in traces of one node."""
    found = _number((event.args or NO_ARGS).device)
    return found if found >= 0 else max(_number(event.pid), 0)


def _lane(event: Event, device: int) -> str:
    if device < 0:
        return f"{event.pid}/{event.tid}"
    stream = (event.args or NO_ARGS).stream
    stream = event.tid if stream is None else stream
    return f"device {device} stream {stream}"


def _product(event: Event, args: Args) -> str:
    return product(str(event.name), bytes(args.dims)) if args.dims else ""


def _devices(found: File) -> tuple[str, ...]:
    listed = [(_number(entry.get("id")), str(entry.get("name", "device"))) for entry in found.devices]
    return tuple(name for _, name in sorted(listed))
