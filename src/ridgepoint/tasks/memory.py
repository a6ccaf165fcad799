"""The memory ledger of a task: what lies on the fullest device, entry by entry (design §3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from ridgepoint.cost.ledger import Ledger
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.state import cache_bytes, peak_transient_bytes
from ridgepoint.models.transformer import layer_work, logits
from ridgepoint.numeric import Num, plain
from ridgepoint.plan import Plan
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Task, Train
from ridgepoint.tasks.activations import OFFLOAD_WINDOW, in_flight, of_micro_batch, on_device
from ridgepoint.tasks.buffers import buffers, channels
from ridgepoint.tasks.inference import input_length, per_replica
from ridgepoint.tasks.layout import Layout
from ridgepoint.tasks.stages import sizes
from ridgepoint.tasks.trained import device_parameters, learned, stored_bytes
from ridgepoint.tasks.training import loss, micro_batch
from ridgepoint.tasks.updates import Trained, at_stage, gradient_bytes, optimizer_bytes, training_state
from ridgepoint.work import Seq, Work

SERVING_FRACTION = 0.9
"""vLLM's and SGLang's default share of device memory."""
TRAINING_FRACTION = 0.95
HOST_FRACTION = 0.8
"""Part of the host's memory that may be pinned for a device's states: the rest is the system's and the data loader's."""
RUNTIME_BYTES = {"gpu": 0.6e9}
"""What driver context and libraries take, by kind of device; other kinds take nothing that matters."""
TOKEN_BUDGET = 8192.0
"""Prompt tokens whose activations live at once: engines prefill in chunks of about this many."""


def usable_fraction(plan: Plan, training: bool) -> float:
    """Part of the device's memory that the run may use."""
    if plan.memory_fraction is not None:
        return plan.memory_fraction
    return TRAINING_FRACTION if training else SERVING_FRACTION


def ledger(model: Model, machine: Machine, run: Execution, layout: Layout, task: Task, plan: Plan) -> Ledger:
    """Bytes by purpose of ``task`` on the fullest device; of stages that the plan tells apart, those of the fullest one. Of
    equal stages that is the first, which holds most micro-batches, or the last, which has the logits.
    """
    if isinstance(task, Train) and isinstance(plan.stages, tuple):
        fullest = _may_be_fullest(plan.stages)
        return reduce(_fuller, stage_ledgers(model, machine, run, layout, task, plan, fullest))
    if isinstance(task, Train) and np.any(np.asarray(layout.pp) > 1.0):
        return _fuller(*end_ledgers(model, machine, run, layout, task, plan))
    return _one_ledger(model, machine, run, layout, task, plan)


def end_ledgers(
    model: Model, machine: Machine, run: Execution, layout: Layout, task: Train, plan: Plan
) -> tuple[Ledger, Ledger]:
    """The ledgers of the first and of the last of equal pipeline stages; none between them is fuller than the first."""
    first, last = (_one_ledger(model, machine, run, replace(layout, end=end), task, plan) for end in ("first", "last"))
    return first, last


def _fuller(one: Ledger, other: Ledger) -> Ledger:
    """The fuller of two ledgers at every point, and the most that either keeps elsewhere."""
    here = np.asarray(one.total_bytes) >= np.asarray(other.total_bytes)
    entries = {name: plain(np.where(here, size, other.entries[name])) for name, size in one.entries.items()}
    away = {name: plain(np.maximum(size, other.away[name])) for name, size in one.away.items()}
    return replace(one, entries=entries, away=away)


def _may_be_fullest(layers: Sequence[float]) -> list[int]:
    """The stages of which one is the fullest: the first and the last, and of those between them the first of every size, for
    a stage holds no more micro-batches than one before it.
    """
    inner = {layers[stage]: stage for stage in range(len(layers) - 2, 0, -1)}
    return sorted({0, len(layers) - 1, *inner.values()})


def stage_ledgers(
    model: Model,
    machine: Machine,
    run: Execution,
    layout: Layout,
    task: Train,
    plan: Plan,
    only: Sequence[int] | None = None,
) -> list[Ledger]:
    """The ledger of every pipeline stage (or of ``only`` some): its layers, tables, micro-batches in flight, logits."""
    layers = sizes(model, plan, layout.pp)
    each = (replace(layout, layers=layers, stage=stage) for stage in (range(len(layers)) if only is None else only))
    return [_one_ledger(model, machine, run, one, task, plan) for one in each]


