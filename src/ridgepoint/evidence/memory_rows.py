"""Memory rows: peak of a device, whether a run fits, tokens that a cache holds.

Peaks are what the row's software keeps: a serving engine's ledger, or eager PyTorch with the transformers library, which
makes logits for every position in 16 and in 32 bits and lets a cache grow by concatenation, so that the old and the new
one live at once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.cost.allocator import left_behind
from ridgepoint.evidence.eager_buffers import fixed_bytes
from ridgepoint.evidence.finetune_memory import ALL_WEIGHTS, METHODS, OF_ALPACA, PRECISIONS, longest, peak_bytes
from ridgepoint.evidence.network_memory import CONTEXT_BYTES, VISIBLE, network_memory
from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures, states, whole, with_formats
from ridgepoint.evidence.step_rows import engine_name, engine_of, plan_of
from ridgepoint.evidence.train_rows import step_of
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Tokens
from ridgepoint.models.networks.network import Network
from ridgepoint.models.parameters import total_parameters
from ridgepoint.models.transformer import layer_work
from ridgepoint.numeric import Num
from ridgepoint.plan import Plan
from ridgepoint.serving.capacity import tokens_that_fit
from ridgepoint.serving.engines import BINARY, servers
from ridgepoint.tasks import Decode, Forward
from ridgepoint.tasks.build import build
from ridgepoint.tasks.layout import Layout, execution
from ridgepoint.work import Op, Work

WIDE = 0.3
"""Spread of what no row of the development tables tells: peaks of single passes over whole sequences."""
FUSED_LOSS = 0.6
"""Part of the logits' workspace that a fused cross entropy spares: two bytes per logit and its gradient each, of ten."""


def memory_figures(rows: Rows, model: Model | Network, machine: Machine) -> Figures:
    """Peak memory, fit and cache capacity."""
    if isinstance(model, Network):
        return network_memory(rows, model, machine)
    reader = _READERS.get(rows.text("task"))
    if reader is None:
        raise InexpressibleError(f"no memory figure is modelled for {rows.text('task')}")
    return reader(rows, model, machine)


def _figure(value: Num, spread: float = 0.1) -> Figure:
    return Figure(value, np.nan, spread)


def _serve(rows: Rows, model: Model, machine: Machine) -> Figures:
    engine = engine_of(rows)
    plan = replace(plan_of(rows, model, machine, engine), memory_fraction=engine.memory_fraction)
    found = {"kv_tokens": _figure(tokens_that_fit(model, machine, plan, rows.number("prompt", 1024.0)))}
    # Engines take their part of the device at once, and what does not run through their allocator lies beside it.
    taken = engine.memory_fraction * machine.memory_bytes + CONTEXT_BYTES
    if engine_name(rows) in servers():
        found["peak_memory_gb"] = _figure(np.minimum(taken, machine.memory_bytes) * 1e-9)
    if states(rows, "batch") or states(rows, "concurrency"):
        count = rows.number("batch" if states(rows, "batch") else "concurrency")
        tokens = rows.number("prompt", 1024.0) + rows.number("output", 0.0)
        ledger = build(model, machine, Decode(batch=whole(count), context=whole(tokens)), plan).ledger
        found["fits"] = _figure(np.where(ledger.fits, 1.0, 0.0))
    return found


def _forward(rows: Rows, model: Model, machine: Machine) -> Figures:
    """One pass over whole sequences: weights, and what is alive of the activations."""
    engine = engine_of(rows)
    plan = plan_of(rows, model, machine, engine)
    task = Forward(batch=rows.number("batch"), seq=rows.number("prompt"))
    ledger = build(model, machine, task, plan).ledger
    peak = ledger.total_bytes - ledger["runtime"] + (CONTEXT_BYTES if rows.tag("kind") == "device_used" else 0.0)
    return {"peak_memory_gb": _figure(peak * 1e-9, WIDE)}


