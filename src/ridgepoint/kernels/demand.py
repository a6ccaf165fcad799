"""Demand: how long an op would hold each resource, and how those times combine into one (design §3).

A kernel model answers with a ``Demand``: phases one after the other, each a table resource → seconds. Within a phase the
resources work side by side, imperfectly:

    t = (Σ_r t_r^p)^(1/p)          p = sharpness; ∞ gives the plain maximum of the roofline

This is homogeneous of degree one in the t_r, so by Euler's theorem the parts t·(t_r/t)^p sum to t: they are what each
resource is responsible for, and their fractions are the elasticities of the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ridgepoint.numeric import Array, Num, Partition, plain

Seconds = Mapping[str, Num]


@dataclass(frozen=True)
class Phase:
    """Resource → seconds that work side by side; ``sharpness`` is 1, 2, 4, 8 or infinity."""

    seconds: Seconds
    sharpness: float = math.inf


@dataclass(frozen=True)
class Demand:
    """What a kernel model answers: phases in a row, and what the estimate should say about them.

    With ``alternatives`` the arrays' leading axis lists ways to run the op (tiles, algorithms); the fastest is taken.
    ``notes`` are assumptions worth telling (a format that the machine lacks); ``arithmetic`` is the (engine, format) that
    computes. ``spread`` takes results for the distinct shapes of a sweep back to all its points.
    """

    phases: tuple[Phase, ...]
    alternatives: bool = False
    notes: tuple[str, ...] = ()
    arithmetic: tuple[str, str] | None = None
    spread: Partition | None = None


@dataclass(frozen=True)
class Timing:
    """Time, seconds each resource is busy, and the part of the time that each resource is responsible for."""

    time_s: Num
    busy_s: dict[str, Num] = field(default_factory=dict)
    critical_s: dict[str, Num] = field(default_factory=dict)
    partition: Partition | None = None
    """Where it is given, the numbers are those of its groups, not of all points of the sweep."""

    def everywhere(self) -> Timing:
        """The same at all points of the sweep."""
        spread = self.partition
        if spread is None:
            return self
        return Timing(
            spread(self.time_s),
            {r: spread(t) for r, t in self.busy_s.items()},
            {r: spread(t) for r, t in self.critical_s.items()},
        )


def settle(demand: Demand, speed: Mapping[str, float] | None = None) -> Timing:
    """The timing of ``demand`` when resource r is ``speed[r]`` times as fast as described (default 1; infinity allowed).

    >>> timing = settle(Demand((Phase({"matrix": 3.0, "hbm": 4.0}), Phase({"launch": 1.0}))))
    >>> timing.time_s, timing.critical_s
    (5.0, {'matrix': 0.0, 'hbm': 4.0, 'launch': 1.0})
    >>> settle(Demand((Phase({"matrix": 3.0, "hbm": 4.0}, sharpness=2),))).time_s
    5.0
    """
    timing = _in_sequence([_settle_phase(phase, speed or {}) for phase in demand.phases])
    if demand.alternatives:
        timing = _fastest(timing)
    return timing if demand.spread is None else replace(timing, partition=demand.spread).everywhere()


def seconds(demand: Demand, speed: Mapping[str, float] | None = None) -> Num:
    """The time of ``settle`` alone, to the last bit, without what each resource does in it.

    >>> seconds(Demand((Phase({"matrix": 3.0, "hbm": 4.0}), Phase({"launch": 1.0}))))
    5.0
    """
    times = [_phase_seconds(phase, speed or {}) for phase in demand.phases]
    time: Num = sum(times[1:], times[0])
    if demand.alternatives:
        least = np.min(time, axis=0)
        time = float(least) if least.ndim == 0 else least
    return time if demand.spread is None else demand.spread(time)


def _phase_seconds(phase: Phase, speed: Mapping[str, float]) -> Num:
    busy = [t / speed[r] if r in speed else t for r, t in phase.seconds.items()]
    if len(busy) == 1:
        return busy[0]
    if math.isinf(phase.sharpness):
        longest: Num = 0.0
        for t in busy:
            longest = np.maximum(longest, t)
        return plain(longest)
    doublings = round(math.log2(phase.sharpness))
    for _ in range(doublings):
        busy = [t * t for t in busy]
    time: Num = sum(busy)
    for _ in range(doublings):
        time = np.sqrt(time)
    return plain(time)


def _settle_phase(phase: Phase, speed: Mapping[str, float]) -> Timing:
    busy = {r: t / speed[r] if r in speed else t for r, t in phase.seconds.items()}
    if len(busy) == 1:
        ((resource, t),) = busy.items()
        return Timing(t, busy, {resource: t})
    if math.isinf(phase.sharpness):
        return _hard_maximum(busy)
    return _soft_maximum(busy, phase.sharpness)


def _hard_maximum(busy: dict[str, Num]) -> Timing:
    if all(isinstance(t, float) for t in busy.values()):
        leader = max(busy, key=lambda r: busy[r])
        return Timing(busy[leader], busy, {r: t if r == leader else 0.0 for r, t in busy.items()})
    time: Num = 0.0
    for t in busy.values():
        time = np.maximum(time, t)
    critical: dict[str, Num] = {}
    left: Num = np.ones_like(time)  # the first of equals is responsible
    for resource, t in busy.items():
        leads = np.where(np.asarray(t) >= time, left, 0.0)
        critical[resource] = plain(leads * time)
        left = left - leads
    return Timing(plain(time), busy, critical)


def _soft_maximum(busy: dict[str, Num], sharpness: float) -> Timing:
    doublings = round(math.log2(sharpness))
    powers = {}
    for resource, t in busy.items():
        for _ in range(doublings):
            t = t * t
        powers[resource] = t
    total: Num = sum(powers.values())
    time: Num = total
    for _ in range(doublings):
        time = np.sqrt(time)
    scale = time / np.maximum(total, 1e-300)
    return Timing(plain(time), busy, {r: plain(power * scale) for r, power in powers.items()})


def _in_sequence(timings: list[Timing]) -> Timing:
    if len(timings) == 1:
        return timings[0]
    busy: dict[str, Num] = {}
    critical: dict[str, Num] = {}
    for timing in timings:
        for resource, t in timing.busy_s.items():
            busy[resource] = busy[resource] + t if resource in busy else t
        for resource, t in timing.critical_s.items():
            critical[resource] = critical[resource] + t if resource in critical else t
    time: Num = sum((t.time_s for t in timings[1:]), timings[0].time_s)
    return Timing(time, busy, critical)


def _fastest(timing: Timing) -> Timing:
    """Along the leading axis the alternative with the least time, for every point."""
    time = np.asarray(timing.time_s)
    best = np.argmin(time, axis=0)
    if time.ndim == 1:
        index = int(best)

        def pick(value: Num) -> Num:
            return float(value[index if len(value) > 1 else 0]) if isinstance(value, np.ndarray) else value
    else:
        where = np.expand_dims(best, 0)

        def pick(value: Num) -> Num:
            if not isinstance(value, np.ndarray):
                return value
            if value.shape[0] == 1:
                return np.broadcast_to(value[0], best.shape)
            full = np.broadcast_to(value, time.shape)
            picked: Array = np.take_along_axis(full, where, axis=0)[0]
            return picked

    return Timing(
        pick(timing.time_s),
        {r: pick(t) for r, t in timing.busy_s.items()},
        {r: pick(t) for r, t in timing.critical_s.items()},
    )
