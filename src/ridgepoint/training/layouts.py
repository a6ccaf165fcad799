"""One training layout in figures: utilization, bubble, exposed communication, memory, energy and money."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ridgepoint.cost.combine import combine
from ridgepoint.estimates import Estimate
from ridgepoint.kernels.demand import settle
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.ops import Attention, Conv, Gemm, Scan
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario
from ridgepoint.tasks import Train
from ridgepoint.tasks.activations import recompute_words
from ridgepoint.tasks.anatomy import SINGLE, counted
from ridgepoint.tasks.inference import forward_work
from ridgepoint.tasks.layout import execution
from ridgepoint.tasks.networks import formats_of, forward_tape, input_sizes
from ridgepoint.training.neighbours import Placed, placed
from ridgepoint.work import Pipeline, Work, walk

WAITING = ("link_latency", "network_latency")


PASSES = {"full": 3.0, "lora": 2.0, "zeroth_order": 2.0}
"""Forward passes' worth of products that a step needs, by what is trained: gradients of the inputs and of the weights take one
each; those of frozen weights are not there, and a zeroth-order step has two forward passes.
"""


def model_flop(model: Model | Network, task: Train, trainable: str = "full", layers: float = 1.0) -> float:
    """Matrix operations of the step that the model itself needs: three times the forward pass (``PASSES``; the backward pass of
    the part of the ``layers`` that train), nothing recomputed, causal pairs only (the convention of MFU: Chowdhery et al. 2022,
    with the mask's pairs).

    >>> from ridgepoint.models.catalog import find_model
    >>> round(model_flop(find_model("llama-3.1-8b"), Train(batch=1, seq=8192)) / 8192 / 8.03e9, 2)
    6.41
    """
    if isinstance(model, Network):
        work = forward_tape(model, Plan(), 1.0, dict(input_sizes(model, task)), "train").work
    else:
        run, _ = execution(model, Plan(weights="bf16"), SINGLE, True)
        work = forward_work(model, run, SINGLE, 1.0, task.seq)
    forward = counted(work, 1.0)
    matrix = sum(
        n * float(rules_of(op).flop(op)) for op, n in forward if isinstance(op, Gemm | Attention | Scan | Conv)
    )
    return (1.0 + (PASSES[trainable] - 1.0) * layers) * matrix * float(task.batch)


@dataclass(frozen=True)
class LaidOut:
    """A step under one layout: its estimate, and what a planner asks besides."""

    model: Model | Network
    task: Train
    estimate: Estimate

    @property
    def plan(self) -> Plan:
        """How it is run."""
        return self.estimate.scenario.plan

    @property
    def machine(self) -> Machine:
        """Where."""
        return self.estimate.scenario.machine

    @property
    def step_time_s(self) -> float:
        """Expected seconds of a step."""
        return float(self.estimate.time_s)

    @property
    def tokens(self) -> float:
        """Tokens of a step that are data."""
        return float(self.estimate.built.tokens)

    @property
    def amount(self) -> float:
        """Tokens of a step that are data, or samples of a network."""
        return float(self.task.batch) if isinstance(self.model, Network) else self.tokens

    @property
    def needed_bytes(self) -> float:
        """Bytes on the fullest device; infinity where a tier behind its memory is too small."""
        memory = self.estimate.memory
        held = all(float(memory.kept_in(tier)) <= room for tier, room in memory.rooms.items())
        return self.memory_bytes if held else float("inf")

    @cached_property
    def mfu(self) -> float:
        """Model FLOP per second over the peak of all devices in the format that products read. Where sequences differ in
        length, padding is no work of the model, and every token of data counts as in a whole sequence.
        """
        if isinstance(self.model, Network):
            inputs, data = formats_of(self.model, self.plan)[0], 1.0
        else:
            run, _ = execution(self.model, self.plan, self.estimate.built.layout, True)
            inputs, data = run.formats.inputs, self.tokens / float(self.task.batch * self.task.seq)
        peak = self.machine.arithmetic(inputs).flop_per_s * float(self.estimate.devices)
        return data * self._flop / self.step_time_s / peak

    @cached_property
    def _flop(self) -> float:
        part = 1.0 if self.plan.trainable == "zeroth_order" else float(self.plan.trained_layers)
        return model_flop(self.model, self.task, self.plan.trainable, part)

    @cached_property
    def bubble(self) -> float:
        """Part of the step in which the mean device waits for other stages: filling, draining, uneven stages, messages."""
        pipelines = [node for node in walk(self.estimate.work) if isinstance(node, Pipeline)]
        if not pipelines:
            return 0.0
        (pipeline,) = pipelines
        demands = self.estimate.cost.demands

        def seconds(node: Work) -> float:
            return float(combine(node, lambda op: settle(demands[id(op)])).time_s)

        devices = sum(float(stage.count) for stage in pipeline.stages)
        mean = sum(
            float(stage.count) * seconds(part)
            for stage in pipeline.stages
            for part in (stage.forward, stage.backward, stage.weight_gradient)
            if part is not None
        )
        alone = seconds(replace(pipeline, closing=None))
        return max(alone - float(pipeline.microbatches) * mean / devices, 0.0) / self.step_time_s

    @cached_property
    def exposed_communication(self) -> float:
        """Part of the step that links between devices are responsible for."""
        links = {name for name, link in self.machine.device.links.items() if link.scope in ("node", "cluster")}
        return float(sum(share for name, share in self.estimate.shares.items() if name in links or name in WAITING))

    @property
    def memory_bytes(self) -> float:
        """Bytes on the fullest device."""
        return float(self.estimate.memory.total_bytes)

    @property
    def groups(self) -> list[Placed]:
        """Which groups of ranks communicate, and over which links."""
        return placed(self.estimate.built.layout, self.plan, self.machine)

    def to_dict(self) -> dict[str, Any]:
        """The row of design §10's ``layouts``."""
        layout, plan, est = self.estimate.built.layout, self.plan, self.estimate
        low, high = est.interval_s
        return {
            **{name: int(getattr(layout, name)) for name in ("tp", "pp", "dp", "ep", "cp")},
            "zero_stage": int(plan.zero_stage),
            "shard_group": None if plan.shard_group is None else int(plan.shard_group),
            "micro_batch": int(plan.micro_batch) if plan.micro_batch is not None else 1,
            "recompute": recompute_words(plan),
            "recomputed_layers": float(plan.recomputed_layers) if plan.recompute != "none" else 0.0,
            "schedule": plan.schedule if layout.pp > 1 else "none",
            "chunks": int(plan.chunks),
            "stages": list(plan.stages) if isinstance(plan.stages, tuple) else plan.stages,
            "rank_order": plan.rank_order,
            "groups": [group.to_dict() for group in self.groups],
            "sequence_parallel": bool(plan.sequence_parallel) and layout.tp > 1,
            "mfu": self.mfu,
            "step_time_s": self.step_time_s,
            "interval_s": [float(low), float(high)],
            "bound_s": float(est.bound_s),
            f"{unit_of(self.model)}_per_s": self.amount / self.step_time_s,
            "memory_gb": self.memory_bytes / 1e9,
            "memory": {name: float(size) for name, size in est.memory.entries.items()},
            "bubble": self.bubble,
            "exposed_communication": self.exposed_communication,
            "bottleneck": est.bottleneck,
            "shares": {name: float(share) for name, share in est.shares.items()},
            "energy_j": None if est.energy_j is None else float(est.energy_j),
            "cost_usd": None if est.cost_usd is None else float(est.cost_usd),
        }


def unit_of(model: Model | Network) -> str:
    """What a step works on: ``tokens``, or ``samples`` of a network."""
    return "samples" if isinstance(model, Network) else "tokens"


def laid_out(model: Model, machine: Machine, task: Train, plan: Plan) -> LaidOut:
    """The step of ``model`` under ``plan``, estimated."""
    return LaidOut(model, task, Estimate(Scenario(model, machine, task, plan)))
