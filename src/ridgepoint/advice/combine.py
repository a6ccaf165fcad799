"""Techniques together: a greedy waterfall with its diminishing returns, and every compatible set of the best few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ridgepoint.advice.objective import Objective, gain
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

    Where the baseline does not fit, what fits comes first.
    """
    alone = {r.technique.name: gain(objective, baseline, r.changed) for r in remedies}
    left = [r for r in remedies if alone[r.technique.name] > 1.0 or r.fits > bool(baseline.memory.fits)][:CANDIDATES]
    steps: list[Step] = []
    now = baseline
    while left and len(steps) < STEPS:
        tried = [attempt(baseline, now.scenario, r.technique.written(r.given), limits) for r in left]
        left = [r for r, result in zip(left, tried, strict=True) if result.applies]
        options = [(_better(objective, now, r.changed), r) for r in tried if r.applies]
        if not options:
            break
        (_, further), best = max(options, key=lambda option: option[0])
        makes_fit = best.fits and not bool(now.memory.fits)
        if further < WORTH and not makes_fit:
            break
        steps.append(Step(best, alone[best.technique.name], further))
        now = best.changed
        left = [r for r in left if not conflict(r.technique, best.technique)]
    return steps


def _better(objective: Objective, now: Estimate, then: Estimate) -> tuple[bool, float]:
    """A key that puts what makes a run fit first, and then the gain."""
    return bool(then.memory.fits) > bool(now.memory.fits), gain(objective, now, then)


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
    return sorted(found, key=lambda c: (not bool(c.estimate.memory.fits), -c.gain))
