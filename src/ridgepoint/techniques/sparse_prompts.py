"""Attention patterns over many new tokens: blocks that matter, triangles, neighbourhoods."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.kernels.attention import attended_pairs
from ridgepoint.models.architecture import LatentAttention, SelfAttention
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Forward, Sample
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.attended import attends, choosing, others_of, with_attention
from ridgepoint.techniques.conditions import every, has_mixer, reads_prompts, task_is, transformer
from ridgepoint.techniques.products import divided
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Repeat, Seq, Work, ops

_DENSE = Parameter("dense_layers", 0.0, "part of the layers that stays dense", 0.0, 1.0)
_caches = has_mixer(SelfAttention, LatentAttention)


def _long_prompt(given: Scenario, values: Values) -> str:
    prompt = given.task.sizes().get("prompt", 0.0)
    short = np.all(np.asarray(prompt) <= values["last"])
    return f"prompts of {np.max(prompt):g} tokens are no longer than the last rows, which stay dense" if short else ""


@technique(
    "block-sparse-prefill",
    title="prompts read with the blocks of keys that matter",
    mechanism=("sparse_attention",),
    papers=("zipvl", "lserve", "infllm-v2", "trianglemix"),
    quality="near dense on long prompts at 5–20 % of the blocks; choices depend on the prompt",
    grade="near",
    cannot=every(transformer, reads_prompts, _caches),
    parameters=(
        Parameter("visited", 0.2, "part of the query–key blocks that is computed", 0.001, 1.0),
        Parameter("block", 128.0, "tokens of a block", 1.0, 4096.0),
        Parameter("rows", 0.0, "queries that pick their blocks together; 0: those of a block", 0.0, 4096.0),
        _DENSE,
    ),
    occupies=("prefill pairs",),
)
def block_sparse_prefill(given: Scenario, values: Values) -> Scenario:
    """A prefill computes the part ``visited`` of the blocks of its attention matrix, after scoring all pairs of blocks.

    pairs = visited · L²/2 in the sparse layers; the choice is a product of L/block pooled queries and keys per head and a
    selection among them. Where every token picks for itself (``rows`` = 1), only the heads that share keys go through them
    together, so that each block is read from the cache once per token. Linear layers stay: the gain grows with the prompt,
    and at short prompts there is none. Decode and cache are as before.

    >>> import ridgepoint as rp
    >>> def gain(prompt: float) -> float:
    ...     task = rp.Prefill(batch=1, prompt=prompt)
    ...     before, after = (rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=a).time_s
    ...                      for a in ([], ["block-sparse-prefill"]))
    ...     return before / after
    >>> bool(gain(131072) > 1.5 > gain(8192) > 0.95)
    True
    """
    return edited(given, "block-sparse-prefill", _block_sparse, values)


def _visiting(op: Attention, pairs: Num) -> Attention:
    """The op with so many query–key pairs per head, spread over its queries."""
    keys = np.maximum(pairs / op.q_len, 1.0)
    return replace(op, kv_len=plain(np.minimum(keys, op.kv_len)), causal=False, window=0.0, chunk=0.0)


def _pairs(op: Attention) -> Num:
    return attended_pairs(op.q_len, op.kv_len, op.causal, op.window, op.chunk)


def _block_sparse(built: Built, given: Scenario, values: Values) -> Built:
    block, rows = values["block"], np.asarray(values["rows"])

    def change(op: Attention) -> Work:
        queries = np.ceil(op.q_len / np.where(rows > 0.0, rows, block))
        keys = np.ceil(_pairs(op) / op.q_len / block)  # what lies behind a query is not scored
        pooled = Gemm(
            m=queries * op.heads / op.kv_heads, n=keys, k=op.head_dim, batch=op.batch * op.kv_heads, acts=op.acts,
            weights=op.acts, out="fp32", label=f"{op.label}.select_scores",
        )  # fmt: skip
        sparse = replace(_visiting(op, values["visited"] * _pairs(op)), rows=values["rows"])
        choices = np.where(rows > 0.0, 1.0, op.heads / op.kv_heads)  # heads that go together choose together
        select = choosing(op, plain(queries * keys * choices), plain(values["visited"] * queries * keys))
        return divided(values["dense_layers"], op, Seq(pooled, select, sparse))

    return with_attention(built, change, others_of(built))


@technique(
    "triangle-prefill",
    title="sinks, a window and the last rows in deep layers",
    mechanism=("sparse_attention",),
    papers=("trianglemix",),
    quality="TriangleMix is reported lossless on long-context suites when shallow layers stay dense",
    grade="near",
    cannot=every(transformer, reads_prompts, has_mixer(SelfAttention), _long_prompt),
    parameters=(
        Parameter("sinks", 64.0, "first keys that every query sees", 0.0, 1e6),
        Parameter("window", 1024.0, "last keys that every query sees", 1.0, 1e9),
        Parameter("last", 128.0, "last queries that see everything", 1.0, 1e6),
        Parameter("dense_layers", 0.5, "part of the layers that stays dense", 0.0, 1.0),
    ),
    occupies=("prefill pairs",),
    neutral={"dense_layers": 1.0},
)
def triangle_prefill(given: Scenario, values: Values) -> Scenario:
    """In deep layers a query sees sinks and a window, and only the last queries everything: L·(sinks + window) + last·L pairs.

    The pattern is fixed, so that nothing has to be chosen. Two kernels take the place of one. The cache stays whole, decode is
    as before; the gain grows with the prompt.

    >>> import ridgepoint as rp
    >>> def time(prompt: float, *apply: str) -> float:
    ...     task = rp.Prefill(batch=1, prompt=prompt)
    ...     return rp.estimate("llama-3.1-8b", on="a100-sxm-80gb", task=task, apply=apply).time_s
    >>> short, long = (1 - time(prompt, "triangle-prefill") / time(prompt) for prompt in (32768, 131072))
    >>> bool(0.05 < short < long < 0.5)
    True
    """
    return edited(given, "triangle-prefill", _triangle, values)


def _triangle(built: Built, given: Scenario, values: Values) -> Built:
    near = values["sinks"] + values["window"]

    def change(op: Attention) -> Work:
        window = plain(np.where(np.asarray(op.window) > 0.0, np.minimum(near, op.window), near))
        rows = replace(op, q_len=plain(np.minimum(values["last"], op.q_len)), label=f"{op.label}.last_rows")
        return divided(values["dense_layers"], op, Seq(replace(op, window=window), rows))

    return with_attention(built, change, others_of(built))


def visited_tiles(tokens: Num, window: Num, tile: Num) -> Num:
    """Keys that a tile of queries visits for a window of so many keys: whole tiles, one more where the window is no multiple.

    A window aligned with the tiles (stride = tile) visits ⌈w/t⌉ tiles; one that slides by single tokens touches a tile more
    (generalized-neighborhood-attention's simulator).

    >>> visited_tiles(32768.0, 4096.0, 128.0), visited_tiles(32768.0, 4000.0, 128.0), visited_tiles(1000.0, 4096.0, 128.0)
    (4096.0, 4224.0, 1000.0)
    """
    whole = np.ceil(window / tile)
    slides = np.where(np.asarray(window) % tile == 0.0, 0.0, 1.0)
    return plain(np.minimum((whole + slides) * tile, tokens))


def _has_tokens(given: Scenario, values: Values) -> str:
    wide = any(
        isinstance(op, Attention) and attends(op) and not op.causal and np.any(np.asarray(op.q_len) > values["window"])
        for phase in given.build_whole().phases
        for op in ops(phase.work)
    )
    return "" if wide else f"no attention of {given.model.name} spans more than {values['window']:g} tokens both ways"


@technique(
    "neighborhood-attention",
    title="every token sees its neighbourhood only",
    mechanism=("sparse_attention", "exact_attention_kernel"),
    papers=("generalized-neighborhood-attention", "ditfastattn", "ultragen", "dit-3d", "lingen", "pvt"),
    quality="near for some steps and layers of pretrained diffusion models; trained in, it is the model's own",
    grade="near",
    cannot=every(task_is(Forward, Sample), _has_tokens),
    parameters=(
        Parameter("window", 256.0, "keys of a neighbourhood (all dimensions together)", 1.0, 1e9),
        Parameter("tile", 64.0, "keys of a kernel's tile: neighbourhoods are rounded up to whole ones", 1.0, 4096.0),
        Parameter(
            "compressed", 0.0, "compression of a global branch beside the window (0: none)", 0.0, 1e6, one_value=True
        ),
        _DENSE,
        Parameter("steps_reused", 0.0, "part of the uses whose attention output is that of an earlier step", 0.0, 1.0),
        Parameter("permuted", False, "tokens are put into the order of tiles before the kernel, and back after it"),
    ),
    occupies=("prefill pairs",),
)
def neighborhood_attention(given: Scenario, values: Values) -> Scenario:
    """Attention over all N tokens becomes attention over ``window`` neighbours, rounded up to whole tiles of keys.

    pairs = N · visited tiles · tile (+ N·N/compressed for a global branch over pooled keys); layers of ``dense_layers`` keep
    N². ``steps_reused`` of the uses take a cached output (DiTFastAttn): their attention and its launches are left out, the
    projections stay. Gains as far as attention's share goes: high resolutions and videos. In two or three dimensions kernels
    that read whole tiles need queries, keys and values ``permuted`` into their order and the output back (NATTEN on Hopper and
    Blackwell): a pass over each, which the sparser the window weighs the more.

    >>> import ridgepoint as rp
    >>> def time(image_px: float, *apply: str) -> float:
    ...     task = rp.Forward(batch=16, image_px=image_px)
    ...     return rp.estimate("vit_large_patch16_224", on="h100-sxm", task=task, apply=apply).time_s
    >>> bool(time(1792) / time(1792, "neighborhood-attention") > 1.5)
    True
    """
    return edited(given, "neighborhood-attention", _neighbours, values)


def _neighbours(built: Built, given: Scenario, values: Values) -> Built:
    def change(op: Attention) -> Work:
        if op.causal:
            return op
        kept: Work = replace(op, kv_len=visited_tiles(op.kv_len, values["window"], values["tile"]))
        if values["compressed"]:
            pooled = plain(np.ceil(op.kv_len / values["compressed"]))
            kept = Seq(kept, replace(op, kv_len=pooled, label=f"{op.label}.global"))
        if values["permuted"]:
            kept = Seq(_into_tiles(op), kept)
        run = Repeat(1.0 - values["steps_reused"], kept)
        return divided(values["dense_layers"], op, run)

    return with_attention(built, change, others_of(built))


def _into_tiles(op: Attention) -> Stream:
    """Queries, keys, values and the output, each read and written once in another order."""
    both = op.head_dim + (op.value_dim or op.head_dim)
    size = plain(op.batch * both * (op.heads * op.q_len + op.kv_heads * op.kv_len) * FORMATS[op.acts].bytes)
    return Stream(read_bytes=size, write_bytes=size, pattern="permute", launches=4.0, label=f"{op.label}.permute")
