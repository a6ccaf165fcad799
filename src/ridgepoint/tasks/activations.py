"""What training keeps of the forward pass, by position in the schedule (design §3: part of the ledger).

Sources: Korthikanti et al. 2022 (selective recomputation, 1F1B's micro-batches in flight), Narayanan et al. 2021 (interleaved),
Qi et al. 2023 (zero bubble).
"""

from __future__ import annotations

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.state import saved_bytes, stage_share
from ridgepoint.models.transformer import layer_work
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Gemm, Stream
from ridgepoint.plan import Plan
from ridgepoint.tasks.layout import Layout
from ridgepoint.work import Work

OFFLOAD_WINDOW = 2.0
"""Layers whose activations are on the device while the others' are away: the one in work and the one in transit."""


def recompute_words(plan: Plan) -> str:
    """Recomputation in words: none, full, selective, or the part of the layers.

    >>> recompute_words(Plan(recompute="full", recomputed_layers=0.25)), recompute_words(Plan())
    ('full 25%', 'none')
    """
    part = float(np.max(plan.recomputed_layers))
    if plan.recompute == "none" or part == 0.0:
        return "none"
    return plan.recompute if part == 1.0 else f"{plan.recompute} {part:.0%}"


def in_flight(layout: Layout, plan: Plan, count: Num) -> Num:
    """Micro-batches whose activations the first stage holds at once: all for GPipe, pp for 1F1B and ZB-H1, 2·pp − 1 for ZB-H2,
    a little more than pp interleaved (Narayanan et al. 2021).
    """
    pp = np.asarray(layout.pp, dtype=float)
    extra = 1.0 + (pp - 1.0) / (pp * plan.chunks) if plan.schedule == "interleaved" else 1.0
    if plan.schedule == "zero_bubble_2":
        extra = (2.0 * pp - 1.0) / pp
    most = np.where(pp > 1.0, count, 1.0) if plan.schedule == "gpipe" else np.minimum(count, pp * extra)
    return plain(most)


def of_micro_batch(model: Model, run: Execution, layout: Layout, tokens: Tokens, plan: Plan) -> tuple[Num, Num]:
    """(bytes that one micro-batch leaves on the fullest stage, bytes of the one layer that is being recomputed).

    With full recomputation each layer's input is kept, and all of the layer at hand.
    """
    kept: Num = 0.0
    again: Num = 0.0
    slices = 1.0 if run.cut.context_exchange == "all_to_all" else run.cut.cp
    for stack in filter(None, (model.encoder, model.decoder)):
        for layer, number in stack.layers:
            work = layer_work(layer, stack.hidden, tokens, run, stack.causal, "l", tokens.context)
            whole = saved_bytes(work, stack.hidden, run.cut.tp, run.cut.sequence, slices)
            held = stage_share(stack.depth, layout.pp) * number * plan.trained_layers
            if plan.recompute == "full":
                shard = run.cut.tp if run.cut.sequence else 1.0
                inputs = run.rows(tokens) * stack.hidden * FORMATS[run.formats.stream].bytes / shard
                freed = (whole - inputs) * plan.recomputed_layers
                again = np.maximum(again, np.where(np.asarray(plan.recomputed_layers) > 0.0, whole, 0.0))
            else:
                freed = (_scores_bytes(work) if plan.recompute == "selective" else 0.0) * plan.recomputed_layers
            kept = kept + held * (whole - freed)
    return kept, again


def on_device(model: Model, run: Execution, layout: Layout, tokens: Tokens, count: Num, plan: Plan) -> Num:
    """Activations in device memory at the fullest moment of the schedule; of offloaded ones a window of layers."""
    kept, again = of_micro_batch(model, run, layout, tokens, plan)
    if plan.offload_activations != "none":
        layers = np.maximum(np.ceil(model.main.depth / np.asarray(layout.pp, dtype=float)), 1.0)
        return plain(kept * np.minimum(OFFLOAD_WINDOW / layers, in_flight(layout, plan, count)) + again)
    return kept * in_flight(layout, plan, count) + again


def _scores_bytes(work: Work) -> Num:
    """Scores and probabilities that unfused attention keeps; the fused kernel keeps none."""
    own: Num = 0.0
    if isinstance(work, Stream) and work.label.endswith(".attention.softmax"):
        own = work.saved_bytes
    elif isinstance(work, Gemm) and work.label.endswith(".attention.values"):
        own = work.m * work.k * work.batch * FORMATS[work.acts].bytes
    return own + sum((_scores_bytes(child) for child in work.children()), 0.0)
