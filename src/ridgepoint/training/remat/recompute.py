"""``plan_recompute``: what a training step computes again so that it fits into a memory budget, beside the usual rules.

>>> found = plan_recompute("gpt2-xl", on="a100-sxm-40gb", batch=8, seq=1024, memory=39e9, micro_batch=8)
>>> [way.name for way in found.ways if way.fits], found.best.time_s < found.way("full").time_s
(['sqrt', 'full', 'planned'], True)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.captured.file import FAMILY, WorkFile
from ridgepoint.models.networks.captured.kernels import Evaluation, Formats
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario, find
from ridgepoint.tasks import Train
from ridgepoint.tasks.inference import per_replica
from ridgepoint.tasks.memory import usable_fraction
from ridgepoint.tasks.networks import formats_of, network_layout
from ridgepoint.tasks.training import micro_batch
from ridgepoint.training.remat.captured import captured_flow
from ridgepoint.training.remat.exact import SECONDS
from ridgepoint.training.remat.planner import FlowPlan, names, plan_flow

RULES = ("none", "selective", "sqrt", "full")


@dataclass(frozen=True)
class Way:
    """One way to recompute: seconds of the step, bytes on the fullest device, whether that is within the budget."""

    name: str
    time_s: float
    memory_bytes: float
    fits: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "time_s": self.time_s, "memory_gb": self.memory_bytes / 1e9, "fits": self.fits}


@dataclass(frozen=True)
class RecomputePlan:
    """The plan, and the rules beside it. ``again``: (what, how often, seconds of a step, bytes that it frees) of what runs
    again; ``method`` says how it was found. ``flow`` is there for captured steps.
    """

    model: str
    machine: str
    task: Train
    budget_bytes: float
    ways: tuple[Way, ...]
    again: tuple[tuple[str, float, float, float], ...]
    words: str
    method: str
    proved: bool
    flow: FlowPlan | None = None
    tokens: bool = True
    """Whether the model reads sequences of tokens."""
    citations: tuple[str, ...] = ()
    """What the times and sizes relied on."""

    @property
    def best(self) -> Way:
        """The plan itself."""
        return self.way("planned")

    def way(self, name: str) -> Way:
        """One of the ways by name."""
        return next(way for way in self.ways if way.name == name)

    def to_dict(self) -> dict[str, Any]:
        """The document of ``plan recompute``."""
        bound = None if self.flow is None else self.flow.bound_s
        return {
            "model": self.model,
            "machine": self.machine,
            "task": {"name": "train", **{name: float(v) for name, v in self.task.sizes().items()}},
            "memory_gb": self.budget_bytes / 1e9,
            "ways": [way.to_dict() for way in self.ways],
            "again": [{"name": n, "count": c, "time_s": t, "gb": size / 1e9} for n, c, t, size in self.again],
            "plan": self.words,
            "method": self.method,
            "proved": self.proved,
            "flow_time_s": None if self.flow is None else self.flow.best.time_s,
            "flow_bound_s": bound,
            "citations": list(self.citations),
        }


def plan_recompute(
    model: Model | Network | str,
    *,
    on: Machine | str,
    batch: int = 1,
    seq: int | None = None,
    memory: float | None = None,
    exact: bool | None = None,
    seconds: float = SECONDS,
    inputs: Mapping[str, float] | None = None,
    **plan: Any,
) -> RecomputePlan:
    """What a step over ``batch`` samples computes again so that the fullest device holds at most ``memory`` bytes (by default
    what it may use). Fields of a ``Plan`` are given by name.

    A captured step is planned kernel by kernel: exactly where the extra ``search`` is installed and the step is small or
    ``exact`` says so (at most ``seconds`` long), by the heuristic otherwise. Other models are planned op by op for their
    layers, or by blocks.

    Errors: ``does_not_fit`` where nothing is enough, ``bad_option`` for more memory than a device has, and those of names.
    """
    found = find(model) if isinstance(model, str) else model
    machine = find_machine(on) if isinstance(on, str) else on
    usual = dict(found.inputs).get("seq") if isinstance(found, Network) else None
    if seq is not None and usual is None and isinstance(found, Network):
        raise RidgepointError("bad_task", f"{found.name} reads no sequences", "leave --seq out")
    length = seq if seq is not None else usual
    task = Train(batch=batch, inputs=inputs or {}, **({} if length is None else {"seq": length}))
    base = Plan(**{**plan, "recompute": "none"})
    budget = machine.memory_bytes * usable_fraction(base, True) if memory is None else memory
    if not 0.0 < budget <= machine.memory_bytes:
        raise RidgepointError(
            "bad_option",
            f"a budget of {budget / 1e9:,.3g} GB is not possible: {machine.device.name} has {machine.memory_bytes / 1e9:g} GB",
            "give a size up to that, such as --memory 40G",
        )
    base = replace(base, memory_fraction=budget / machine.memory_bytes)
    if isinstance(found, Network) and _is_captured_step(found):
        return _captured(found, machine, task, base, budget, exact, seconds)
    return _parametric(found, machine, task, base, budget)


def _way(name: str, est: Estimate) -> Way:
    return Way(name, float(est.time_s), float(est.memory.total_bytes), bool(est.memory.fits))


def _parametric(model: Model | Network, machine: Machine, task: Train, base: Plan, budget: float) -> RecomputePlan:
    rules = [name for name in RULES if name != "selective" or (isinstance(model, Model) and not base.fused_attention)]
    each = {
        name: Estimate(Scenario(model, machine, task, replace(base, recompute=name))) for name in (*rules, "planned")
    }
    ways = tuple(_way(name, est) for name, est in each.items())
    if not ways[-1].fits:
        lean = min(ways, key=lambda way: way.memory_bytes)
        raise RidgepointError(
            "does_not_fit",
            f"{model.name} needs {lean.memory_bytes / 1e9:,.3g} GB with everything recomputed, not {budget / 1e9:,.3g} GB",
            "take a smaller --micro-batch, a higher --zero, or more tensor or pipeline parallel ranks",
        )
    words = next((t for t in each["planned"].assumptions if "recomputation planned" in t), "")
    again = _difference(each["none"], each["planned"])
    return RecomputePlan(
        model.name,
        machine.name,
        task,
        budget,
        ways,
        again,
        words.partition("recomputation ")[2] or "none",
        "layers",
        True,
        tokens=isinstance(model, Model) or "seq" in dict(model.inputs),
        citations=each["planned"].citations,
    )


def _difference(none: Estimate, planned: Estimate) -> tuple[tuple[str, float, float, float], ...]:
    """Components that run more often under the plan: (label, runs more, seconds more, 0)."""
    before = {c.label: c for c in none.cost.components}
    rows = []
    for component in planned.cost.components:
        known = before.get(component.label)
        more = float(component.count) - (float(known.count) if known is not None else 0.0)
        if more > 1e-9:
            time = float(component.time_s) - (float(known.time_s) if known is not None else 0.0)
            rows.append((component.label, more, time, 0.0))
    return tuple(sorted(rows, key=lambda row: -row[2]))


def _is_captured_step(net: Network) -> bool:
    work: WorkFile | None = net.option("work", None) if net.family == FAMILY else None
    return work is not None and "train" in work.passes and work.passes["train"].backward >= 0


def _captured(
    net: Network, machine: Machine, task: Train, base: Plan, budget: float, exact: bool | None, seconds: float
) -> RecomputePlan:
    """A captured step, kernel by kernel, in what the rest of the ledger leaves."""
    est = Estimate(Scenario(net, machine, task, base))
    work: WorkFile = net.option("work")
    layout = network_layout(net, machine, base)
    whole = base if base.micro_batch is not None else replace(base, micro_batch=per_replica(task.batch, layout))
    size, count = micro_batch(task, whole, layout)
    acts, weights = formats_of(net, base)
    sizes = {**work.sizes, **{k: v for k, v in task.sizes().items() if k in work.sizes}, "batch": size}
    at = Evaluation(work.passes["train"], sizes, Formats(work.format, acts, weights), base.compiled)
    flow = captured_flow(at, lambda op: float(evaluate(op, machine).time_s))
    rest = float(est.memory.total_bytes) - float(est.memory["activations"])
    try:
        found = plan_flow(flow, budget - rest, exact, seconds=seconds)
    except RidgepointError as error:
        if error.kind != "does_not_fit":
            raise
        beside = f"weights, their gradients and states take {rest / 1e9:,.3g} GB of {budget / 1e9:,.3g} GB; "
        raise RidgepointError(error.kind, beside + error.message, f"beside them {error.hint}") from None

    def way(name: str, time_s: float, peak: float) -> Way:
        more = float(count) * (time_s - found.everything.time_s)
        return Way(name, float(est.time_s) + more, rest + peak, rest + peak <= budget)

    runs = (("none", found.everything), ("sqrt", found.square_root), ("planned", found.best))
    ways = tuple(way(name, one.time_s, one.peak_bytes) for name, one in runs)
    again = tuple((name, float(n), t * float(count), s) for name, n, t, s in names(found.recomputed))
    how = {"exact": "CP-SAT", "heuristic": "heuristic", "none": "everything fits"}[found.method]
    return RecomputePlan(
        net.name, machine.name, task, budget, ways, again, f"{len(found.recomputed)} of {flow.turn} forward steps",
        how, found.proved, found, "seq" in dict(net.inputs), est.citations,
    )  # fmt: skip
