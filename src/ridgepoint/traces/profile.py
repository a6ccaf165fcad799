"""What a trace says: time by op and component, idle devices, launches, overlap, and who waits for whom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgepoint.traces.components import STEP
from ridgepoint.traces.devices import Device, classes, device
from ridgepoint.traces.events import CALL, KERNEL, NOTE, OP, Trace, read_trace
from ridgepoint.traces.host import Host, host
from ridgepoint.traces.intervals import Ints, length, union
from ridgepoint.traces.kinds import HOST, kernel_kind, kernel_name, operator_kind
from ridgepoint.traces.launches import LATE_NS, launchers, launching_operators, outlasting_ns
from ridgepoint.traces.verdict import Verdict, verdict

NS = 1e-9
OUTSIDE = "(outside all)"
"""The component of what ran in no module and no annotated region."""
_WAITING = ("Synchronize", "StreamWait", "EventQuery")


@dataclass(frozen=True)
class Row:
    """Events that share a name: how often they ran, their own time, and their time from start to end."""

    name: str
    kind: str
    count: float
    time_s: float
    """Seconds that are theirs alone; over all rows they sum to the busy time."""
    total_s: float


@dataclass(frozen=True)
class Launches:
    """Kernels whose launch is in the trace, and the seconds from the beginning of the call to the kernel's start."""

    kernels: int
    delay_s: dict[str, float]
    """mean, p50, p90, p99 and largest."""
    waited_s: float
    """Sum over kernels of the seconds between the end of the call and the start: time in the device's queue."""


@dataclass(frozen=True)
class Profile:
    """The answer for one trace. Seconds; everything about events is in ``trace``."""

    trace: Trace
    host: Host
    devices: tuple[Device, ...]
    launcher: Ints
    own: Ints
    """Own nanoseconds of every event that counts: those of devices, or of operators where no device took part."""
    operator: Ints
    """The operator that an event belongs to, or -1."""
    labels: tuple[str, ...]
    """What an event's row is called: its operator, else its kernel."""
    kinds: tuple[str, ...]

    @property
    def on_host(self) -> bool:
        """Whether the processor itself is the device that computed."""
        return not self.devices

    @property
    def span_s(self) -> float:
        """From the first event to the last end."""
        return (self.trace.finish - self.trace.begin) * NS

    @cached_property
    def counted(self) -> Ints:
        """The events whose time is told: those of devices, or the host's where there is none."""
        return np.flatnonzero(self.trace.role >= (OP if self.on_host else KERNEL))

    @cached_property
    def busy_s(self) -> float:
        """Seconds in which any operator ran, or the mean of the devices' busy times."""
        if not self.on_host:
            return float(np.mean([d.busy for d in self.devices])) * NS
        return length(union(self.trace.start[self.counted], self.trace.end[self.counted])) * NS

    @property
    def idle_s(self) -> float:
        """The rest of the span."""
        return self.span_s - self.busy_s

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What the reader must know before using the figures."""
        late = outlasting_ns(self.trace, self.launcher)
        if late <= LATE_NS:
            return self.trace.warnings
        said = (
            f"kernels end up to {late * 1e-6:.3g} ms after calls that waited for them: the device's clock is late, and "
        )
        return (*self.trace.warnings, said + "with it launch delays and idle times")

    @cached_property
    def ops(self) -> list[Row]:
        """Time by operator (kernels that no operator launched by their own name), most first."""
        return self._rows(self.labels)

    @cached_property
    def kernels(self) -> list[Row]:
        """Time by kernel; empty where there is no device."""
        names = [kernel_name(name) for name in self.trace.names]
        return [] if self.on_host else self._rows(tuple(names[code] for code in self.trace.name.tolist()))

    @cached_property
    def components(self) -> list[Row]:
        """Time by component, most first; one kind stands for several by its largest share."""
        return self._rows(tuple(map(self.component_of, range(len(self.trace)))), by_kind=False)

    @cached_property
    def by_kind(self) -> list[Row]:
        """Time by kind of op (design §2)."""
        return self._rows(self.kinds)

    @cached_property
    def steps_s(self) -> NDArray[np.float64]:
        """Seconds of every step that ``profiler.step()`` told apart."""
        trace = self.trace
        step = {i for i, name in enumerate(trace.names) if name.startswith(STEP)}
        found = [e for e in np.flatnonzero(trace.role == NOTE).tolist() if int(trace.name[e]) in step]
        return np.asarray((trace.end[found] - trace.start[found]) * NS, dtype=np.float64)

    @cached_property
    def launches(self) -> Launches | None:
        """Delays from launch to start; None where no kernel's launch is known."""
        kernels = np.flatnonzero(self.launcher >= 0)
        if not len(kernels):
            return None
        trace, call = self.trace, self.launcher[kernels]
        delay = np.maximum(trace.start[kernels] - trace.start[call], 0) * NS
        middle, high, highest = np.percentile(delay, (50, 90, 99)).tolist()
        told = {"mean": float(delay.mean()), "p50": middle, "p90": high, "p99": highest, "largest": float(delay.max())}
        waited = np.maximum(trace.start[kernels] - trace.end[call], 0).sum() * NS
        return Launches(len(kernels), told, float(waited))

    @cached_property
    def host_busy_s(self) -> float:
        """Seconds in which an operator or a call ran on any thread of the host."""
        mine = np.flatnonzero((self.trace.role == OP) | (self.trace.role == CALL))
        return length(union(self.trace.start[mine], self.trace.end[mine])) * NS

    @cached_property
    def waiting_s(self) -> float:
        """Seconds that threads of the host spent in calls that wait for a device."""
        calls = np.flatnonzero(self.trace.role == CALL)
        waits = [any(word in self.trace.names[code] for word in _WAITING) for code in self.trace.name[calls].tolist()]
        return float(self.host.own[calls][np.array(waits, dtype=bool)].sum()) * NS

    @cached_property
    def verdict(self) -> Verdict:
        """Whether the host or the device sets the pace, in a sentence."""
        rows = self.by_kind
        return verdict(self.span_s, self.busy_s, self.devices, [(row.kind, row.time_s) for row in rows])

    def component_of(self, event: int) -> str:
        """Where an event's work belongs: what it states itself, else its operator's component, else its call's."""
        stated = self.trace.stated[event][1]
        if stated:
            return stated
        here = int(self.launcher[event]) if self.trace.role[event] >= KERNEL else event
        here = here if here >= 0 else int(self.operator[event])
        return (self.host.components[self.host.component[here]] if here >= 0 else "") or OUTSIDE

    def _rows(self, labels: tuple[str, ...], by_kind: bool = True) -> list[Row]:
        groups: dict[tuple[str, str], int] = {}
        events = self.counted
        kinds = self.kinds
        place = [groups.setdefault((labels[e], kinds[e] if by_kind else ""), len(groups)) for e in events.tolist()]
        where = np.array(place, dtype=np.int64)
        own, total = self.own[events], self.trace.end[events] - self.trace.start[events]
        sums = [np.bincount(where, weights=w, minlength=len(groups)) for w in (self.trace.runs[events], own, total)]
        rows = [
            Row(label, kind or self._main_kind(events[where == i]), float(n), float(t) * NS, float(a) * NS)
            for i, ((label, kind), n, t, a) in enumerate(zip(groups, *sums, strict=True))
        ]
        return sorted(rows, key=lambda row: (-row.time_s, row.name, row.kind))

    def _main_kind(self, events: Ints) -> str:
        found: dict[str, int] = {}
        for event, own in zip(events.tolist(), self.own[events].tolist(), strict=True):
            found[self.kinds[event]] = found.get(self.kinds[event], 0) + own
        return max(sorted(found), key=lambda kind: found[kind])


