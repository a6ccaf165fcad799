"""The memory ledger of a task: what lies on the fullest device, entry by entry (design §3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ridgepoint.cost.ledger import Ledger
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.state import cache_bytes, peak_transient_bytes, saved_bytes, stage_share, weight_bytes
from ridgepoint.models.transformer import layer_work, logits
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Gemm, Stream
from ridgepoint.plan import Plan
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Task, Train
from ridgepoint.tasks.inference import per_replica
from ridgepoint.tasks.layout import Layout
from ridgepoint.tasks.training import Trained, loss, micro_batch, training_state
from ridgepoint.work import Seq, Work

SERVING_FRACTION = 0.9
"""vLLM's and SGLang's default share of device memory."""
TRAINING_FRACTION = 0.95
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
    """Bytes by purpose of ``task`` on the fullest device."""
    weights = weight_bytes(model, run, layout.pp)
    entries: dict[str, Num] = {"weights": sum(weights.values(), 0.0)}
    entries |= _ENTRIES[type(task)](model, run, layout, task, plan, entries["weights"])
    return device_ledger(machine, task, plan, entries | {"runtime": runtime_bytes(machine)})


def device_ledger(machine: Machine, task: Task, plan: Plan, entries: Mapping[str, Num]) -> Ledger:
    """The entries against one device's memory and the part of it that the task may use."""
    capacity = machine.memory_bytes
    return Ledger(entries, capacity, capacity * usable_fraction(plan, isinstance(task, Train)))


def runtime_bytes(machine: Machine) -> float:
    """What driver context and libraries take on a device."""
    return RUNTIME_BYTES.get(machine.device.kind, 0.0)


def _prefill(model: Model, run: Execution, layout: Layout, task: Prefill, plan: Plan, weights: Num) -> dict[str, Num]:
    cached = task.prompt if model.encoder is None else 1.0
    return _serving(model, run, layout, task.batch, cached, task.prompt, task.prompt)


def _decode(model: Model, run: Execution, layout: Layout, task: Decode, plan: Plan, weights: Num) -> dict[str, Num]:
    return _serving(model, run, layout, task.batch, task.context, task.context, 1.0)


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
    parameters = trained_parameters(model, run, layout)
    whole, mine = parameters.total, parameters.sharded(layout)
    kept = mine / whole if plan.zero_stage == 3 else 1.0
    return {
        "weights": weights * kept,
        **training_state(run, layout, plan, parameters),
        "activations": _saved(model, run, layout, task, plan),
        "logits": _logits_workspace(model, run, layout, task, plan),
    }


def trained_parameters(model: Model, run: Execution, layout: Layout) -> Trained:
    """Weights on the fullest device, as numbers: stored bytes over the bytes of their formats."""
    formats = dict(run.formats.weights)
    found: dict[str, Num] = {}
    for name, size in weight_bytes(model, run, layout.pp).items():
        stored = formats.get(_FORMAT_OF.get(name, name), formats["default"])
        found[name] = size / FORMATS[run.formats.stream if name in ("norms", "other") else stored].bytes
    experts = found.pop("experts", 0.0)
    return Trained(sum(found.values(), 0.0), experts)


_FORMAT_OF = {"tables": "embedding"}


def in_flight(layout: Layout, plan: Plan, count: Num) -> Num:
    """Micro-batches whose activations the first stage holds at once: all for GPipe, pp for 1F1B, a little more interleaved
    (Narayanan et al. 2021).
    """
    pp = np.asarray(layout.pp, dtype=float)
    extra = 1.0 + (pp - 1.0) / (pp * plan.chunks) if plan.schedule == "interleaved" else 1.0
    most = np.where(pp > 1.0, count, 1.0) if plan.schedule == "gpipe" else np.minimum(count, pp * extra)
    return plain(most)


def _saved(model: Model, run: Execution, layout: Layout, task: Train, plan: Plan) -> Num:
    """Activations of all micro-batches in flight on the first stage; with full recomputation each layer's input, and all
    of the one layer that is being recomputed.
    """
    size, count = micro_batch(task, plan, layout)
    tokens = Tokens(size, task.seq, task.seq, keep=task.seq)
    kept: Num = 0.0
    again: Num = 0.0
    for stack in filter(None, (model.encoder, model.decoder)):
        for layer, number in stack.layers:
            work = layer_work(layer, stack.hidden, tokens, run, stack.causal, "l", task.seq)
            whole = saved_bytes(work, stack.hidden, run.cut.tp, run.cut.sequence)
            held = stage_share(stack.depth, layout.pp) * number
            if plan.recompute == "full":
                shard = run.cut.tp if run.cut.sequence else 1.0
                inputs = run.rows(tokens) * stack.hidden * FORMATS[run.formats.stream].bytes / shard
                kept, again = kept + held * inputs, np.maximum(again, whole)
            else:
                kept = kept + held * (whole - (_scores_bytes(work) if plan.recompute == "selective" else 0.0))
    return kept * in_flight(layout, plan, count) + again


def _scores_bytes(work: Work) -> Num:
    """Scores and probabilities that unfused attention keeps; the fused kernel keeps none."""
    own: Num = 0.0
    if isinstance(work, Stream) and work.label.endswith(".attention.softmax"):
        own = work.saved_bytes
    elif isinstance(work, Gemm) and work.label.endswith(".attention.values"):
        own = work.m * work.k * work.batch * FORMATS[work.acts].bytes
    return own + sum((_scores_bytes(child) for child in work.children()), 0.0)


def _logits_workspace(model: Model, run: Execution, layout: Layout, task: Train, plan: Plan) -> Num:
    """Logits in the stream's format and their softmax and gradient in fp32, for one micro-batch."""
    if not model.embedding.head:
        return 0.0
    size, _ = micro_batch(task, plan, layout)
    op = loss(model, Tokens(size, task.seq, task.seq), run)
    return 2.0 * getattr(op, "write_bytes", 0.0) + getattr(op, "read_bytes", 0.0)


_ENTRIES: dict[type, Callable[..., dict[str, Any]]] = {
    Prefill: _prefill,
    Decode: _decode,
    Generate: _generate,
    Forward: _forward,
    Train: _train,
}
