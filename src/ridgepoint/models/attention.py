"""Softmax attention layers as work: grouped-query attention in all its forms, and latent attention."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import LatentAttention, SelfAttention
from ridgepoint.models.context import exchanged, gathered, placed, split_context
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.pieces import is_one, pointwise, projection, sum_over_ranks
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Gemm, Stream
from ridgepoint.work import Seq, Work


def kv_heads_per_rank(mixer: SelfAttention, tp: Num) -> Num:
    """Key–value heads on one tensor-parallel rank: with more ranks than heads each rank keeps a copy of one."""
    return np.maximum(mixer.kv_heads / np.asarray(tp, dtype=float), 1.0)


def self_attention(mixer: SelfAttention, hidden: int, tokens: Tokens, run: Execution, causal: bool, at: str) -> Work:
    """Projections, rotary embedding and cache write, attention, output projection, sum over ranks."""
    tp, rows = run.cut.tp, run.rows(tokens)
    heads, kv_heads = mixer.heads / tp, kv_heads_per_rank(mixer, tp)
    query_width = heads * mixer.head_dim * (2.0 if mixer.output_gate else 1.0)
    kv_width = kv_heads * mixer.head_dim
    parts: list[Work] = [
        projection(run, "attention", f"{at}.qkv", rows, query_width + 2.0 * kv_width, hidden),
        *_rotary_and_cache(mixer, rows, heads, kv_heads, run, causal, at),
        *_over_context(mixer, tokens, run, causal, heads, kv_heads, at),
    ]
    if mixer.output_gate:
        parts.append(pointwise(run, f"{at}.gate", rows * heads * mixer.head_dim, reads=2.0, flop=4.0, special=1.0))
    parts.append(projection(run, "attention", f"{at}.output", rows, hidden, heads * mixer.head_dim))
    parts.append(sum_over_ranks(run, f"{at}.all_reduce", rows, hidden))
    return Seq(*parts)


def _rotary_and_cache(
    mixer: SelfAttention, rows: Num, heads: Num, kv_heads: Num, run: Execution, causal: bool, at: str
) -> list[Work]:
    """Query norm and rotary embedding in place, keys and values written to the cache of a decoder."""
    rotates, stores = bool(mixer.rope or mixer.query_norm), causal and not run.training
    if not rotates and not stores:
        return []
    width = FORMATS[run.formats.stream].bytes
    rotated = rows * (heads + kv_heads) * mixer.head_dim * (1.0 if rotates else 0.0)
    stored = rows * 2.0 * kv_heads * mixer.head_dim * (1.0 if stores else 0.0)
    op = Stream(
        read_bytes=(rotated + stored) * width,
        write_bytes=rotated * width + stored * FORMATS[run.formats.kv].bytes,
        flop=6.0 * rotated,
        pattern="rope",
        launches=(rotates + stores) * (1.0 if run.fused_elementwise else 3.0),
        label=f"{at}." + "_and_".join(n for n, here in (("rotary", rotates), ("cache", stores)) if here),
    )
    return [op]


def _over_context(
    mixer: SelfAttention, tokens: Tokens, run: Execution, causal: bool, heads: Num, kv_heads: Num, at: str
) -> list[Work]:
    """The attention itself; with context parallelism keys and values come from the other ranks."""
    width, stored = heads * mixer.head_dim, 2.0 * kv_heads * mixer.head_dim
    heads, kv_heads, new, context = placed(tokens, run, causal, mixer.window, heads, kv_heads)
    op = Attention(
        batch=tokens.batch,
        heads=heads,
        kv_heads=kv_heads,
        q_len=new,
        kv_len=context,
        head_dim=mixer.head_dim,
        causal=causal,
        window=mixer.window,
        chunk=mixer.chunk,
        paged=run.paged,
        acts=run.formats.stream,
        kv=run.formats.kv,
        label=f"{at}.attention",
    )
    return exchanged(
        op if run.fused_attention else unfused(op, run.fused_elementwise), tokens, run, width, width, stored, at
    )


def unfused(op: Attention, fused_elementwise: bool) -> Work:
    """Scores, softmax and weighted sum as three kernels, scores written to and read from main memory (all q × kv pairs).

    Without ``fused_elementwise`` scaling and mask are passes of their own.
    """
    width = FORMATS[op.acts].bytes
    scores = op.batch * op.heads * op.q_len * op.kv_len
    value_dim = np.where(np.asarray(op.value_dim) > 0, op.value_dim, op.head_dim)
    group = Gemm(
        m=op.q_len * op.heads / op.kv_heads,
        n=op.kv_len,
        k=op.head_dim,
        batch=op.batch * op.kv_heads,
        acts=op.acts,
        weights=op.kv,
        out=op.acts,
        label=f"{op.label}.scores",
    )
    passes = 1.0 if fused_elementwise else 3.0
    softmax = Stream(
        read_bytes=scores * width * passes,
        write_bytes=scores * width * passes,
        flop=5.0 * scores,
        special=scores,
        pattern="softmax",
        rows=op.batch * op.heads * op.q_len,
        launches=passes,
        saved_bytes=scores * width,
        label=f"{op.label}.softmax",
    )
    summed = replace(group, n=plain(value_dim), k=op.kv_len, label=f"{op.label}.values")
    return Seq(group, softmax, summed)


def cross_attention(mixer: SelfAttention, hidden: int, tokens: Tokens, source: Num, run: Execution, at: str) -> Work:
    """Attention of the decoder to ``source`` encoder positions per sequence; keys and values are projected when the
    encoder's output is new (not in a decode step, which finds them cached).
    """
    tp, rows = run.cut.tp, run.rows(tokens)
    heads, kv_heads = mixer.heads / tp, kv_heads_per_rank(mixer, tp)
    new, keys = split_context(replace(tokens, context=source), run.cut.cp, causal=False)
    width = heads * mixer.head_dim
    parts: list[Work] = [projection(run, "attention", f"{at}.query", rows, width, hidden)]
    if not tokens.decode:
        memory = tokens.batch * source / run.cut.cp
        parts.append(projection(run, "attention", f"{at}.key_value", memory, 2.0 * kv_heads * mixer.head_dim, hidden))
    op = Attention(
        batch=tokens.batch,
        heads=heads,
        kv_heads=kv_heads,
        q_len=new,
        kv_len=keys,
        head_dim=mixer.head_dim,
        causal=False,
        acts=run.formats.stream,
        kv=run.formats.kv,
        label=f"{at}.attention",
    )
    parts.append(op if run.fused_attention else unfused(op, run.fused_elementwise))
    if not is_one(run.cut.cp):
        stored = 2.0 * kv_heads * mixer.head_dim
        parts += gathered(replace(tokens, new=source), run, width / source, stored, at)
    parts.append(projection(run, "attention", f"{at}.output", rows, hidden, width))
    parts.append(sum_over_ranks(run, f"{at}.all_reduce", rows, hidden))
    return Seq(*parts)


def latent_attention(
    mixer: LatentAttention, hidden: int, tokens: Tokens, run: Execution, causal: bool, at: str
) -> Work:
    """Multi-head latent attention (DeepSeek-AI 2024). A decode step absorbs the key and value expansions into queries and
    outputs and reads the latent cache once for all heads; otherwise keys and values are expanded for the whole context.
    """
    tp, rows = run.cut.tp, run.rows(tokens)
    heads = mixer.heads / tp
    query = heads * (mixer.nope_dim + mixer.rope_dim)
    parts: list[Work] = []
    if mixer.q_rank:
        down = mixer.q_rank + mixer.kv_rank + mixer.rope_dim
        parts.append(projection(run, "attention", f"{at}.down", rows, down, hidden))
        parts.append(pointwise(run, f"{at}.latent_norm", rows * (mixer.q_rank + mixer.kv_rank), flop=4.0))
        parts.append(projection(run, "attention", f"{at}.query_up", rows, query, mixer.q_rank))
    else:
        parts.append(
            projection(run, "attention", f"{at}.query_and_down", rows, query + mixer.kv_rank + mixer.rope_dim, hidden)
        )
    parts.append(_latent_rotary(mixer, rows, heads, run, at))
    if mixer.index_topk:
        parts.append(_indexer(mixer, hidden, tokens, run, at))
    keys = heads * (mixer.nope_dim + mixer.rope_dim + mixer.value_dim)
    if tokens.decode:
        parts.append(_absorbed(mixer, tokens, run, causal, heads, at))
        parts += gathered(tokens, run, heads * mixer.kv_rank, keys, at)
    else:
        inner = _expanded(mixer, tokens, run, causal, heads, at)
        parts += exchanged(inner, tokens, run, query, heads * mixer.value_dim, keys, at)
    parts.append(projection(run, "attention", f"{at}.output", rows, hidden, heads * mixer.value_dim))
    parts.append(sum_over_ranks(run, f"{at}.all_reduce", rows, hidden))
    return Seq(*parts)


def _latent_rotary(mixer: LatentAttention, rows: Num, heads: Num, run: Execution, at: str) -> Stream:
    width = FORMATS[run.formats.stream].bytes
    rotated = rows * (heads + 1.0) * mixer.rope_dim
    stored = rows * (mixer.kv_rank + mixer.rope_dim)
    return Stream(
        read_bytes=(rotated + stored) * width,
        write_bytes=rotated * width + stored * FORMATS[run.formats.kv].bytes,
        flop=6.0 * rotated,
        pattern="rope",
        launches=2.0,
        label=f"{at}.rotary_and_cache",
    )


def _absorbed(mixer: LatentAttention, tokens: Tokens, run: Execution, causal: bool, heads: Num, at: str) -> Work:
    """Queries in latent space: heads batched (nope → kv_rank), attention over the latent, heads batched (kv_rank → value)."""
    rows = run.rows(tokens)
    new, context = split_context(tokens, run.cut.cp, causal, mixer.index_topk)
    absorb = projection(run, "attention", f"{at}.absorb_query", rows, mixer.kv_rank, mixer.nope_dim, heads)
    attend = Attention(
        batch=tokens.batch,
        heads=heads,
        kv_heads=1.0,
        q_len=new,
        kv_len=context,
        head_dim=mixer.kv_rank + mixer.rope_dim,
        value_dim=mixer.kv_rank,
        causal=causal,
        window=mixer.index_topk,
        latent=True,
        paged=run.paged,
        acts=run.formats.stream,
        kv=run.formats.kv,
        label=f"{at}.attention",
    )
    expand = projection(run, "attention", f"{at}.absorb_value", rows, mixer.value_dim, mixer.kv_rank, heads)
    return Seq(absorb, attend, expand)


def _expanded(mixer: LatentAttention, tokens: Tokens, run: Execution, causal: bool, heads: Num, at: str) -> Work:
    """Keys and values expanded from the latent, each rank its slice of the context; then ordinary attention over all
    heads.
    """
    own, _, new, context = placed(tokens, run, causal, 0.0, heads, heads)
    expand = projection(
        run,
        "attention",
        f"{at}.key_value_up",
        tokens.batch * tokens.context / run.cut.cp,
        heads * (mixer.nope_dim + mixer.value_dim),
        mixer.kv_rank,
    )
    attend = Attention(
        batch=tokens.batch,
        heads=own,
        kv_heads=own,
        q_len=new,
        kv_len=context,
        head_dim=mixer.nope_dim + mixer.rope_dim,
        value_dim=mixer.value_dim,
        causal=causal,
        window=mixer.index_topk,
        acts=run.formats.stream,
        kv=run.formats.stream,
        label=f"{at}.attention",
    )
    return Seq(expand, attend if run.fused_attention else unfused(attend, run.fused_elementwise))


def _indexer(mixer: LatentAttention, hidden: int, tokens: Tokens, run: Execution, at: str) -> Work:
    """DeepSeek sparse attention's indexer: light heads score every key in 8 bits, the best ``index_topk`` are kept."""
    rows = run.rows(tokens)
    pairs = tokens.total / run.cut.cp * (tokens.context if tokens.decode else tokens.context - (tokens.new - 1.0) / 2.0)
    source = mixer.q_rank or hidden
    queries = projection(run, "attention", f"{at}.index_query", rows, mixer.index_heads * mixer.index_dim, source)
    key = projection(run, "attention", f"{at}.index_key", rows, mixer.index_dim + mixer.index_heads, hidden)
    new, context = split_context(tokens, run.cut.cp)
    scores = Attention(
        batch=tokens.batch,
        heads=mixer.index_heads,
        kv_heads=1.0,
        q_len=new,
        kv_len=context,
        head_dim=mixer.index_dim,
        value_dim=1.0,
        latent=True,
        acts="fp8",
        kv="fp8",
        label=f"{at}.index_scores",
    )
    top = Stream(
        read_bytes=4.0 * pairs,
        write_bytes=4.0 * rows * mixer.index_topk,
        flop=8.0 * pairs,
        pattern="sample",
        label=f"{at}.index_top_k",
    )
    return Seq(queries, key, scores, top)
