"""What sets a decoder family apart from another, as data, and the one function that assembles a model from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, TypeAlias

from ridgepoint.models.architecture import (
    Embedding,
    Experts,
    Feed,
    FeedForward,
    Layer,
    Mixer,
    Model,
    SelfAttention,
    Stack,
)
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.precision import read_precision
from ridgepoint.models.pieces import COMPOSED

Flag: TypeAlias = bool | tuple[str, bool]
"""A fixed answer, or the key that answers and what it means when it is missing."""
Mixers: TypeAlias = "Callable[[Fields, Style], list[Mixer | None]]"
Feeds: TypeAlias = "Callable[[Fields, Style, int], list[Feed | None]]"


def attention_layers(f: Fields, style: Style) -> list[Mixer | None]:
    """Softmax attention in every layer, with the family's windows."""
    base = self_attention(f, style)
    windows = style.windows(f, depth(f))
    by_window = {w: replace(base, window=w) for w in set(windows)}
    return [by_window[w] for w in windows]


def dense_layers(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    """The same dense feed-forward part in every layer."""
    return [feed_forward(f, style)] * layers


def no_windows(f: Fields, layers: int) -> list[int]:
    """Full attention in every layer."""
    return [0] * layers


def nothing(f: Fields) -> tuple[tuple[str, int], ...]:
    """No parameters outside the layers."""
    return ()


@dataclass(frozen=True)
class Style:
    """How a decoder family differs from Llama; ``tied`` and ``defaults`` are what missing keys mean."""

    mixers: Mixers = attention_layers
    feeds: Feeds = dense_layers
    windows: Callable[[Fields, int], list[int]] = no_windows
    tied: bool = False
    head_bias: Flag = False
    norms: int = 2
    norm_bias: bool = False
    norm_weight: bool = True
    layer_norm: bool = False
    """Norms without a bias are LayerNorms all the same."""
    parallel: bool = False
    final_norm: bool = True
    embedding_norm: bool = False
    embedding_width: int = 0
    learned: int | None = None
    """Rows of the learned position table beyond the context length; ``None``: no table."""
    rope: bool = True
    kv_heads: int | None = None
    """Number of key-value heads where no key says it."""
    qkv_bias: Flag = False
    output_bias: Flag = False
    query_norm: str = ""
    query_norm_key: Flag = True
    output_gate: Flag = False
    sinks: bool = False
    gated: bool = True
    width: int | None = None
    """Feed-forward width where no key says it."""
    feed_bias: Flag = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    other: Callable[[Fields], tuple[tuple[str, int], ...]] = nothing
    notes: tuple[str, ...] = ()


def answer(f: Fields, flag: Flag) -> bool:
    """What a flag says for this configuration."""
    return flag if isinstance(flag, bool) else f.flag(*flag)


def depth(f: Fields) -> int:
    """Number of layers."""
    return f.count("num_hidden_layers")


def self_attention(f: Fields, style: Style) -> SelfAttention:
    """The family's softmax attention, without a window."""
    heads = f.count("num_attention_heads")
    kv_heads = style.kv_heads or f.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise f.error(
            f"`num_key_value_heads` must divide `num_attention_heads`, and {kv_heads} does not divide {heads}",
            "each key-value head serves the same number of query heads",
        )
    return SelfAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim(f, heads),
        bias=answer(f, style.qkv_bias),
        output_bias=answer(f, style.output_bias),
        rope=style.rope,
        query_norm=style.query_norm if answer(f, style.query_norm_key) else "",
        output_gate=answer(f, style.output_gate),
        sinks=style.sinks,
    )


def head_dim(f: Fields, heads: int) -> int:
    """Width of a head: as written, else an equal part of the hidden size."""
    if f.has("head_dim"):
        return f.count("head_dim")
    hidden = f.count("hidden_size")
    if hidden % heads:
        raise f.error(
            f"`hidden_size` must be a multiple of `num_attention_heads`, and {hidden} is not one of {heads}",
            "write `head_dim` where heads are not an equal part of the hidden size",
        )
    return hidden // heads