def _one_ledger(model: Model, machine: Machine, run: Execution, layout: Layout, task: Task, plan: Plan) -> Ledger:
    weights = stored_bytes(model, run, layout, plan)
    entries: dict[str, Num] = {"weights": sum(weights.values(), 0.0)}
    entries |= _ENTRIES[type(task)](model, run, layout, task, plan, entries["weights"])
    if isinstance(task, Train):
        entries |= channels(machine, layout, plan)
    return device_ledger(machine, task, plan, entries | {"runtime": runtime_bytes(machine)})


def device_ledger(machine: Machine, task: Task, plan: Plan, entries: Mapping[str, Num]) -> Ledger:
    """The entries against one device's memory and the part of it that the task may use; those named ``tier/entry`` lie in a
    tier behind it.
    """
    capacity = machine.memory_bytes
    here = {name: size for name, size in entries.items() if "/" not in name}
    away = {name: size for name, size in entries.items() if "/" in name}
    usable = capacity * usable_fraction(plan, isinstance(task, Train))
    return Ledger(here, capacity, usable, away, tier_rooms(machine) if away else {})


def tier_rooms(machine: Machine) -> dict[str, float]:
    """One device's share of the host's memory and of the node's storage, as far as the sheet states them."""
    device, found = machine.device, {}
    if device.host is not None and device.host.memory is not None:
        found["host"] = HOST_FRACTION * float(device.host.memory) / machine.devices_per_node
    if device.storage is not None and device.storage.capacity is not None:
        found["nvme"] = float(device.storage.capacity) / machine.devices_per_node
    return found


def runtime_bytes(machine: Machine) -> float:
    """What driver context and libraries take on a device."""
    return RUNTIME_BYTES.get(machine.device.kind, 0.0)


def _prefill(model: Model, run: Execution, layout: Layout, task: Prefill, plan: Plan, weights: Num) -> dict[str, Num]:
    cached = task.prompt if model.encoder is None else 1.0
    return _serving(model, run, layout, task.batch, cached, task.prompt, task.prompt)


def _decode(model: Model, run: Execution, layout: Layout, task: Decode, plan: Plan, weights: Num) -> dict[str, Num]:
    source = input_length(model, task.context)
    return _serving(model, run, layout, task.batch, task.context, source, 1.0)


def _generate(model: Model, run: Execution, layout: Layout, task: Generate, plan: Plan, weights: Num) -> dict[str, Num]:
    cached = task.output + (task.prompt - 1.0 if model.encoder is None else 0.0)
    return _serving(model, run, layout, task.batch, cached, task.prompt, task.prompt)


def _forward(model: Model, run: Execution, layout: Layout, task: Forward, plan: Plan, weights: Num) -> dict[str, Num]:
    here = per_replica(task.batch, layout)
    tokens = Tokens(here, task.seq, task.seq, keep=task.seq)
    return {"activations": _transient(model, run, tokens)}


def _serving(
    model: Model, run: Execution, layout: Layout, batch: Num, cached: Num, source: Num, new: Num
) -> dict[str, Num]:
    """The cache of ``cached`` tokens (and of ``source`` encoder positions, where there is an encoder), and what ``new``
    tokens at a time need.
    """
    here = per_replica(batch, layout)
    cache = cache_bytes(model, here, cached, run, layout.pp, source if model.encoder is not None else 0.0)
    return {"kv": cache, "activations": _transient(model, run, _scheduled(here, new, np.maximum(cached, new)))}


def _scheduled(batch: Num, new: Num, context: Num) -> Tokens:
    """The tokens that an engine lets through at a time: all of a decode step, ``TOKEN_BUDGET`` of a prefill."""
    piece = np.minimum(new, TOKEN_BUDGET)
    sequences = np.where(np.asarray(new) > 1.0, np.minimum(batch, np.ceil(TOKEN_BUDGET / piece)), batch)
    return Tokens(plain(sequences), plain(piece), context, decode=bool(np.all(np.asarray(new) == 1.0)))


def _transient(model: Model, run: Execution, tokens: Tokens) -> Num:
    """Residual stream plus the largest op of one layer or of the head."""
    stack = model.main
    kinds = {layer for layer, _ in stack.layers}
    works: list[Work] = [layer_work(k, stack.hidden, tokens, run, stack.causal, "l", tokens.context) for k in kinds]
    works.append(logits(model, tokens.batch * tokens.keep, run))
    residual = tokens.total / run.cut.cp * stack.hidden * FORMATS[run.formats.stream].bytes
    return 2.0 * residual + peak_transient_bytes(Seq(*works))