def _eager(rows: Rows, model: Model, machine: Machine) -> Figures:
    """Eager transformers: allocated, reserved by the allocator, or used on the device."""
    batch, prompt = rows.number("batch"), rows.number("prompt")
    task = rows.text("task")
    generating = task != "prefill"
    context = prompt + (rows.number("output", 0.0 if task == "decode" else None) if generating else 0.0)
    plan = with_formats(Plan(tp=1.0, dp=1.0, compiled=False), rows, model, machine)
    ledger = build(model, machine, Decode(batch=batch, context=context), plan).ledger
    vocab = float(model.embedding.vocab)
    logits = batch * prompt * vocab * 6.0
    allocated = ledger["weights"] + np.maximum(ledger["kv"] * (2.0 if generating else 1.0), ledger["kv"] + logits)
    allocated = allocated + fixed_bytes(model, rows.tag("experiment"))
    visible = machine.memory_bytes * BINARY * VISIBLE
    layers = 2.0 * model.main.depth
    freed = left_behind(layers, ledger["kv"] / layers) if generating else _layer_outputs(model, plan, batch, prompt)
    reserved = np.minimum(allocated + freed, visible)
    full = allocated + freed > visible
    used = np.where(full, allocated, reserved) + CONTEXT_BYTES
    found = {"allocated": allocated, "reserved": reserved, "device_used": used}
    kind = rows.tag("kind") or "allocated"
    if kind not in found:
        raise InexpressibleError(f"memory of kind '{kind}' is not modelled")
    return {"peak_memory_gb": _figure(found[kind] * 1e-9)}


def _layer_outputs(model: Model, plan: Plan, batch: Num, prompt: Num) -> Num:
    """Bytes that the kernels of one layer write: each output is a block that stays reserved when the layer is done."""
    # What a norm's kernels hand on is counted below: of five blocks the later ones take the place of earlier ones.
    run, _ = execution(model, replace(plan, fused_norms=True), Layout(1.0, 1.0, 1.0, 1.0, 1.0), False)
    layer = model.main.layers[0][0]
    work = layer_work(layer, model.main.hidden, Tokens(batch, prompt, prompt), run, True, "l", 0.0)
    norms = 12.0 * layer.norms * batch * prompt * model.main.hidden  # in 32 bits: the input, its square, the result
    return _written(work) + norms


def _written(work: Work) -> Num:
    if isinstance(work, Op):
        return rules_of(work).write_bytes(work)
    return sum((_written(child) * getattr(work, "count", 1.0) for child in work.children()), 0.0)


def _train(rows: Rows, model: Model, machine: Machine) -> Figures:
    task, plan = step_of(rows, model, machine)
    ledger = build(model, machine, task, plan).ledger
    spared = FUSED_LOSS * ledger["logits"] if engine_of(rows).fused_loss else 0.0
    total = ledger.total_bytes - spared
    fits = np.asarray(total <= machine.memory_bytes * BINARY * VISIBLE)
    return {"fits": _figure(np.where(fits, 1.0, 0.0)), "peak_memory_gb": _figure(total * 1e-9)}


def _finetune(rows: Rows, model: Model, machine: Machine) -> Figures:
    """Frozen weights, and what autograd keeps of the sequences: those that the rows state, else the longest of Alpaca."""
    method = rows.tag("method").replace("qlora", "lora")
    if method in ALL_WEIGHTS:
        return _train(rows, model, machine)
    precision = rows.text("precision")
    if method not in METHODS or precision not in PRECISIONS:
        raise InexpressibleError(f"memory of fine-tuning by '{method}' beside weights in {precision} is not modelled")
    stated = states(rows, "prompt") and rows.text("source") not in OF_ALPACA
    length = rows.number("prompt") if stated else longest(model)
    micro = rows.number("micro_batch" if states(rows, "micro_batch") else "batch")
    total = peak_bytes(model, total_parameters(model), method, precision, micro * length)
    return {"peak_memory_gb": _figure(total * 1e-9)}


_READERS = {
    "serve": _serve,
    "prefill": _eager,
    "generate": _eager,
    "decode": _eager,
    "forward": _forward,
    "train_step": _train,
    "finetune_step": _finetune,
}
