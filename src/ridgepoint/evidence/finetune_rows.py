"""Rows that fine-tune adapters beside frozen weights: LitGPT's table, measured on Alpaca at its natural lengths.

The table states the longest example of the set for each tokenizer, which decides the peak (``memory_rows``); the time of a
mean iteration is that of a mean micro-batch, whose lengths are assumed (``datasets``), and the interval is wider for it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.evidence.datasets import LENGTHS
from ridgepoint.evidence.finetune_memory import METHODS, OF_ALPACA
from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures, states, timed, with_formats
from ridgepoint.evidence.step_rows import engine_of
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.ops import Gemm, Stream
from ridgepoint.plan import Plan
from ridgepoint.serving.engines import speeds, step, with_software
from ridgepoint.tasks import Train
from ridgepoint.tasks.build import build
from ridgepoint.tasks.trained import LORA
from ridgepoint.techniques.products import weights_of
from ridgepoint.work import Op, Seq, Work, mapped

WIDER = 1.5
"""How much wider the interval is for lengths that nobody stated."""
WIDEN_INSTRUCTIONS = 150.0
"""Instructions per weight of ``dDequantizeNF4`` (bitsandbytes 0.41), fitted to LitGPT's 12 rows of nf4: a tree of 15
comparisons written as branches, whose 16 leaves a warp all visits with test, jump and reunion; then scale and conversion."""
FLOP_PER_INSTRUCTION = 2.0
"""What the peak rate of arithmetic counts for an instruction that could have been a multiplication with an addition."""


def finetuning_figures(rows: Rows, model: Model, machine: Machine) -> Figures:
    """Seconds of one micro-batch, forwards and backwards; the optimizer's step comes once in 128 of them."""
    method = _SAME.get(rows.tag("method"), rows.tag("method"))
    if method not in METHODS:
        raise InexpressibleError(f"fine-tuning by '{method}' is not modelled")
    engine = engine_of(rows)
    micro = rows.number("micro_batch" if states(rows, "micro_batch") else "batch")
    padded = rows.text("source") in OF_ALPACA or not states(rows, "prompt")
    seq = np.asarray(LENGTHS["alpaca"].padded(micro)) if padded else rows.number("prompt")
    # The host time per kernel that LitGPT's rows were fitted with counts what its norms are composed of.
    plan = Plan(
        micro_batch=micro, dp=1.0, compiled=engine.compiled, fused_norms=True, optimizer="none", trainable="lora"
    )
    task = Train(batch=micro, seq=seq)
    device = build(model, machine, task, with_formats(plan, rows, model, machine)).device
    if method != "lora":
        device = mapped(device, _without_products)
    device = mapped(device, _widened_before)
    run = timed(step(device, machine, engine, 0.0), device, with_software(machine, engine), speeds(machine, engine))
    return {"time_s": Figure(run.seconds, run.roofline, run.spread * WIDER)}


_SAME = {"qlora": "lora"}  # which formats the frozen weights have is in ``precision``


def _without_products(op: Op) -> Work:
    return Seq() if LORA in op.label else op


def _widened_before(op: Op) -> Work:
    """bitsandbytes widens 4-bit weights in a pass of its own before each product, forwards and backwards."""
    if not isinstance(op, Gemm) or FORMATS[op.weights].bits >= FORMATS[op.acts].bits:
        return op
    weights = weights_of(op)
    widen = Stream(
        read_bytes=weights * FORMATS[op.weights].bytes,
        write_bytes=weights * FORMATS[op.acts].bytes,
        flop=WIDEN_INSTRUCTIONS * FLOP_PER_INSTRUCTION * weights,
        pattern="quantize",
        label=f"{op.label}.widen",
    )
    return Seq(widen, replace(op, weights=op.acts))
