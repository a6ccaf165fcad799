"""Layers with a recurrent state instead of a growing cache: Mamba-1, Mamba-2, gated delta net, gated linear recurrences.

Context-parallel ranks hold slices of the sequence for the projections and slices of the heads for the scan, which runs
through the whole sequence; an all-to-all before and after it turns one into the other (Megatron-LM's hybrid models).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import DeltaAttention, Mamba1, Mamba2, Recurrence
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.pieces import is_one, pointwise, projection, sum_over_ranks
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Collective, Scan, Stream
from ridgepoint.work import Seq, Work


def groups_per_rank(groups: Num, ranks: Num) -> Num:
    """Groups of shared B and C (or keys) on one rank: with more ranks than groups each rank keeps a copy of one."""
    return plain(np.maximum(groups / np.asarray(ranks, dtype=float), 1.0))


def _turned(run: Execution, at: str, rows: Num, into: Num, scan: Work, out: Num) -> list[Work]:
    """The scan between the exchanges of context-parallel ranks: ``into`` and ``out`` values per token."""
    if is_one(run.cut.cp):
        return [scan]
    width = FORMATS[run.formats.stream].bytes
    before, after = (
        Collective(operation="all_to_all", bytes=rows * n * width, ranks=run.cut.cp, stride=run.cut.tp, label=label)
        for n, label in ((into, f"{at}.to_heads"), (out, f"{at}.to_sequence"))
    )
    return [before, scan, after]


def short_convolution(run: Execution, at: str, tokens: Tokens, channels: Num, kernel: int) -> Stream:
    """Depthwise causal convolution over ``kernel`` tokens; in decode it reads and shifts its little state."""
    width = FORMATS[run.formats.stream].bytes
    values = tokens.total / run.cut.cp * channels
    state = tokens.batch / run.cut.cp * channels * (kernel - 1.0) * width if tokens.decode else 0.0
    return Stream(
        read_bytes=values * width + state,
        write_bytes=values * width + state,
        flop=2.0 * kernel * values,
        special=values,
        saved_bytes=values * width,
        label=f"{at}.convolution",
    )


def _gated_norm(run: Execution, at: str, values: Num, kept: float) -> Stream:
    """Norm of the scan's output times the gate, of which ``kept`` are kept for the backward pass: Mamba's fused kernels keep
    the gate, and the output once for norm and projection.
    """
    op = pointwise(run, f"{at}.gated_norm", values, reads=2.0, flop=10.0, special=1.0)
    return replace(op, saved_bytes=op.read_bytes * kept / 2.0)


def mamba2(mixer: Mamba2, hidden: int, tokens: Tokens, run: Execution, at: str) -> Work:
    """State-space duality (Dao, Gu 2024): one projection in, convolution, scan, gated norm, projection out."""
    tp, cp, rows = run.cut.tp, run.cut.cp, run.rows(tokens)
    heads = mixer.heads / tp
    inner, shared = heads * mixer.head_dim, 2.0 * groups_per_rank(mixer.groups, tp) * mixer.state_dim
    scan = Scan(
        batch=tokens.batch,
        seq=tokens.new,
        heads=heads / cp,
        head_dim=mixer.head_dim,
        state_dim=mixer.state_dim,
        groups=groups_per_rank(mixer.groups, tp * cp),
        chunk=mixer.chunk,
        variant="mamba2",
        acts=run.formats.stream,
        label=f"{at}.scan",
    )
    return Seq(
        projection(run, "attention", f"{at}.in", rows, 2.0 * inner + shared + heads, hidden),
        short_convolution(run, at, tokens, inner + shared, mixer.conv_kernel),
        *_turned(run, at, rows, inner + shared + heads, scan, inner),
        _gated_norm(run, at, rows * inner, kept=1.0),
        projection(run, "attention", f"{at}.out", rows, hidden, inner),
        sum_over_ranks(run, f"{at}.all_reduce", rows, hidden),
    )


def mamba1(mixer: Mamba1, hidden: int, tokens: Tokens, run: Execution, at: str) -> Work:
    """Selective scan (Gu, Dao 2023): input, Δ/B/C and Δ projections around a per-channel scan."""
    tp, cp, rows = run.cut.tp, run.cut.cp, run.rows(tokens)
    inner = mixer.inner / tp
    low_rank = mixer.dt_rank + 2.0 * mixer.state_dim
    scan = Scan(
        batch=tokens.batch,
        seq=tokens.new,
        heads=inner / cp,
        head_dim=1.0,
        state_dim=mixer.state_dim,
        variant="mamba1",
        acts=run.formats.stream,
        label=f"{at}.scan",
    )
    return Seq(
        projection(run, "attention", f"{at}.in", rows, 2.0 * inner, hidden),
        short_convolution(run, at, tokens, inner, mixer.conv_kernel),
        projection(run, "attention", f"{at}.parameters", rows, low_rank, inner),
        projection(run, "attention", f"{at}.delta", rows, inner, mixer.dt_rank),
        *_turned(run, at, rows, 2.0 * inner + 2.0 * mixer.state_dim, scan, inner),
        projection(run, "attention", f"{at}.out", rows, hidden, inner),
        sum_over_ranks(run, f"{at}.all_reduce", rows, hidden),
    )


def delta_attention(mixer: DeltaAttention, hidden: int, tokens: Tokens, run: Execution, at: str) -> Work:
    """Gated delta net (Yang et al. 2024): query, key, value, gate and decay projections, convolution, delta-rule scan."""
    tp, cp, rows = run.cut.tp, run.cut.cp, run.rows(tokens)
    key_width = groups_per_rank(mixer.key_heads, tp) * mixer.key_dim
    value_heads = mixer.value_heads / tp
    value_width = value_heads * mixer.value_dim
    if mixer.channel_gate:
        # Kimi delta attention: decays from a product of low rank, the output gate from one too or of full rank.
        low = float(mixer.key_dim + mixer.gate_rank)
        gates: list[Work] = [
            projection(run, "attention", f"{at}.gate_down", rows, low + value_heads, hidden),
            projection(run, "attention", f"{at}.decay_up", rows, key_width, mixer.key_dim),
        ]
        if mixer.gate_rank:
            gates.append(projection(run, "attention", f"{at}.gate_up", rows, value_width, mixer.gate_rank))
        width = 2.0 * key_width + value_width * (1.0 if mixer.gate_rank else 2.0)
        gate_width = key_width + value_heads
    else:
        gates = []
        width = 2.0 * key_width + 2.0 * value_width + 2.0 * value_heads
        gate_width = 2.0 * value_heads
    scan = Scan(
        batch=tokens.batch,
        seq=tokens.new,
        heads=value_heads / cp,
        head_dim=mixer.value_dim,
        state_dim=mixer.key_dim,
        groups=groups_per_rank(mixer.key_heads, tp * cp),
        chunk=mixer.chunk,
        variant="kda" if mixer.channel_gate else "gated_delta",
        acts=run.formats.stream,
        label=f"{at}.scan",
    )
    return Seq(
        projection(run, "attention", f"{at}.in", rows, width, hidden),
        *gates,
        short_convolution(run, at, tokens, 2.0 * key_width + value_width, mixer.conv_kernel),
        *_turned(run, at, rows, 2.0 * key_width + value_width + gate_width, scan, value_width),
        _gated_norm(run, at, rows * value_width, kept=2.0),
        projection(run, "attention", f"{at}.out", rows, hidden, value_width),
        sum_over_ranks(run, f"{at}.all_reduce", rows, hidden),
    )


_SCANNED_INPUTS = {"": 0.0, "linear": 0.0, "wkv": 2.0, "lru": 3.0}
"""Values per channel and token that a channel-by-channel scan reads."""


def recurrence(mixer: Recurrence, hidden: int, tokens: Tokens, run: Execution, at: str) -> Work:
    """A gated linear recurrence (Peng et al. 2023, 2024: RWKV; Sun et al. 2023: RetNet; Yang et al. 2024: GLA; De et al. 2024:
    RG-LRU; Arora et al. 2024: Based; Beck et al. 2024: mLSTM): projections in, scan, gate, projection out.
    """
    tp, cp, rows = run.cut.tp, run.cut.cp, run.rows(tokens)
    heads, chunked = mixer.heads / tp, mixer.scan == "linear"
    out = heads * mixer.value_dim
    scan = Scan(
        batch=tokens.batch,
        seq=tokens.new,
        heads=heads / cp,
        head_dim=mixer.value_dim,
        state_dim=mixer.key_dim,
        chunk=mixer.chunk,
        variant=mixer.scan,
        acts=run.formats.stream,
        label=f"{at}.scan",
    )
    into = out + 2.0 * heads * mixer.key_dim if chunked else _SCANNED_INPUTS[mixer.scan] * out
    parts: list[Work] = []
    if mixer.mixes:
        values = rows * hidden
        parts.append(pointwise(run, f"{at}.shift", values, reads=2.0, writes=mixer.mixes, flop=3.0 * mixer.mixes))
    parts.append(projection(run, "attention", f"{at}.in", rows, mixer.inputs / tp, hidden))
    for index, (inputs, outputs, blocks) in enumerate(mixer.products):
        n, batch = (outputs / tp, 1.0) if blocks == 1 else (float(outputs), blocks / tp)
        parts.append(projection(run, "attention", f"{at}.product{index + 1}", rows, n, inputs, batch))
    if mixer.conv_kernel:
        parts.append(short_convolution(run, at, tokens, mixer.conv_channels / tp, mixer.conv_kernel))
    if mixer.feature_dim:
        features = rows * 2.0 * heads * mixer.key_dim
        parts.append(pointwise(run, f"{at}.features", features, reads=mixer.feature_dim / mixer.key_dim, flop=2.0))
    return Seq(
        *parts,
        *(_turned(run, at, rows, into, scan, out) if mixer.scan else ()),
        _gated_norm(run, at, rows * out, kept=2.0),
        projection(run, "attention", f"{at}.out", rows, hidden, out),
        sum_over_ranks(run, f"{at}.all_reduce", rows, hidden),
    )
