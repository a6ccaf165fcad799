"""Every technique tried on a scenario: what it brings, what it costs in memory and quality, or why it does not apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ridgepoint.advice.objective import Objective, merit
from ridgepoint.cost.evaluate import Cost
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import NORMAL_90, Estimate
from ridgepoint.scenario import Scenario
from ridgepoint.techniques.registry import applied, parse
from ridgepoint.techniques.technique import GRADES, Technique


@dataclass(frozen=True)
class Limits:
    """What a remedy must respect. Times in seconds, memory in bytes per device; ``quality`` is the worst grade allowed."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    memory_bytes: float | None = None
    quality: str = "near"
    training_free: bool = False

    def allows(self, found: Technique) -> str:
        """Empty, or why the technique is not wanted."""
        worst = GRADES[-1] if self.quality == "any" else self.quality
        if GRADES.index(found.grade) > GRADES.index(worst):
            return f"answers may change ({found.grade}); --quality any allows it"
        if self.training_free and not found.training_free:
            return "it needs training"
        return ""

    def broken_by(self, est: Estimate) -> str:
        """Empty, or the limit that an estimate exceeds."""
        checks = (
            ("TTFT", est.ttft_s, self.ttft_s, "s"),
            ("TPOT", est.tpot_s, self.tpot_s, "s"),
            ("memory", est.memory.total_bytes, self.memory_bytes, "B"),
        )
        for name, value, limit, unit in checks:
            if limit is not None and value is not None and float(value) > limit:
                return f"{name} of {float(value):.3g} {unit} exceeds {limit:.3g} {unit}"
        return ""


@dataclass(frozen=True)
class Remedy:
    """A technique applied to the baseline (and to what came before it, in a combination), or the reason why not."""

    technique: Technique
    baseline: Estimate
    after: Estimate | None
    reason: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def applies(self) -> bool:
        """Whether there is an estimate."""
        return self.after is not None

    @property
    def parameters(self) -> dict[str, Any]:
        """The values that it was tried with."""
        return self.technique.values(self.given)

    @cached_property
    def speedup(self) -> float:
        """Time before over time after."""
        return float(self.baseline.time_s / self.changed.time_s)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Nine in ten true speed-ups lie in it: what both runs share errs alike and cancels, what differs does not."""
        spread = change_spread(self.baseline.cost, self.changed.cost)
        width = float(np.exp(NORMAL_90 * spread))
        return self.speedup / width, self.speedup * width

    @cached_property
    def throughput_gain(self) -> float:
        """Samples per second after over before."""
        return float(self.changed.samples_per_s / self.baseline.samples_per_s)

    @cached_property
    def memory_ratio(self) -> float:
        """Bytes on the fullest device after over before."""
        return float(self.changed.memory.total_bytes / self.baseline.memory.total_bytes)

    @property
    def fits(self) -> bool:
        """Whether it fits then."""
        return bool(self.changed.memory.fits)

    @property
    def changed(self) -> Estimate:
        """The estimate with the technique.

        Errors: ``not_applicable`` where there is none.
        """
        if self.after is None:
            raise RidgepointError("not_applicable", f"{self.technique.name} does not apply: {self.reason}")
        return self.after


def change_spread(before: Cost, after: Cost) -> float:
    """Relative spread of a ratio of two times: that of the kernels, on the components that differ.

    A component that is in both runs errs alike in both and cancels; σ ≈ spread · Σ|Δtime| / the longer time.
    """
    old = {(c.label, c.kind): float(np.mean(c.critical_s)) for c in before.components}
    new = {(c.label, c.kind): float(np.mean(c.critical_s)) for c in after.components}
    moved = sum(abs(old.get(key, 0.0) - new.get(key, 0.0)) for key in old.keys() | new.keys())
    longer = max(float(np.mean(before.time_s)), float(np.mean(after.time_s)), 1e-300)
    spread = max(float(np.mean(before.relative_spread)), float(np.mean(after.relative_spread)))
    return spread * min(moved / longer, 1.0)


def attempt(baseline: Estimate, on: Scenario, text: str, limits: Limits, beside: Sequence[str] = ()) -> Remedy:
    """One technique, written as on the command line, applied to ``on`` together with those ``beside`` it."""
    found, given = parse(text)
    unwanted = limits.allows(found)
    if unwanted:
        return Remedy(found, baseline, None, unwanted, given)
    try:
        after = Estimate(applied(on, [*beside, text]), baseline.strict, baseline.mode)
        broken = limits.broken_by(after)
    except RidgepointError as error:
        prefix = f"{found.name} does not apply: "
        return Remedy(found, baseline, None, error.message.removeprefix(prefix), given)
    return Remedy(found, baseline, None if broken else after, broken, given)


def ranked(remedies: Iterable[Remedy], objective: Objective) -> list[Remedy]:
    """Those that apply, best first: what fits before what does not."""
    found = [r for r in remedies if r.applies]
    return sorted(found, key=lambda r: merit(objective, r.baseline, r.changed), reverse=True)
