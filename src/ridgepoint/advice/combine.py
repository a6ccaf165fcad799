"""Techniques together: a greedy waterfall with its diminishing returns, and every compatible set of the best few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ridgepoint.advice.objective import Objective, gain, merit
from ridgepoint.advice.remedies import Limits, Remedy, attempt
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.techniques.registry import applied
from ridgepoint.techniques.technique import conflict

WORTH = 1.02
"""A further step that brings less is not worth its trouble."""
STEPS = 6
CANDIDATES = 20
"""So many of the best remedies take part in the waterfall."""
EXHAUSTIVE = 5
"""Of so many best remedies every set is tried."""


@dataclass(frozen=True)
class Step:
    """One bar of the waterfall: the technique added, and the estimate with all so far."""

    remedy: Remedy
    alone: float
    """Its gain without the others."""
    gain: float
    """Its gain on top of the others."""


@dataclass(frozen=True)
class Combination:
    """Compatible techniques applied together."""

    techniques: tuple[str, ...]
    estimate: Estimate
    gain: float


def waterfall(baseline: Estimate, remedies: Sequence[Remedy], objective: Objective, limits: Limits) -> list[Step]:
    """The best technique, then the best on top of it, and so on while one brings at least 2 %.

    Until it fits, the steps that count are those towards fitting (``merit``).
    """
    alone = {r.technique.name: gain(objective, baseline, r.changed) for r in remedies}
    left = list(remedies[:CANDIDATES])
    steps: list[Step] = []
    now, given = baseline, baseline.scenario
    taken: list[str] = []
    while left and len(steps) < STEPS:
        tried = [attempt(baseline, given, r.technique.written(r.given), limits, taken) for r in left]
        left = [r for r, result in zip(left, tried, strict=True) if result.applies]
        options = [(merit(objective, now, r.changed), r) for r in tried if r.applies]
        if not options:
            break
        (fits, better), best = max(options, key=lambda option: option[0])
        fitted = bool(now.memory.fits)
        if (better < WORTH and fits == fitted) or fits < fitted:
            break
        steps.append(Step(best, alone[best.technique.name], gain(objective, now, best.changed)))
        now = best.changed
        taken.append(best.technique.written(best.given))
        left = [r for r in left if not conflict(r.technique, best.technique)]
    return steps


def compatible_sets(
    baseline: Estimate, remedies: Sequence[Remedy], objective: Objective, limits: Limits
) -> list[Combination]:
    """Every set of two or more of the best remedies that can be applied together, best first."""
    found = []
    for size in range(2, EXHAUSTIVE + 1):
        for chosen in combinations(remedies[:EXHAUSTIVE], size):
            if any(conflict(a.technique, b.technique) for a, b in combinations(chosen, 2)):
                continue
            texts = tuple(r.technique.written(r.given) for r in chosen)
            try:
                est = Estimate(applied(baseline.scenario, texts), baseline.strict, baseline.mode)
            except RidgepointError:  # one of them does not apply after another
                continue
            if not limits.broken_by(est):
                found.append(Combination(texts, est, gain(objective, baseline, est)))
    return sorted(found, key=lambda c: merit(objective, baseline, c.estimate), reverse=True)
