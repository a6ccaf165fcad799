"""From launch to start: which call launched each kernel, how long it waited, and why devices were idle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.traces.events import CALL, OP, Trace
from ridgepoint.traces.intervals import Ints, Set, gaps

CLOCK_NS, CLOCK_SHARE = 10_000, 0.01
"""Kernels may seem to start this long before their launch, or this part of them earlier still, before clocks count as mixed."""
LATE_NS = 100_000
"""Kernels may seem to end this long after a call that waited for them before it is said."""
SHORTEST_STRETCH = 3
"""Kernels that wait for the host one after the other before it is called a launch-bound stretch."""
IDLE_SHARE = 0.1
"""Part of a stretch that the device must be idle: where kernels are long, late launches cost nothing worth naming."""


@dataclass(frozen=True)
class Idle:
    """Nanoseconds in which a device did nothing, by what it waited for; they sum to all its idle time."""

    host: int
    """The next kernel was not yet launched."""
    launch: int
    """Its launch was under way."""
    queued: int
    """It had been launched before the device became idle: it waited on the device for others, or for its turn."""
    unknown: int
    """Nobody knows who launched it."""
    end: int
    """Nothing came any more."""

    @property
    def total(self) -> int:
        """All idle time."""
        return self.host + self.launch + self.queued + self.unknown + self.end


@dataclass(frozen=True)
class Stretch:
    """Kernels in a row each of which found its device idle because it was launched late."""

    start: int
    end: int
    first: int
    """Its first kernel, as an event."""
    kernels: int
    busy: int


def launchers(trace: Trace) -> Ints:
    """For every event on a device the call that launched it, or -1.

    Errors: ``bad_trace`` where kernels start before they were launched: the clocks of host and device differ.
    """
    calls = _first_by(trace.correlation, np.flatnonzero((trace.role == CALL) & (trace.correlation >= 0)), trace)
    kernels = np.flatnonzero(trace.on_device)
    found = np.full(len(trace), -1, dtype=np.int64)
    found[kernels] = _looked_up(trace.correlation, calls, trace.correlation[kernels])
    _check_clocks(trace, kernels[found[kernels] >= 0], found)
    return found


def launching_operators(trace: Trace) -> Ints:
    """For every event on a device the operator with its external number, or -1."""
    operators = _first_by(trace.external, np.flatnonzero((trace.role == OP) & (trace.external >= 0)), trace)
    kernels = np.flatnonzero(trace.on_device)
    found = np.full(len(trace), -1, dtype=np.int64)
    found[kernels] = _looked_up(trace.external, operators, trace.external[kernels])
    return found


def _first_by(key: Ints, events: Ints, trace: Trace) -> Ints:
    """Events by key, of equal keys the one that began first."""
    events = events[np.lexsort((trace.end[events], trace.start[events], key[events]))]
    first = np.concatenate(([True], np.diff(key[events]) != 0)) if len(events) else np.zeros(0, dtype=bool)
    return events[first]


def _looked_up(key: Ints, events: Ints, wanted: Ints) -> Ints:
    if not len(events):
        return np.full(len(wanted), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(key[events], wanted), len(events) - 1)
    return np.where((key[events[place]] == wanted) & (wanted >= 0), events[place], -1)


def _check_clocks(trace: Trace, kernels: Ints, launcher: Ints) -> None:
    early = trace.start[launcher[kernels]] - trace.start[kernels]
    wrong = early > CLOCK_NS
    if wrong.sum() > CLOCK_SHARE * len(kernels):
        raise RidgepointError(
            "bad_trace",
            f"host and device of {trace.title} have different clocks: {int(wrong.sum()):,} of {len(kernels):,} kernels "
            f"start before they were launched, by up to {early.max() * 1e-6:.3g} ms",
            "record it again with a longer warm-up, or one device at a time",
        )
    host, device = trace.role <= CALL, trace.on_device
    if not len(kernels) and np.any(host) and np.any(device):
        apart = max(
            int(trace.start[device].min() - trace.end[host].max()),
            int(trace.start[host].min() - trace.end[device].max()),
        )
        length = int(np.ptp(trace.start[host]) + np.ptp(trace.start[device]))
        if apart > max(length, 1_000_000_000):
            raise RidgepointError(
                "bad_trace",
                f"host and device of {trace.title} have different clocks: their events lie {apart * 1e-9:.3g} s apart",
                "record both with one profiler",
            )


def outlasting_ns(trace: Trace, launcher: Ints) -> int:
    """By how much a kernel ends after a call that had waited for everything its device was given, at most.

    More than the noise of two clocks tells that the device's is late, which no launch can tell. Looked for on single devices.
    """
    waits = [i for i, name in enumerate(trace.names) if name.endswith("DeviceSynchronize")]
    calls = np.flatnonzero((trace.role == CALL) & np.isin(trace.name, waits))
    kernels = np.flatnonzero(launcher >= 0)
    if not len(calls) or not len(kernels) or len(np.unique(trace.device[kernels])) > 1:
        return 0
    kernels = kernels[np.argsort(trace.end[launcher[kernels]], kind="stable")]
    given = np.searchsorted(trace.end[launcher[kernels]], trace.start[calls], side="right")
    last = np.concatenate(([trace.begin], np.maximum.accumulate(trace.end[kernels])))
    return int(np.maximum(last[given] - trace.end[calls], 0).max())


def idle(trace: Trace, kernels: Ints, busy: Set, launcher: Ints) -> Idle:
    """Why the device of ``kernels``, which is busy at ``busy``, was idle between the trace's begin and end."""
    start, end = gaps(busy, trace.begin, trace.finish)
    called = np.where(launcher[kernels] >= 0, trace.start[launcher[kernels]], np.iinfo(np.int64).max)
    kernels = kernels[np.lexsort((called, trace.start[kernels]))]
    place = np.searchsorted(trace.start[kernels], end)
    last = place == len(kernels)
    after = kernels[np.minimum(place, len(kernels) - 1)]
    unknown = (launcher[after] < 0) & ~last
    known = ~last & ~unknown
    whole = end - start
    late = np.clip(trace.start[launcher[after]] - start, 0, whole)
    queued = known & (trace.start[launcher[after]] < start)
    return Idle(
        host=int(late[known].sum()),
        launch=int((whole - late)[known & ~queued].sum()),
        queued=int(whole[queued].sum()),
        unknown=int(whole[unknown].sum()),
        end=int(whole[last].sum()),
    )


def stretches(trace: Trace, kernels: Ints, launcher: Ints) -> list[Stretch]:
    """The launch-bound stretches of one device, in order of time."""
    kernels = kernels[np.lexsort((trace.end[kernels], trace.start[kernels]))]
    if not len(kernels):
        return []
    free = np.concatenate(([trace.begin], np.maximum.accumulate(trace.end[kernels])[:-1]))
    known = launcher[kernels] >= 0
    late = known & (trace.start[launcher[kernels]] >= free) & (trace.start[kernels] > free)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], late, [False])).astype(np.int8)))
    found = []
    for first, stop in edges.reshape(-1, 2).tolist():
        if stop - first < SHORTEST_STRETCH:
            continue
        members = kernels[first:stop]
        begin, end = int(free[first]), int(trace.end[members].max())
        busy = int((trace.end[members] - trace.start[members]).sum())
        if end - begin - busy >= IDLE_SHARE * (end - begin):
            found.append(Stretch(begin, end, int(members[0]), stop - first, busy))
    return found
