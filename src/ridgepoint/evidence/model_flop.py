"""Model FLOP of training steps and single passes, as the sources of MFU and TFLOP/s count them."""

from __future__ import annotations

import numpy as np

from ridgepoint.evidence.rows import Rows
from ridgepoint.models.architecture import Experts, LatentAttention, Model, SelfAttention
from ridgepoint.models.parameters import active_parameters
from ridgepoint.numeric import Num

PASSES = 3.0
"""A training step is a forward pass and, at twice its cost, a backward one."""


def flop_per_token(rows: Rows, model: Model, sequence: Num) -> Num:
    """Model FLOP per trained token as the sources count them: 6·N + 12·layers·width·sequence over all pairs; Megatron counts
    the causal half of the pairs, no input table and no gates but SwiGLU's, InternEvo a recomputed forward pass as well.
    """
    megatron = rows.text("framework") == "nemo"
    again = 4.0 / 3.0 if rows.text("framework") == "internevo" and rows.text("recompute") == "full" else 1.0
    count = rows.extra(
        "params", active_parameters(model, embedding=not megatron) - (_gates(model) if megatron else 0.0)
    )
    return PASSES * (2.0 * count + (2.0 if megatron else 4.0) * _pair_width(model) * sequence) * again


def pass_flop(rows: Rows, model: Model) -> Num:
    """Model FLOP of the rows' pass: 2·N + 4·layers·width·keys for every token that it reads or makes, all of its pairs
    counted (Chowdhery et al. 2022, appendix B, without the backward pass).
    """
    task, batch, prompt = rows.text("task"), rows.number("batch"), rows.number("prompt")
    count, width = active_parameters(model), _pair_width(model)

    def each(keys: Num) -> Num:
        return 2.0 * count + 4.0 * width * keys

    reading = batch * prompt * each(prompt)
    if task not in ("decode", "generate"):
        return reading
    step = batch * each(prompt + rows.number("output", 0.0) / 2.0)
    return step if task == "decode" else reading + np.maximum(rows.number("output") - 1.0, 0.0) * step


def _pair_width(model: Model) -> float:
    return float(sum(number * _attention_width(layer.mixer) for layer, number in model.main.layers))


def _gates(model: Model) -> float:
    """Weights of the active experts' gates where they are no SwiGLU (gpt-oss: clamped, with biases)."""
    stack = model.main
    return sum(
        number * feed.top_k * feed.width * float(stack.hidden)
        for layer, number in stack.layers
        if isinstance(feed := layer.feed, Experts) and feed.gated and feed.bias
    )


def _attention_width(mixer: object) -> float:
    """Half of what one layer's scores and weighted sums cost per query–key pair and product."""
    if isinstance(mixer, SelfAttention):
        return float(mixer.heads * mixer.head_dim)
    if isinstance(mixer, LatentAttention):
        return mixer.heads * (mixer.nope_dim + mixer.rope_dim + mixer.value_dim) / 2.0
    return 0.0
