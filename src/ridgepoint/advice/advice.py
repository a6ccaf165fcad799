"""``advise``: the bottleneck, ranked remedies, combinations, and hardware that would do as much (design §6).

>>> import ridgepoint as rp
>>> found = rp.advise("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=1, context=4096), quality="any")
>>> found.baseline.bottleneck
'hbm'
>>> all(remedy.speedup > 0 for remedy in found.remedies)
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Any

from ridgepoint.advice.combine import Combination, Step, compatible_sets, waterfall
from ridgepoint.advice.hardware import FasterPart, OtherMachine, faster_parts, other_machines
from ridgepoint.advice.objective import Objective, find_objective, gain, merit
from ridgepoint.advice.remedies import Limits, Remedy, attempt, ranked
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario, scenario
from ridgepoint.tasks import Task
from ridgepoint.techniques.registry import applied, techniques

QUALITIES = ("exact", "near", "any")
HELPS = 1.005
"""A remedy helps from half a per cent on."""


@dataclass(frozen=True)
class Advice:
    """Everything that was tried on a scenario; combinations and hardware are computed when first read."""

    baseline: Estimate
    objective: Objective
    limits: Limits
    tried: tuple[Remedy, ...]

    @cached_property
    def remedies(self) -> tuple[Remedy, ...]:
        """What helps whatever the workload, best first; what makes a run fit that does not is first of all."""
        return tuple(r for r in self._helping if not r.technique.presumes)

    @cached_property
    def presuming(self) -> tuple[Remedy, ...]:
        """What helps only a workload of which the scenario says nothing, best first."""
        return tuple(r for r in self._helping if r.technique.presumes)

    @cached_property
    def _helping(self) -> tuple[Remedy, ...]:
        found = ranked(self.tried, self.objective)
        return tuple(r for r in found if self._helps(r))

    def _helps(self, remedy: Remedy) -> bool:
        """Whether it gains; beside a baseline that does not fit, whether it makes it fit or takes less memory."""
        fits, better = merit(self.objective, self.baseline, remedy.changed)
        return better >= HELPS or fits > bool(self.baseline.memory.fits)

    @cached_property
    def useless(self) -> tuple[Remedy, ...]:
        """What applies and does not help, best first."""
        chosen = {r.technique.name for r in self._helping}
        return tuple(r for r in ranked(self.tried, self.objective) if r.technique.name not in chosen)

    @cached_property
    def refused(self) -> tuple[Remedy, ...]:
        """What does not apply, with its reasons, by name."""
        return tuple(r for r in self.tried if not r.applies)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The greedy waterfall."""
        return tuple(waterfall(self.baseline, self.remedies, self.objective, self.limits))

    @cached_property
    def combinations(self) -> tuple[Combination, ...]:
        """Sets of the best remedies that can be applied together, best first."""
        return tuple(compatible_sets(self.baseline, self.remedies, self.objective, self.limits))

    @cached_property
    def faster_parts(self) -> tuple[FasterPart, ...]:
        """Parts of the machine, each twice as fast."""
        return tuple(faster_parts(self.baseline))

    @cached_property
    def other_machines(self) -> tuple[OtherMachine, ...]:
        """Faster machines of the same kind and size."""
        return tuple(other_machines(self.baseline))

    @cached_property
    def citations(self) -> tuple[str, ...]:
        """What the advice relied on: of the baseline, and of everything that helps."""
        found = [remedy.changed.reliance for remedy in self._helping]
        return reduce(or_, found, self.baseline.reliance).lines

    def gain(self, remedy: Remedy) -> float:
        """How many times better the objective gets."""
        return gain(self.objective, self.baseline, remedy.changed)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of design §10."""
        from ridgepoint.advice.document import document

        return document(self)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        from ridgepoint.report.notebook import advice_html

        return advice_html(self)


def advise(
    model: Model | Network | str,
    *,
    on: Machine | str,
    task: Task | str | None = None,
    plan: Plan | None = None,
    apply: Sequence[str] = (),
    objective: str = "latency",
    quality: str = "near",
    training_free: bool = False,
    ttft_s: float | None = None,
    tpot_s: float | None = None,
    memory_bytes: float | None = None,
) -> Advice:
    """Techniques that would lift the limit of a scenario, tried one by one.

    ``objective``: latency, throughput, cost, energy or memory. ``quality``: ``exact`` allows the same answers only, ``near``
    also what is reported as close, ``any`` everything. A remedy must keep the limits that are given.

    Errors: those of ``estimate``; ``bad_sweep`` for arrays: advice is for one scenario.
    """
    given = scenario(model, on, task, plan)
    limits = Limits(ttft_s, tpot_s, memory_bytes, quality, training_free)
    return advice(applied(given, apply) if apply else given, objective, limits)


def advice(given: Scenario, objective: str = "latency", limits: Limits | None = None) -> Advice:
    """Every technique tried on ``given``.

    Errors: ``bad_sweep`` for arrays; ``bad_quality``; ``unknown_objective``.
    """
    kept = limits if limits is not None else Limits()
    if kept.quality not in QUALITIES:
        raise RidgepointError("bad_quality", f"quality is '{kept.quality}'", "use one of " + ", ".join(QUALITIES))
    if given.shape:
        raise RidgepointError(
            "bad_sweep", "advice is for one scenario, not for a sweep", "give one value for each size"
        )
    wanted = find_objective(objective)
    baseline = Estimate(given)
    gain(wanted, baseline, baseline)  # says at once where a machine has no price or power
    return Advice(baseline, wanted, kept, tuple(attempt(baseline, given, name, kept) for name in techniques()))