def _train(model: Model, run: Execution, layout: Layout, task: Train, plan: Plan, weights: Num) -> dict[str, Num]:
    if plan.trainable == "zeroth_order":
        size, _ = micro_batch(task, plan, layout)
        return {"activations": _transient(model, run, Tokens(size, task.seq, task.seq, keep=task.seq))}
    parameters, trained = device_parameters(model, run, layout, plan), learned(model, run, layout, plan)
    size, count = micro_batch(task, plan, layout)
    tokens = Tokens(size, task.seq, task.seq, keep=task.seq)
    kept, again = of_micro_batch(model, run, layout, tokens, count, plan)
    logits_ = _logits_workspace(model, run, layout, task, plan)
    # Layers run again, and need their own workspace, when the logits are gone: only what they have more counts.
    more, room = plain(np.maximum(again - logits_, 0.0)), np.maximum(logits_ - again, 0.0)
    return {
        "weights": _held_weights(model, run, layout, plan, parameters),
        **(_adapter_weights(run, trained) if plan.trainable == "lora" else {}),
        **training_state(run, layout, plan, trained, model.hidden),
        "activations": on_device(model, layout, count, plan, kept, more),
        "logits": logits_,
        **buffers(model, run, layout, tokens, plan, room),
        **_away(model, run, layout, tokens, count, plan, parameters, trained),
    }


def _away(
    model: Model,
    run: Execution,
    layout: Layout,
    tokens: Tokens,
    count: Num,
    plan: Plan,
    parameters: Trained,
    trained: Trained,
) -> dict[str, Num]:
    """What is offloaded, by tier: states and weights of one device, activations of its micro-batches in flight."""
    found: dict[str, Num] = {}
    if plan.offload_optimizer != "none":
        mine = at_stage(plan, 1.0, trained.sharded(layout), trained.total)
        found[f"{plan.offload_optimizer}/optimizer"] = mine * optimizer_bytes(run, plan, model.hidden)
        left = at_stage(plan, 2.0, trained.sharded(layout), 0.0) * gradient_bytes(plan)
        if np.any(np.asarray(left) > 0.0):
            found[f"{plan.offload_optimizer}/gradients"] = left
    if plan.offload_params != "none":
        shard = at_stage(plan, 3.0, parameters.sharded(layout), parameters.total)
        found[f"{plan.offload_params}/weights"] = shard * FORMATS[run.formats.stream].bytes
    if plan.offload_activations != "none":
        kept, _ = of_micro_batch(model, run, layout, tokens, count, plan)
        found[f"{plan.offload_activations}/activations"] = kept * in_flight(layout, plan, count)
    return found


def _held_weights(model: Model, run: Execution, layout: Layout, plan: Plan, parameters: Trained) -> Num:
    """Weights that stay on the device: a shard with ZeRO-3, two layers where the rest is offloaded. Trained weights in a narrow
    format keep the 16-bit ones that they are made from, unless master weights replace them off the device.
    """
    stored = sum(stored_bytes(model, run, layout, plan).values(), 0.0)
    narrow = stored < 0.9 * parameters.total * FORMATS[run.formats.stream].bytes
    if plan.trainable == "full" and np.any(narrow):
        stored = stored + np.where(narrow, parameters.total * FORMATS[run.formats.stream].bytes, 0.0)
    kept = at_stage(plan, 3.0, parameters.sharded(layout) / parameters.total, 1.0)
    if plan.offload_params != "none":
        layers = np.maximum(np.ceil(model.main.depth / np.asarray(layout.pp, dtype=float)), 1.0)
        kept = np.minimum(OFFLOAD_WINDOW / layers, 1.0)
    return plain(stored * kept)


def _adapter_weights(run: Execution, trained: Trained) -> dict[str, Num]:
    return {"adapters": trained.total * FORMATS[run.formats.stream].bytes}


def _logits_workspace(model: Model, run: Execution, layout: Layout, task: Train, plan: Plan) -> Num:
    """Logits in the stream's format and their softmax and gradient in fp32, for one micro-batch."""
    if not model.embedding.head or (layout.apart and layout.stage < len(layout.layers) - 1 and not plan.vocab_parallel):
        return 0.0
    size, _ = micro_batch(task, plan, layout)
    here = 1.0 if layout.end != "first" or plan.vocab_parallel else np.where(np.asarray(layout.pp) > 1.0, 0.0, 1.0)
    op = loss(model, Tokens(size, task.seq, task.seq), run)
    whole = 2.0 * getattr(op, "write_bytes", 0.0) + getattr(op, "read_bytes", 0.0)
    return plain(here * (whole / layout.pp if plan.vocab_parallel else whole))


_ENTRIES: dict[type, Callable[..., dict[str, Any]]] = {
    Prefill: _prefill,
    Decode: _decode,
    Generate: _generate,
    Forward: _forward,
    Train: _train,
}
