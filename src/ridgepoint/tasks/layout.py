"""From a plan to the layout of a run: parallel degrees made complete, formats resolved, everything checked and noted."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Experts, LatentAttention, Mamba1, Mamba2, Model, Recurrence, SelfAttention
from ridgepoint.models.execution import Cut, Execution, Formats
from ridgepoint.models.pieces import is_one
from ridgepoint.models.state import stage_share
from ridgepoint.numeric import Num, plain
from ridgepoint.plan import Plan


@dataclass(frozen=True)
class Layout:
    """Complete parallel degrees on a machine, and what had to be assumed."""

    tp: Num
    pp: Num
    dp: Num
    ep: Num
    cp: Num
    assumptions: tuple[str, ...] = ()
    layers: tuple[float, ...] = ()
    """Layers of each stage where they are told apart; ``stage`` is then the one that is looked at."""
    stage: int = -1
    end: str = ""
    """Which of equal stages is looked at: first, last, or (empty) the fullest of each kind of entry."""
    shards: Num | None = None
    """Copies that share states among them (hybrid sharding); None: all of them."""

    stages_inside: bool = False
    """Whether neighbours are stages of one replica (tp-pp-dp), rather than replicas of one stage (tp-cp-dp-pp)."""

    @property
    def stage_stride(self) -> Num:
        """Devices from one pipeline stage to the next."""
        return self.tp if self.stages_inside else self.tp * self.cp * self.dp

    @property
    def copy_stride(self) -> Num:
        """Devices from one copy of a stage's weights to the next."""
        return self.tp * self.pp if self.stages_inside else self.tp

    @property
    def apart(self) -> bool:
        """Whether one stage is looked at."""
        return self.stage >= 0

    def share(self, depth: int) -> Num:
        """Part of a stack's layers on the stage that is looked at, or on the fullest."""
        if self.apart:
            return self.layers[self.stage] / sum(self.layers)
        most = stage_share(depth, self.pp)
        if self.end != "last":
            return most
        return plain(np.maximum(1.0 - most * (np.asarray(self.pp) - 1.0), 0.0))

    @property
    def replica(self) -> Num:
        """Devices of one model replica."""
        return self.tp * self.pp * self.cp

    @property
    def devices(self) -> Num:
        """Devices in use."""
        return self.replica * self.dp


def is_sweep(layout: Layout, task: Any, plan: Plan) -> bool:
    """Whether any number of a scenario is an array."""
    degrees = (layout.tp, layout.pp, layout.dp, layout.ep, layout.cp)
    return any(np.ndim(v) for v in (*degrees, *task.sizes().values())) or any(
        isinstance(getattr(plan, f.name), np.ndarray) for f in fields(plan)
    )


def complete(model: Model, machine: Machine, plan: Plan, training: bool) -> Layout:
    """All degrees: what the plan leaves open is derived — tensor parallel inside a node for inference, data parallel for
    the rest — and checked against heads, layers, experts and devices.

    Errors: ``bad_plan`` with the valid choices.
    """
    assumptions: list[str] = []
    pp, cp = _one(plan.pp), _one(plan.cp)
    tp = plan.tp
    if tp is None:
        tp = _default_tp(model, machine, plan, training)
        if np.any(np.asarray(tp) > 1.0):
            assumptions.append(f"tensor parallel over {np.max(tp):g} devices of a node (no --tp given)")
    used = tp * pp * cp
    dp = plan.dp
    if dp is None:
        dp = np.maximum(np.floor(machine.devices / used), 1.0)
        dp = float(dp) if np.ndim(dp) == 0 else dp
        if np.any(np.asarray(dp) > 1.0):
            assumptions.append(
                "data parallel over the remaining devices (no --dp given): the batch is split among replicas"
            )
    layout = Layout(tp, pp, dp, plan.ep if plan.ep is not None else 1.0, cp)
    _check_devices(machine, layout)
    _check_divisors(model, layout)
    if plan.context_exchange == "all_to_all":
        for heads in _divisible(model):
            _divides("tp × cp", layout.tp * layout.cp, heads, model)
    idle = machine.devices - layout.devices
    if np.any(np.asarray(idle) > 0):
        assumptions.append(f"{np.max(idle):g} of {machine.devices} devices stay idle under this layout")
    if plan.shard_group is not None:
        _check_shards(layout, plan, plan.shard_group)
    inside = plan.rank_order == "tp-pp-dp"
    if inside:
        _check_order(layout)
    return replace(layout, assumptions=tuple(assumptions), shards=plan.shard_group, stages_inside=inside)


