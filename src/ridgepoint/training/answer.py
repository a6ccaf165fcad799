"""The answer of ``plan_train``: the best layouts, why the first one wins, what the run takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ridgepoint.cost.energy import usd
from ridgepoint.machines.machine import Machine, inbound, outbound
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.models.parameters import total_parameters
from ridgepoint.tasks import Train
from ridgepoint.training.critical_batch import CriticalBatch, critical_batch
from ridgepoint.training.goodput import Goodput
from ridgepoint.training.layouts import LaidOut, unit_of
from ridgepoint.training.scaling import Point

FASTER = 2.0
"""How much faster a resource is made to see what it would bring."""


@dataclass(frozen=True)
class TrainPlan:
    """The answer of ``plan_train``: layouts best first, and how many were searched; ``tokens`` of the whole run are samples
    where a network is trained.
    """

    model: Model | Network
    machine: Machine
    task: Train
    objective: str
    layouts: tuple[LaidOut, ...]
    searched: int
    fitting: int
    tokens: float | None
    goodput: Goodput
    scaling: Mapping[str, list[Point]]
    """Strong and weak scaling, where asked for."""

    @property
    def best(self) -> LaidOut:
        """The first one."""
        return self.layouts[0]

    @property
    def citations(self) -> tuple[str, ...]:
        """What the plan relied on, as its best layout did."""
        return self.best.estimate.citations

    @property
    def unit(self) -> str:
        """What a step works on: tokens or samples."""
        return unit_of(self.model)

    @cached_property
    def critical_batch(self) -> CriticalBatch | None:
        """The batch beyond which more data parallelism is wasted; its law is of language models alone."""
        if isinstance(self.model, Network):
            return None
        return critical_batch(total_parameters(self.model), float(self.task.batch * self.task.seq), self.tokens)

    def run(self, layout: LaidOut) -> dict[str, float | None]:
        """Steps, days, dollars and joules of the whole run under ``layout``, failures included; empty without ``tokens``."""
        if self.tokens is None:
            return {}
        steps = self.tokens / layout.amount
        busy = steps * layout.step_time_s
        whole = busy / self.goodput.fraction
        energy = layout.estimate.energy_j
        return {
            "steps": steps,
            "days": whole / 86400.0,
            "days_without_failures": busy / 86400.0,
            "cost_usd": _number(usd(self.machine, layout.estimate.devices * whole)),
            "energy_j": None if energy is None else float(energy) * steps,
        }

    @cached_property
    def sensitivity(self) -> dict[str, float]:
        """Resource → speed-up of the best layout if it were twice as fast, largest first."""
        cost, now = self.best.estimate.cost, self.best.step_time_s
        both = {inbound(r) for r in cost.shares}  # a faster link is faster in both directions
        found = {r: now / float(cost.timing_at(dict.fromkeys((r, outbound(r)), FASTER)).time_s) for r in both}
        return dict(sorted(((r, gain) for r, gain in found.items() if gain > 1.0005), key=lambda item: -item[1]))

    @property
    def behind(self) -> float:
        """By what part the second layout is worse than the first, in what the objective makes least; 0 where there is none."""
        if len(self.layouts) < 2:
            return 0.0
        return measure(self.layouts[1], self.objective) / measure(self.layouts[0], self.objective) - 1.0

    @cached_property
    def runner_up(self) -> dict[str, float]:
        """Resource → seconds that the second layout spends more on it than the first (less, if negative), largest first."""
        if len(self.layouts) < 2:
            return {}
        one, two = (layout.estimate for layout in self.layouts[:2])
        seconds = {
            r: float(two.shares.get(r, 0.0) * two.time_s - one.shares.get(r, 0.0) * one.time_s)
            for r in {**one.shares, **two.shares}
        }
        return dict(sorted(seconds.items(), key=lambda item: -abs(item[1])))

    def to_dict(self) -> dict[str, Any]:
        """Design §10's document."""
        return {
            "model": self.model.name,
            "machine": self.machine.name,
            "task": {"name": "train", "batch": int(self.task.batch)}
            | ({} if self.unit == "samples" else {"seq": int(self.task.seq)}),
            "objective": self.objective,
            "layouts": [{**layout.to_dict(), "run": self.run(layout) or None} for layout in self.layouts],
            "searched": self.searched,
            "fitting": self.fitting,
            "runner_up": self.runner_up,
            "sensitivity": self.sensitivity,
            "limits": {r: float(gain) for r, gain in self.best.estimate.limits.items()},
            "critical_batch": None if self.critical_batch is None else self.critical_batch.to_dict(),
            "goodput": self.goodput.to_dict(),
            "scaling": {name: [point.to_dict() for point in curve] for name, curve in self.scaling.items()},
            "assumptions": list(self.best.estimate.assumptions),
            "warnings": list(self.best.estimate.warnings),
            "citations": list(self.citations),
        }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def measure(layout: LaidOut, objective: str) -> float:
    """What an objective makes least: seconds, device-seconds or joules of a step."""
    if objective == "cost":
        return layout.step_time_s * float(layout.estimate.devices)
    energy = layout.estimate.energy_j
    return layout.step_time_s if objective == "time" or energy is None else float(energy)