def read_profile(path: Path | str) -> Profile:
    """What the trace in a file (``.json``, ``.json.gz``) says, as PyTorch's profiler writes it.

    Errors: those of ``read_trace`` and ``profile``.
    """
    return profile(read_trace(Path(path)))


def profile(trace: Trace) -> Profile:
    """What a trace says.

    Errors: ``bad_trace`` where nothing ran, or where host and device have different clocks.
    """
    side = host(trace)
    launcher = launchers(trace)
    by_number = launching_operators(trace)
    of_call = np.where(launcher >= 0, side.operator[launcher], -1)
    operator = np.where(trace.on_device, np.where(of_call >= 0, of_call, by_number), side.operator)
    labels, kinds = _labels(trace, operator)
    own = side.own.copy()
    doing = classes(trace, list(kinds))
    numbers = np.unique(trace.device[trace.on_device]).tolist()
    devices = tuple(device(trace, number, doing, launcher, own) for number in numbers)
    return Profile(trace, side, devices, launcher, own, operator, labels, kinds)


def _labels(trace: Trace, operator: Ints) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Row and kind of every event."""
    known: dict[tuple[int, int, bool], tuple[str, str]] = {}
    labels, kinds = [], []
    operator_name = np.where(operator >= 0, trace.name[operator], -1)
    columns = zip(trace.name.tolist(), operator_name.tolist(), trace.role.tolist(), trace.stated, strict=True)
    for name, parent, role, (stated, _) in columns:
        found = known.get((name, parent, role >= KERNEL))
        if found is None:
            found = known[name, parent, role >= KERNEL] = _label(trace, name, parent, role)
        labels.append(found[0])
        kinds.append(stated or found[1])
    return tuple(labels), tuple(kinds)


def _label(trace: Trace, name: int, parent: int, role: int) -> tuple[str, str]:
    own = trace.names[name]
    if role < KERNEL:
        return own, HOST if role == CALL else operator_kind(own)
    above = trace.names[parent] if parent >= 0 else ""
    return above or kernel_name(own), kernel_kind(own, above)
