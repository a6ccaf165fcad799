"""What one device did: busy and idle time, what of it was computing, communicating or copying, and whose it was.

An instant belongs to one event only: to a kernel that computes before a collective, to either before a copy, and among equals
to the one that started last. So a collective's own time is the part that nothing hides, and own times sum to the busy time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.traces.events import COPY, Trace
from ridgepoint.traces.intervals import Ints, Set, before, length, overlap, union
from ridgepoint.traces.launches import Idle, Stretch, idle, stretches
from ridgepoint.traces.nesting import own_times

COMPUTE, COMMUNICATION, COPYING = range(3)
"""What an event of a device does, in the order of who hides whom."""


@dataclass(frozen=True)
class Device:
    """One device's time, in nanoseconds."""

    number: int
    name: str
    streams: int
    kernels: int
    busy: int
    computing: int
    communicating: int
    copying: int
    hidden: int
    """Communication while the device computed."""
    exposed: tuple[int, int, int]
    """Busy time by what nothing before it hides: computing, communicating, copying."""
    idle: Idle
    stretches: tuple[Stretch, ...]


def classes(trace: Trace, kinds: list[str]) -> Ints:
    """What every event does, given its kind of op."""
    found = [COMMUNICATION if k == "collective" else COPYING if k == "transfer" else COMPUTE for k in kinds]
    doing = np.array(found, dtype=np.int64)
    # Copies within a device use the memory as kernels do, but they are no computation to hide anything.
    return np.where(trace.role == COPY, np.maximum(doing, COPYING), doing)


def device(trace: Trace, number: int, doing: Ints, launcher: Ints, own: Ints) -> Device:
    """The device ``number``; the own times of its events are put into ``own``."""
    events = np.flatnonzero(trace.device == number)
    sets = [union(trace.start[mine], trace.end[mine]) for mine in (events[doing[events] == c] for c in range(3))]
    covered = _joined()
    exposed = []
    for which, own_set in enumerate(sets):
        mine = events[doing[events] == which]
        start, end = (t - before(covered, t) for t in (trace.start[mine], trace.end[mine]))
        own[mine] = own_times(start, end)
        joined = _joined(covered, own_set)
        exposed.append(length(joined) - length(covered))
        covered = joined
    return Device(
        number=number,
        name=trace.devices[number] if number < len(trace.devices) else f"device {number}",
        streams=len(np.unique(trace.lane[events])),
        kernels=len(events),
        busy=length(covered),
        computing=length(sets[COMPUTE]),
        communicating=length(sets[COMMUNICATION]),
        copying=length(sets[COPYING]),
        hidden=overlap(sets[COMPUTE], sets[COMMUNICATION]),
        exposed=(exposed[0], exposed[1], exposed[2]),
        idle=idle(trace, events, covered, launcher),
        stretches=tuple(stretches(trace, events, launcher)),
    )


def _joined(*sets: Set) -> Set:
    empty = np.zeros(0, dtype=np.int64)
    return union(np.concatenate([empty, *(s[0] for s in sets)]), np.concatenate([empty, *(s[1] for s in sets)]))