def feed_forward(f: Fields, style: Style) -> FeedForward:
    """The family's dense feed-forward part."""
    width = f.count("intermediate_size", style.width)
    return FeedForward(width, gated=style.gated, bias=answer(f, style.feed_bias), composed=composed(f))


def composed(f: Fields) -> str:
    """The activation's name where eager library code runs it operation by operation."""
    name = f.text("hidden_act") if isinstance(f.find("hidden_act")[1], str) else ""
    return name if name in COMPOSED else ""


def experts(f: Fields, style: Style, shared_width: int = 0, **changes: Any) -> Experts:
    """The family's mixture of experts; the experts are as wide as a dense part where no key says otherwise."""
    count, top_k = f.count("num_experts"), f.count("num_experts_per_tok")
    if top_k > count:
        raise f.error(f"`num_experts_per_tok` must be at most the number of experts, and {top_k} is more than {count}")
    key = "moe_intermediate_size" if f.has("moe_intermediate_size") else "intermediate_size"
    part = Experts(count, top_k, f.count(key), gated=style.gated, shared_width=shared_width)
    return replace(part, **changes)


def mixed(layers: int, is_sparse: Callable[[int], bool], sparse: Feed, dense: Callable[[], Feed]) -> list[Feed | None]:
    """Experts in the layers that ``is_sparse`` names, dense parts elsewhere (read only if there are any)."""
    kinds = [is_sparse(i) for i in range(layers)]
    other = sparse if all(kinds) else dense()
    return [sparse if kind else other for kind in kinds]


def runs(layers: Iterable[Layer]) -> tuple[tuple[Layer, int], ...]:
    """Layers as runs of equal ones.

    >>> a, b = Layer(None, FeedForward(4)), Layer(None, FeedForward(8))
    >>> [count for _, count in runs([a, a, b, a])]
    [2, 1, 1]
    """
    return tuple((layer, sum(1 for _ in same)) for layer, same in groupby(layers))


def read_decoder(f: Fields, style: Style, name: str) -> Model:
    """The decoder that the keys describe, read as the family's style says."""
    f = f.with_defaults(style.defaults)
    mixers = style.mixers(f, style)
    feeds = style.feeds(f, style, len(mixers))
    rms = style.norm_weight and not style.norm_bias and not style.layer_norm
    made: dict[tuple[Mixer | None, Feed | None], Layer] = {}
    for pair in zip(mixers, feeds, strict=True):
        made[pair] = Layer(*pair, style.norms, style.norm_bias, style.norm_weight, style.parallel, rms_norm=rms)
    layers = (made[pair] for pair in zip(mixers, feeds, strict=True))
    stack = Stack(
        f.count("hidden_size"),
        runs(layers),
        final_norm=style.final_norm,
        norm_bias=style.norm_bias,
        norm_weight=style.norm_weight,
        rms_norm=rms,
    )
    return finish(
        f, Model(name, embedding(f, style), decoder=stack, other_parameters=style.other(f), notes=style.notes)
    )


def embedding(f: Fields, style: Style) -> Embedding:
    """Token and position tables and the output head."""
    learned = None if style.learned is None else f.count("max_position_embeddings") + style.learned
    return Embedding(
        vocab=max(f.count("vocab_size"), f.count("padded_vocab_size", 1)),
        width=style.embedding_width,
        tied=f.flag("tie_word_embeddings", style.tied),
        head_bias=answer(f, style.head_bias),
        learned_positions=learned or 0,
        norm=style.embedding_norm,
    )


def finish(f: Fields, model: Model) -> Model:
    """The model with what is read alike for all families: number formats, context length, notes on what is left out."""
    precision, notes = read_precision(f, model.main.depth)
    return replace(
        model,
        precision=precision,
        max_context=f.count("max_position_embeddings", 0),
        notes=(*model.notes, *notes, *_left_out(f)),
    )


def _left_out(f: Fields) -> tuple[str, ...]:
    """Multi-token-prediction modules are stored with a model but take no part in its forward pass."""
    for key in ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules"):
        modules = f.count(key, 0, least=0)
        if modules:
            return (f"{modules} multi-token-prediction module(s) (`{key}`) are not part of the model counted here",)
    return ()
