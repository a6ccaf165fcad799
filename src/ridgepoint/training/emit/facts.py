"""What a configuration of any framework has to say about a layout, and how a framework refuses what it cannot say."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from math import ceil
from typing import Any, NoReturn

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import Experts, Model
from ridgepoint.models.execution import Formats
from ridgepoint.plan import Plan
from ridgepoint.tasks.layout import execution, resolve_formats
from ridgepoint.tasks.planned import with_balanced
from ridgepoint.tasks.stages import sizes
from ridgepoint.tasks.updates import exchanged_bytes, gradient_bytes
from ridgepoint.training.layouts import LaidOut

ASKED_OF_ALL = {
    *("tp", "pp", "dp", "ep", "cp", "zero_stage", "micro_batch", "weights", "acts", "recompute", "recomputed_layers"),
    *("schedule", "chunks", "sequence_parallel", "context_exchange", "optimizer", "overlap_gradients", "graph_capture"),
    "overlap_parameters",
    "shard_group",
    "rank_order",
    *(
        "offload_optimizer",
        "offload_params",
        "offload_activations",
        "gradients",
        "gradient_bytes",
        "compiled",
        "fused_attention",
        "stages",
    ),
}
"""Fields of a plan that every framework has to say or to refuse."""
BESIDE = {
    *("memory_fraction", "communication_share", "expert_imbalance", "kv", "speculated", "lora_rank"),
    *("lengths", "padding", "jitter", "dropout"),
}
"""Fields that describe the run and are no setting of it."""


@dataclass(frozen=True)
class Facts:
    """One layout in whole numbers."""

    layout: LaidOut

    @property
    def plan(self) -> Plan:
        """How it is run."""
        return self.layout.plan

    @property
    def model(self) -> Model:
        """What is trained."""
        assert isinstance(self.layout.model, Model)
        return self.layout.model

    def degree(self, name: str) -> int:
        """``tp``, ``pp``, ``dp``, ``ep`` or ``cp``."""
        return int(getattr(self.layout.estimate.built.layout, name))

    @property
    def devices(self) -> int:
        """Devices in use."""
        return int(self.layout.estimate.devices)

    @property
    def nodes(self) -> tuple[int, int]:
        """(nodes, devices of each)."""
        each = min(self.layout.machine.devices_per_node, self.devices)
        return ceil(self.devices / each), each

    @property
    def stage(self) -> int:
        """The ZeRO stage."""
        return int(float(self.plan.zero_stage))

    @property
    def batch(self) -> int:
        """Sequences of a step."""
        return int(self.layout.task.batch)

    @property
    def seq(self) -> int:
        """Tokens of a sequence."""
        return int(self.layout.task.seq)

    @property
    def micro(self) -> int:
        """Sequences of a micro-batch."""
        return int(self.plan.micro_batch if self.plan.micro_batch is not None else 1)

    @property
    def accumulated(self) -> int:
        """Micro-batches of a step on one replica."""
        return ceil(self.batch / self.degree("dp") / self.micro)

    @property
    def formats(self) -> Formats:
        """Formats by role."""
        return resolve_formats(self.model, self.plan)[0]

    @property
    def gradients(self) -> tuple[float, float]:
        """Bytes of a gradient's value: as it is kept, as it is exchanged."""
        return float(gradient_bytes(self.plan)), float(exchanged_bytes(self.plan))

    @property
    def recompute(self) -> tuple[str, float]:
        """(rule, part of the layers): none where nothing is recomputed."""
        part = float(self.plan.recomputed_layers)
        return ("none", 0.0) if self.plan.recompute == "none" or part == 0.0 else (self.plan.recompute, part)

    @property
    def schedule(self) -> str:
        """The pipeline's schedule; empty without stages."""
        return self.plan.schedule if self.degree("pp") > 1 else ""

    @property
    def chunks(self) -> int:
        """Model chunks of one device."""
        return int(self.plan.chunks) if self.schedule == "interleaved" else 1

    @cached_property
    def stage_layers(self) -> tuple[int, ...]:
        """Whole layers of every pipeline stage, in order."""
        layout, machine, task = self.layout.estimate.built.layout, self.layout.machine, self.layout.task
        run, _ = execution(self.model, self.plan, layout, True)
        plan = with_balanced(self.model, machine, run, layout, task, self.plan)
        return tuple(map(int, sizes(self.model, plan, layout.pp)))

    @property
    def expert_count(self) -> int:
        """Routed experts of a layer; 0 without."""
        counts = [layer.feed.count for layer, _ in self.model.main.layers if isinstance(layer.feed, Experts)]
        return max(counts, default=0)

    @property
    def sharded_replicas(self) -> tuple[int, int]:
        """(data-parallel replicas among which states are shared, groups of those); context-parallel ranks share with them."""
        dp, group = self.degree("dp"), self.plan.shard_group
        shared = dp if group is None else min(int(float(group)) // self.degree("cp"), dp)
        return shared, dp // shared if shared else 0

    @property
    def expert_slices(self) -> int:
        """Devices that share one expert's matrices."""
        return max(self.degree("tp") // self.degree("ep"), 1)


@dataclass(frozen=True)
class Refusal:
    """How one framework refuses."""

    title: str

    def __call__(self, what: str, hint: str) -> NoReturn:
        """Raise ``not_expressible``."""
        raise RidgepointError("not_expressible", f"{self.title} has no setting for {what}", hint)

    def unless(self, said: bool, what: str, hint: str) -> None:
        """Raise unless ``said``."""
        if not said:
            self(what, hint)

    def of_unknown_fields(self, plan: Plan) -> None:
        """Raise for the first field of a plan that is given and that no framework's table knows."""
        for name, value in plan.given().items():
            if name not in ASKED_OF_ALL and name not in BESIDE:
                option = name.replace("_", "-")
                shown = f"{value:g}" if isinstance(value, float) else str(value)
                self(f"{option} = {shown}", f"plan without --{option}")


@cache
def documented() -> Mapping[str, Mapping[str, Any]]:
    """The frameworks' documented option names with their sources (catalog/frameworks.toml)."""
    return tomllib.loads((resources.files("ridgepoint.catalog") / "frameworks.toml").read_text("utf-8"))


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with dotted names as tables within tables.

    >>> nested({"a": 1, "b.c": 2, "b.d": 3})
    {'a': 1, 'b': {'c': 2, 'd': 3}}
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        *path, last = name.split(".")
        inside = found
        for step in path:
            inside = inside.setdefault(step, {})
        inside[last] = value
    return found


def headline(facts: Facts) -> str:
    """What a configuration is for, in one line."""
    layout = facts.layout
    return (
        f"{facts.model.name} on {layout.machine.name}, {facts.batch} x {facts.seq} tokens a step: "
        f"{layout.step_time_s:.3g} s, {layout.memory_bytes / 1e9:.3g} GB per device expected"
    )