def _one(value: Num | None) -> Num:
    return 1.0 if value is None else value


def _default_tp(model: Model, machine: Machine, plan: Plan, training: bool) -> Num:
    """The largest power of two that fits a node and divides the heads; training starts from plain data parallelism."""
    if training or plan.dp is not None or machine.devices_per_node == 1:
        return 1.0
    others = np.asarray(_one(plan.pp)) * np.asarray(_one(plan.cp))
    room = machine.devices_per_node / (others if machine.nodes == 1 else np.ones_like(others))
    degree = np.ones_like(room)
    for power in range(1, 11):
        possible = takes(model, 2**power)
        degree = np.where(possible & (2.0**power <= room), 2.0**power, degree)
    return plain(degree)


@dataclass(frozen=True)
class _Heads:
    """What tensor parallelism must divide: the heads of one kind of mixer, and the key–value heads that they share."""

    count: int
    name: str
    shared: int = 0

    def takes(self, tp: int) -> bool:
        """Whether ``tp`` ranks get whole heads, and whole key–value heads or copies of one."""
        return self.count % tp == 0 and (not self.shared or self.shared % tp == 0 or tp % self.shared == 0)

    def __str__(self) -> str:
        return f"{self.count} {self.name}" + (f" over {self.shared} key–value heads" if self.shared else "")


def _divisible(model: Model) -> list[_Heads]:
    found: list[_Heads] = []
    for stack in (model.decoder, model.encoder):
        for layer, _ in stack.layers if stack else ():
            mixer = layer.mixer
            if isinstance(mixer, SelfAttention):
                shared = mixer.kv_heads if mixer.kv_heads != mixer.heads else 0
                found.append(_Heads(mixer.heads, "heads", shared))
            elif isinstance(mixer, LatentAttention | Mamba2 | Recurrence):
                found.append(_Heads(mixer.heads, "heads"))
            elif isinstance(mixer, Mamba1):
                found.append(_Heads(mixer.inner, "channels"))
            elif mixer is not None:
                found.append(_Heads(mixer.value_heads, "value heads"))
    return list(dict.fromkeys(found))


def takes(model: Model, tp: int) -> bool:
    """Whether ``tp`` tensor-parallel ranks get whole heads of every layer."""
    return all(heads.takes(tp) for heads in _divisible(model))


def _check_devices(machine: Machine, layout: Layout) -> None:
    over = np.asarray(layout.devices) > machine.devices
    if np.any(over):
        raise RidgepointError(
            "bad_plan",
            f"tp × pp × cp × dp = {np.max(layout.devices):g} devices, but {machine.name} has {machine.devices}",
            f"lower a degree, or use a larger machine such as {np.max(layout.devices):g}x{machine.device.name}",
        )


def _check_order(layout: Layout) -> None:
    """Groups of context-parallel ranks and of experts over several replicas would have stages between them."""
    if np.any(np.asarray(layout.cp) > 1.0) or np.any(np.asarray(layout.ep) > np.asarray(layout.tp)):
        raise RidgepointError(
            "bad_plan",
            "the rank order tp-pp-dp is not modelled for context parallelism, or experts over several replicas",
            "use tp-cp-dp-pp, or --cp 1 and an --ep of at most --tp",
        )


def _check_shards(layout: Layout, plan: Plan, group: Num) -> None:
    if not np.any(np.asarray(plan.zero_stage) >= 1.0):
        raise RidgepointError(
            "bad_plan", "a shard group is given, but nothing is shared among it (ZeRO 0)", "add --zero 1, 2 or 3"
        )
    copies, size = np.broadcast_arrays(np.asarray(layout.dp * layout.cp), np.asarray(group))
    bad = copies % size != 0
    if np.any(bad):
        many = int(copies[bad].flat[0])
        raise RidgepointError(
            "bad_plan",
            f"a shard group of {size[bad].flat[0]:g} does not divide the {many} copies of the weights (dp × cp)",
            "use one of " + ", ".join(str(d) for d in range(1, many + 1) if many % d == 0),
        )


