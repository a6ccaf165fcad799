"""What a model keeps in one device's memory: weights, cache or recurrent state, activations (all in bytes).

K and V are counted once each; windows, blocks, latents and recurrent states take what they really take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.models.architecture import (
    DeltaAttention,
    Experts,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    Model,
    Recurrence,
    SelfAttention,
    Stack,
)
from ridgepoint.models.attention import kv_heads_per_rank
from ridgepoint.models.backward import UNTRAINED
from ridgepoint.models.execution import Execution
from ridgepoint.models.parameters import feed_parameters, mixer_parameters
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Gemm, Scan, Stream
from ridgepoint.work import Mix, Op, Pipeline, Repeat, Work

_STATE_BYTES = 4.0
"""Recurrent states are kept in fp32."""


def weight_bytes(model: Model, run: Execution, pp: Num = 1.0) -> dict[str, Num]:
    """Stored weights on the fullest device by component; ``pp`` stages share the layers as evenly as whole layers allow."""
    tables = _table_bytes(model, run)
    layers = stack_bytes(model.decoder, run, pp) if model.decoder else {}
    for name, size in (stack_bytes(model.encoder, run, pp) if model.encoder else {}).items():
        layers[name] = layers.get(name, 0.0) + size
    first, last = tables["embedding"], tables["head"]
    # One stage holds both tables; otherwise the first holds one and the last the other.
    alone = np.asarray(pp) <= 1.0
    ends = np.where(alone, first + last, np.maximum(first, np.where(alone, 0.0, _last_table(model, first, last))))
    other = sum((count for _, count in model.other_parameters), 0) * FORMATS[run.formats.stream].bytes
    result = {**layers, "tables": plain(ends)}
    return {**result, "other": float(other)} if other else result


def end_tables(model: Model, run: Execution) -> tuple[Num, Num]:
    """Stored bytes of the tables on the first and on the last of several stages."""
    tables = _table_bytes(model, run)
    return tables["embedding"], _last_table(model, tables["embedding"], tables["head"])


def _last_table(model: Model, first: Num, last: Num) -> Num:
    """A tied head needs its own copy of the table on the last stage."""
    return first if model.embedding.tied and model.embedding.head else last


def _table_bytes(model: Model, run: Execution) -> dict[str, Num]:
    table = model.embedding
    width = table.width or model.hidden
    beside = width if table.narrow else model.hidden
    values = table.vocab / run.cut.table_slices * width + (table.learned_positions + table.types) * beside
    if width != model.hidden:
        values = values + 2.0 * width * model.hidden  # to the model's width and back
    head = 0.0 if table.tied or not table.head else table.vocab * width / run.cut.table_slices
    return {
        "embedding": values * FORMATS[run.formats.weight("embedding")].bytes,
        "head": head * FORMATS[run.formats.weight("head")].bytes,
    }


def stack_bytes(stack: Stack, run: Execution, pp: Num = 1.0) -> dict[str, Num]:
    """Stored bytes of one stage of a stack, by component."""
    share = stage_share(stack.depth, pp)
    total: dict[str, Num] = {}
    for layer, count in stack.layers:
        for name, size in layer_bytes(layer, stack.hidden, run).items():
            total[name] = total.get(name, 0.0) + share * count * stack.stored_share * size
    return total


def stage_share(depth: int, pp: Num) -> Num:
    """Part of the layers on the fullest of ``pp`` stages: ⌈depth/pp⌉/depth.

    >>> float(stage_share(61, 4.0))
    0.26229508196721313
    """
    return np.ceil(depth / np.asarray(pp, dtype=float)) / depth


def layer_bytes(layer: Layer, hidden: int, run: Execution) -> dict[str, Num]:
    """Stored bytes of one layer on one device, by component."""
    formats, cut = run.formats, run.cut
    total: dict[str, Num] = {"norms": layer.norms * hidden * FORMATS[formats.stream].bytes}
    for mixer in (layer.mixer, layer.cross):
        if mixer is not None:
            size = mixer_parameters(mixer, hidden) * FORMATS[formats.weight("attention")].bytes
            total["attention"] = total.get("attention", 0.0) + size / cut.tp + _replicated(mixer, hidden, run)
    feed = layer.feed
    if isinstance(feed, Experts):
        one = expert_parameters(feed, hidden) * FORMATS[formats.weight("experts")].bytes
        total["experts"] = feed.count * one / (cut.ep * cut.expert_slices)
        rest = feed_parameters(feed, hidden) - feed.count * expert_parameters(feed, hidden)
        router = feed.count * hidden
        total["router"] = router * FORMATS[formats.weight("router")].bytes
        total["feed"] = (rest - router) * FORMATS[formats.weight("feed")].bytes / cut.tp
    elif feed is not None:
        total["feed"] = feed_parameters(feed, hidden) * FORMATS[formats.weight("feed")].bytes / cut.tp
    return total


def expert_parameters(feed: Experts, hidden: int) -> float:
    """Weights (and biases) of one routed expert."""
    inner = feed.hidden or hidden
    matrices = 3.0 if feed.gated else 2.0
    biases = (2.0 if feed.gated else 1.0) * feed.width + inner if feed.bias else 0.0
    return matrices * inner * feed.width + biases


def _replicated(mixer: object, hidden: int, run: Execution) -> Num:
    """What tensor parallelism copies instead of cutting: key–value heads beyond one per rank, latent down-projections."""
    width = FORMATS[run.formats.weight("attention")].bytes
    tp = np.asarray(run.cut.tp, dtype=float)
    if isinstance(mixer, SelfAttention):
        extra = kv_heads_per_rank(mixer, tp) - mixer.kv_heads / tp
        return plain(2.0 * extra * mixer.head_dim * hidden * width)
    if isinstance(mixer, LatentAttention):
        down = (mixer.q_rank + mixer.kv_rank + mixer.rope_dim) * hidden * width
        return plain(down * (1.0 - 1.0 / tp))
    return 0.0


def cache_bytes(model: Model, batch: Num, context: Num, run: Execution, pp: Num = 1.0, source: Num = 0.0) -> Num:
    """Key–value cache or recurrent state of ``batch`` sequences of ``context`` tokens on one device."""
    total: Num = 0.0
    for layer, count in model.main.layers:
        per_layer: Num = 0.0
        if layer.mixer is not None:
            per_layer = _STATES[type(layer.mixer)](layer.mixer, context, run)
        if layer.cross is not None:
            per_layer = per_layer + _self_attention_state(layer.cross, source, run)
        total = total + count * per_layer
    return batch * total * stage_share(model.main.depth, pp)


def _self_attention_state(mixer: SelfAttention, context: Num, run: Execution) -> Num:
    limits = [float(limit) for limit in (mixer.window, mixer.chunk) if limit]
    kept = np.minimum(context, min(limits)) if limits else context
    per_token = 2.0 * kv_heads_per_rank(mixer, run.cut.tp) * mixer.head_dim * FORMATS[run.formats.kv].bytes
    return kept / run.cut.cp * per_token


def _latent_state(mixer: LatentAttention, context: Num, run: Execution) -> Num:
    latent = (mixer.kv_rank + mixer.rope_dim) * FORMATS[run.formats.kv].bytes
    index = mixer.index_dim * FORMATS["fp8"].bytes if mixer.index_topk else 0.0
    return context / run.cut.cp * (latent + index)


def _delta_state(mixer: DeltaAttention, _: Num, run: Execution) -> Num:
    state = mixer.value_heads * mixer.value_dim * mixer.key_dim * _STATE_BYTES
    channels = 2.0 * mixer.key_heads * mixer.key_dim + mixer.value_heads * mixer.value_dim
    convolution = channels * (mixer.conv_kernel - 1) * FORMATS[run.formats.stream].bytes
    return (state + convolution) / (run.cut.tp * run.cut.cp)


def _mamba2_state(mixer: Mamba2, _: Num, run: Execution) -> Num:
    inner = mixer.heads * mixer.head_dim
    channels = inner + 2.0 * mixer.groups * mixer.state_dim
    convolution = channels * (mixer.conv_kernel - 1) * FORMATS[run.formats.stream].bytes
    return (inner * mixer.state_dim * _STATE_BYTES + convolution) / (run.cut.tp * run.cut.cp)


def _mamba1_state(mixer: Mamba1, _: Num, run: Execution) -> Num:
    convolution = mixer.inner * (mixer.conv_kernel - 1) * FORMATS[run.formats.stream].bytes
    return (mixer.inner * mixer.state_dim * _STATE_BYTES + convolution) / (run.cut.tp * run.cut.cp)


def _recurrence_state(mixer: Recurrence, _: Num, run: Execution) -> Num:
    state = mixer.heads * mixer.key_dim * mixer.value_dim * _STATE_BYTES
    before = mixer.conv_channels * max(mixer.conv_kernel - 1, 0) + mixer.shifted
    return (state + before * FORMATS[run.formats.stream].bytes) / (run.cut.tp * run.cut.cp)


_STATES: dict[type, Callable[..., Num]] = {
    SelfAttention: _self_attention_state,
    LatentAttention: _latent_state,
    DeltaAttention: _delta_state,
    Mamba2: _mamba2_state,
    Mamba1: _mamba1_state,
    Recurrence: _recurrence_state,
}


def peak_transient_bytes(work: Work) -> Num:
    """The most that one op of ``work`` reads and writes besides weights and cache: the inference activations that live at
    once (an engine frees everything else).
    """
    peak: Num = 0.0

    def visit(node: Work) -> None:
        nonlocal peak
        rule = _TRANSIENT.get(type(node))
        if rule is not None:
            peak = np.maximum(peak, rule(node))
        for child in node.children():
            visit(child)

    visit(work)
    return plain(peak)


def _gemm_transient(op: Gemm) -> Num:
    left = op.m * op.k * FORMATS[op.acts].bytes
    return (left + op.m * op.n * FORMATS[op.out].bytes) * op.batch


def _attention_transient(op: Attention) -> Num:
    value = np.where(np.asarray(op.value_dim) > 0, op.value_dim, op.head_dim)
    return op.batch * op.heads * op.q_len * (op.head_dim + value) * FORMATS[op.acts].bytes


_TRANSIENT: dict[type, Callable[[Any], Num]] = {
    Gemm: _gemm_transient,
    Attention: _attention_transient,
    Stream: lambda op: op.read_bytes + op.write_bytes,
}


_ROW_PARALLEL = (".output", ".feed.down", ".shared.down", ".out", ".latent_up")
"""Ends of the labels of products whose left operand is divided among the tensor-parallel ranks anyway."""

OF_TOKENS = (".attention.scores", ".attention.values")
"""Products of unfused attention: their right operand is no weight but keys or values, which are kept too."""


def saved_bytes(work: Work, hidden: int, tp: Num, sequence: bool, slices: Num = 1.0) -> Num:
    """What the forward pass of ``work`` keeps for its backward pass: inputs of products, norms and nonlinearities; queries,
    keys, values and softmax statistics of fused attention. With ``sequence`` parallelism inputs as wide as the residual
    stream are kept in shards. Of keys and values that come from ``slices`` ranks each keeps its own.

    One GPT layer without dropout masks keeps 32 bytes per token and hidden unit, two less than the 34 that Korthikanti et
    al. 2022 count with them.
    """
    if isinstance(work, Gemm):
        own = work.grouped or work.label.endswith(_ROW_PARALLEL)
        whole_width = not own and bool(np.all(np.asarray(work.k) == hidden))
        share = tp if sequence and whole_width else 1.0
        right = work.k * work.n * work.batch * FORMATS[work.weights].bytes if work.label.endswith(OF_TOKENS) else 0.0
        return work.m * work.k * work.batch * FORMATS[work.acts].bytes / share + right / slices
    if isinstance(work, Repeat):
        return work.count * saved_bytes(work.body, hidden, tp, sequence, slices)
    if isinstance(work, Mix | Pipeline):
        raise NotImplementedError("activations of probabilistic or pipelined works are counted by their callers")
    if isinstance(work, Op):
        rule = _SAVED.get(type(work))
        return rule(work) if rule else 0.0
    if work.label == UNTRAINED:
        return _result_bytes(work)
    return sum((saved_bytes(child, hidden, tp, sequence, slices) for child in work.children()), 0.0)


def _result_bytes(work: Work) -> Num:
    """What the last op of ``work`` writes."""
    last = work
    while not isinstance(last, Op):
        last = last.children()[-1]
    return rules_of(last).write_bytes(last)


def _attention_saved(op: Attention) -> Num:
    value = np.where(np.asarray(op.value_dim) > 0, op.value_dim, op.head_dim)
    queries = op.heads * op.q_len * op.head_dim
    keys = op.kv_heads * op.q_len * (op.head_dim + value)
    return op.batch * ((queries + keys) * FORMATS[op.acts].bytes + 4.0 * op.heads * op.q_len)


def _scan_saved(op: Scan) -> Num:
    """Its inputs; Mamba's kernels compute them again from what the convolution read, and keep the step sizes (mamba_ssm)."""
    if op.variant in ("mamba1", "mamba2"):
        return op.batch * op.seq * op.heads * FORMATS[op.acts].bytes
    return rules_of(op).read_bytes(op)


_SAVED: dict[type, Callable[[Any], Num]] = {
    Attention: _attention_saved,
    Stream: lambda op: op.saved_bytes,
    Scan: _scan_saved,
}
