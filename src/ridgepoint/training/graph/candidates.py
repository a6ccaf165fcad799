"""Ways to run one call of a graph: layouts with their time, what they need while they run and what stays when they are done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Experts, Model
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario
from ridgepoint.tasks import Forward, Generate, Task, Train
from ridgepoint.tasks.layout import takes
from ridgepoint.training.divisors import divisors
from ridgepoint.training.graph.graph import Call
from ridgepoint.training.search import Ranked, frontier
from ridgepoint.training.space import base_plan, sweeps

LEANER = 0.95
"""Memory of one layout over that of the next faster one, above which the slower one is not worth a look."""
WAVES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Parts that a batch may be generated or scored in, one after the other."""
STAYS = ("weights", "adapters", "gradients", "optimizer")
"""Entries of a training ledger that stay between calls."""


@dataclass(frozen=True)
class Candidate:
    """One way to run a call. ``times``: how often the estimate's task is done in a call (waves or optimizer steps)."""

    estimate: Estimate
    times: int

    @property
    def time_s(self) -> float:
        """Seconds of the whole call."""
        return float(self.estimate.time_s) * self.times

    @property
    def peak_bytes(self) -> float:
        """Bytes on the fullest device while it runs."""
        return float(self.estimate.memory.total_bytes)

    @property
    def weight_bytes(self) -> float:
        """Bytes of the weights on one device."""
        return float(self.estimate.memory["weights"])

    @property
    def stay_bytes(self) -> float:
        """Bytes that stay on one device when another model is called."""
        return float(sum(size for name, size in self.estimate.memory.entries.items() if name in STAYS))

    @property
    def runtime_bytes(self) -> float:
        """Driver and libraries, which all calls of a device share."""
        return float(self.estimate.memory.entries.get("runtime", 0.0))

    def degree(self, name: str) -> int:
        """``tp``, ``pp``, ``dp``, ``ep`` or ``cp``."""
        return int(getattr(self.estimate.built.layout, name))

    @property
    def stage(self) -> int:
        """The ZeRO stage."""
        return int(float(self.estimate.scenario.plan.zero_stage))

    @property
    def pieces(self) -> int:
        """Parts that the weights are cut into: each device holds one."""
        shards = self.degree("dp") * self.degree("cp") if self.stage == 3 else 1
        return self.degree("tp") * self.degree("pp") * shards


def candidates(call: Call, model: Model, machine: Machine, usable_bytes: float) -> list[Candidate]:
    """Ways to run the call, fastest first; none of them is slower and needs more than another.

    Errors: ``does_not_fit`` where not even the leanest way fits an empty device; those of plans.
    """
    found = list((_trained if call.kind == "train" else _inferred)(call, model, machine, usable_bytes))
    best = _undominated([one for one in found if one.peak_bytes <= usable_bytes and _tiers_hold(one)])
    if not best:
        least = min((one.peak_bytes for one in found), default=float("inf"))
        need = f"needs {least / 1e9:.1f} GB" if np.isfinite(least) else "has no layout"
        raise RidgepointError(
            "does_not_fit",
            f"{call.name}: {model.name} {need} of the {usable_bytes / 1e9:.1f} GB that may be used per device of "
            f"{machine.name}",
            "give it more devices, or fix offload in the plan of this call",
        )
    return best


def _tiers_hold(one: Candidate) -> bool:
    """Whether what lies behind the device's memory fits there."""
    memory = one.estimate.memory
    return all(float(memory.kept_in(tier)) <= room for tier, room in memory.rooms.items())


def _undominated(found: list[Candidate]) -> list[Candidate]:
    """Fastest first; each further one needs or keeps less memory than all before it."""
    kept: list[Candidate] = []
    for one in sorted(found, key=lambda c: (c.time_s, c.peak_bytes)):
        if all(one.peak_bytes < other.peak_bytes or one.stay_bytes < other.stay_bytes for other in kept):
            kept.append(one)
    return kept


def _trained(call: Call, model: Model, machine: Machine, usable_bytes: float) -> Iterator[Candidate]:
    """The layouts of a step of which none is both faster and leaner, by ZeRO stage."""
    task = Train(batch=call.batch // call.steps, seq=call.seq)
    base = base_plan(call.plan)
    space = sweeps(model, machine, call.batch // call.steps, call.seq, call.plan)
    for ranked in _thinned(frontier(model, machine, task, base, space, usable_bytes)):
        yield Candidate(Estimate(Scenario(model, machine, task, replace(base, **ranked.plan))), call.steps)


def _thinned(front: list[Ranked]) -> list[Ranked]:
    """Of every stage's front the fastest layout, and each further one that needs ``LEANER`` of the one before or less."""
    kept: list[Ranked] = []
    for stage in sorted({ranked.plan["zero_stage"] for ranked in front}):
        last = float("inf")
        for ranked in front:
            if ranked.plan["zero_stage"] == stage and ranked.memory_bytes <= LEANER * last:
                kept.append(ranked)
                last = ranked.memory_bytes
    return kept


def _inferred(call: Call, model: Model, machine: Machine, usable_bytes: float) -> Iterator[Candidate]:
    """Every tensor and expert parallel degree, replicas on the rest of the devices, the batch in waves."""
    fixed = {name: value for name, value in call.plan.items() if value is not None}
    for degrees in _degrees(model, machine, fixed):
        for waves in WAVES:
            if waves > call.batch:
                break
            size = -(-call.batch // waves)
            one = Candidate(_estimate(call, model, machine, Plan(**{**fixed, **degrees}), size), waves)
            yield one
            if one.peak_bytes <= 0.25 * usable_bytes:
                break  # further waves save nothing that is scarce


def _estimate(call: Call, model: Model, machine: Machine, plan: Plan, batch: int) -> Estimate:
    task: Task = Forward(batch=batch, seq=call.seq)
    if call.kind == "generate":
        task = Generate(batch=batch, prompt=call.prompt, output=call.output)
    return Estimate(Scenario(model, machine, task, plan))


def _degrees(model: Model, machine: Machine, fixed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Tensor parallel inside a node, stages where that is not enough, and all experts over one or all replicas."""
    per_node = machine.devices_per_node
    counts = {layer.feed.count for layer, _ in model.main.layers if isinstance(layer.feed, Experts)}
    for pp in _tried(fixed.get("pp"), [1, *(p for p in (2, 4, 8) if p <= model.main.depth)]):
        for tp in _tried(fixed.get("tp"), [t for t in divisors(per_node) if takes(model, t)]):
            if machine.devices % (tp * pp) or (pp > 1 and tp < per_node and "pp" not in fixed):
                continue
            dp = machine.devices // (tp * pp)
            wide = [tp, tp * dp] if counts else [1]
            for ep in _tried(fixed.get("ep"), sorted({e for e in wide if all(count % e == 0 for count in counts)})):
                yield {"tp": tp, "pp": pp, "dp": dp, "ep": ep}


def _tried(given: Any, values: list[int]) -> list[int]:
    return values if given is None else [int(given)]