def _check_divisors(model: Model, layout: Layout) -> None:
    for heads in _divisible(model):
        _divides("tp", layout.tp, heads, model)
    for stack in (model.decoder, model.encoder):
        if stack is not None and np.any(np.asarray(layout.pp) > stack.depth):
            raise RidgepointError(
                "bad_plan",
                f"pp = {np.max(layout.pp):g} is more than the {stack.depth} layers of {model.name}",
                f"use 1 to {stack.depth}",
            )
    counts = {layer.feed.count for layer, _ in model.main.layers if isinstance(layer.feed, Experts)}
    for count in counts:
        _divides("ep", layout.ep, _Heads(count, "experts"), model)
    if np.any(np.asarray(layout.ep) > 1) and not counts:
        raise RidgepointError("bad_plan", f"ep is given, but {model.name} has no experts", "leave --ep out")
    if not is_one(layout.ep):
        _check_expert_ranks(layout)


def _check_expert_ranks(layout: Layout) -> None:
    ranks, tp, ep = np.broadcast_arrays(layout.tp * layout.dp, layout.tp, layout.ep)
    if np.any((ranks % ep != 0) | ((ep % tp != 0) & (tp % ep != 0))):
        raise RidgepointError(
            "bad_plan",
            f"ep = {np.max(layout.ep):g} does not fit tp × dp = {np.max(ranks):g} ranks",
            "use an ep that divides tp × dp and that divides tp or is a multiple of it",
        )


def _divides(name: str, degree: Num, heads: _Heads, model: Model) -> None:
    bad = [d for d in np.unique(degree) if not heads.takes(int(d))]
    if bad:
        valid = [d for d in range(1, min(heads.count, 4096) + 1) if heads.takes(d)]
        raise RidgepointError(
            "bad_plan",
            f"{name} = {bad[0]:g} does not divide the {heads} of {model.name}",
            "use one of " + ", ".join(map(str, valid[:16])),
        )


def resolve_formats(model: Model, plan: Plan) -> tuple[Formats, tuple[str, ...]]:
    """Formats by role: the checkpoint's, overridden by the plan. Embedding, head and router stay in 16 bits when a plan
    quantizes the linear layers.
    """
    stored = model.precision
    stacks = [stack for stack in (model.encoder, model.decoder) if stack is not None]
    routed = any(isinstance(layer.feed, Experts) for stack in stacks for layer, _ in stack.layers)
    wide = ("embedding", "head", "router") if routed else ("embedding", "head")
    notes: list[str] = []
    stream = "fp16" if stored.weights == "fp16" else "bf16"
    if plan.weights is None:
        table = {"default": stored.weights, **dict(stored.exceptions)}
        if stored.weights == "fp32":
            table = {"default": stream}
            notes.append(f"the checkpoint is stored in fp32; it is run in {stream} (--weights fp32 runs it as stored)")
        for component in wide:
            if FORMATS[stored.weights].bits < 16:
                table.setdefault(component, stream)
        inputs = stored.weights if FORMATS[stored.weights].math in ("fp8", "int8") else stream
    else:
        table = {"default": plan.weights}
        if FORMATS[plan.weights].bits < 16:
            table |= dict.fromkeys(wide, stream)
            kept = ", ".join(wide[:-1]) + f" and {wide[-1]}"
            notes.append(f"{plan.weights} weights in the linear layers; {kept} stay in {stream}")
        else:
            stream = plan.weights if plan.weights in ("fp16", "bf16", "fp32") else stream
        inputs = stream
    if plan.acts is not None:
        inputs = plan.acts
        stream = plan.acts if FORMATS[plan.acts].bits >= 16 else stream
    kv = plan.kv or stream
    return Formats(tuple(table.items()), inputs=inputs, stream=stream, kv=kv), tuple(notes)


def _in_one_kernel(plan: Plan, training: bool) -> bool:
    """Whether the code has sums over ranks of its own, as serving engines do."""
    return plan.compiled and not training if plan.custom_all_reduce is None else plan.custom_all_reduce


def execution(model: Model, plan: Plan, layout: Layout, training: bool) -> tuple[Execution, tuple[str, ...]]:
    """What layer builders need, from plan and layout."""
    formats, notes = resolve_formats(model, plan)
    sequence = plan.sequence_parallel if plan.sequence_parallel is not None else training
    run = Execution(
        formats=formats,
        cut=Cut(layout.tp, layout.ep, layout.cp, sequence, plan.context_exchange, plan.whole_tables),
        fused_attention=plan.fused_attention,
        fused_elementwise=plan.compiled,
        fused_norms=plan.compiled if plan.fused_norms is None else plan.fused_norms,
        all_reduce="auto" if _in_one_kernel(plan, training) else "nccl",
        paged=not training,
        training=training,
        expert_imbalance=plan.expert_imbalance,
        dropout=plan.dropout,
    )
    return run, notes
