"""Families of gated linear recurrences: RWKV, RecurrentGemma, RetNet, gated linear attention, Based, xLSTM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.models.architecture import Feed, FeedForward, Mixer, Recurrence, SelfAttention
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.style import Style, depth, self_attention

_SHIFT_RANK, _DECAY_RANK = 32, 64
"""Ranks of RWKV-6's data-dependent token shifts and decays (Peng et al. 2024, §4.2)."""


def _everywhere(build: Callable[[Fields], Recurrence]) -> Callable[[Fields, Style], list[Mixer | None]]:
    return lambda f, style: [build(f)] * depth(f)


def _wkv4(f: Fields) -> Recurrence:
    """RWKV-4: receptance, key and value; per channel a decay, a bonus and three numbers of state."""
    hidden = f.count("hidden_size")
    width = f.count("attention_hidden_size", hidden)
    return Recurrence(
        width, 3, 1, inputs=3 * width, scan="wkv", vectors=2 * width + 3 * hidden, mixes=3, shifted=2 * hidden
    )


def _wkv5(f: Fields) -> Recurrence:
    """RWKV-5 (Eagle): heads with matrix states, a gate, a norm of every head."""
    hidden, size = f.count("hidden_size"), f.count("head_size", 64)
    width = f.count("attention_hidden_size", hidden)
    vectors = 4 * width + 4 * hidden
    return Recurrence(width // size, size, size, inputs=4 * width, vectors=vectors, mixes=4, shifted=2 * hidden)


def _wkv6(f: Fields) -> Recurrence:
    """RWKV-6 (Finch): RWKV-5 with shifts and decays from low-rank products of the input."""
    base, hidden = _wkv5(f), f.count("hidden_size")
    shift, decay = f.count("time_mix_extra_dim", _SHIFT_RANK), f.count("time_decay_extra_dim", _DECAY_RANK)
    return replace(
        base,
        inputs=base.inputs + 5 * shift + decay,
        products=((shift, hidden, 5), (decay, base.heads * base.value_dim, 1)),
        vectors=base.vectors + 2 * hidden,
        mixes=5,
    )


def _channel_mixing(widen: float) -> Callable[[Fields, Style, int], list[Feed | None]]:
    def feeds(f: Fields, style: Style, layers: int) -> list[Feed | None]:
        width = f.count("intermediate_size", int(f.count("hidden_size") * widen) // 32 * 32)
        return [FeedForward(width, gated=False, receptance=True)] * layers

    return feeds


RWKV4 = Style(
    mixers=_everywhere(_wkv4), feeds=_channel_mixing(4.0), norm_bias=True, embedding_norm=True, rope=False
)  # fmt: skip


def _griffin_layers(f: Fields, style: Style) -> list[Mixer | None]:
    """RecurrentGemma: two recurrent blocks, then one of local attention."""
    pattern = f.names("block_types", frozenset({"recurrent", "attention"})) or ["recurrent", "recurrent", "attention"]
    attention = replace(self_attention(f, style), window=f.count("attention_window_size", 2048))
    block = _lru(f)
    named = [pattern[i % len(pattern)] for i in range(depth(f))]
    return [attention if kind == "attention" else block for kind in named]


def _lru(f: Fields) -> Recurrence:
    """Griffin's block: two branches, a convolution and the RG-LRU, whose gates are block-diagonal."""
    hidden, heads = f.count("hidden_size"), f.count("num_attention_heads")
    width, kernel = f.count("lru_width", hidden), f.count("conv1d_width", 4)
    if width % heads:
        raise f.error(f"`lru_width` must be a multiple of `num_attention_heads`, and {width} is not one of {heads}")
    block = width // heads
    return Recurrence(
        heads, 1, block, inputs=2 * width, scan="lru", products=((block, block, 2 * heads),),
        vectors=6 * width + hidden, conv_kernel=kernel, conv_channels=width,
    )  # fmt: skip


def _griffin_feeds(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    return [FeedForward(f.count("intermediate_size") // 2, gated=True, bias=True)] * layers


GRIFFIN = Style(
    mixers=_griffin_layers, feeds=_griffin_feeds, tied=True, qkv_bias=("attention_bias", False), output_bias=True
)  # fmt: skip


def _expanded(f: Fields, keys: float, values: float) -> tuple[int, int, int]:
    """Heads, keys and values per head of a layer whose widths are factors of the model's."""
    hidden, heads = f.count("hidden_size"), f.count("num_attention_heads", 4)
    wide = (int(hidden * f.real("expand_k", keys)), int(hidden * f.real("expand_v", values)))
    return heads, wide[0] // heads, wide[1] // heads


def _retention(f: Fields) -> Recurrence:
    """RetNet: decays that are not trained, values and gate twice as wide as keys, a norm of every head."""
    heads, key, value = _expanded(f, 1.0, 2.0)
    return Recurrence(heads, key, value, inputs=heads * (2 * key + 2 * value), vectors=value)


def _gated_linear(f: Fields) -> Recurrence:
    """Gated linear attention: a decay for every channel of a key, from a product of low rank."""
    heads, key, value = _expanded(f, 0.5, 1.0)
    rank = f.count("gate_low_rank_dim", 16)
    inputs = heads * (2 * key + 2 * value) + rank
    return Recurrence(heads, key, value, inputs, products=((rank, heads * key, 1),), vectors=heads * key + value)


def _swiglu_of(ratio: int) -> Callable[[Fields, Style, int], list[Feed | None]]:
    """flash-linear-attention's rule: two thirds of ``hidden_ratio`` times the model's width, in steps of 256."""

    def feeds(f: Fields, style: Style, layers: int) -> list[Feed | None]:
        wide = int(f.count("hidden_size") * f.count("hidden_ratio", ratio) * 2 / 3)
        return [FeedForward(f.count("intermediate_size", -(-wide // 256) * 256))] * layers

    return feeds


def _based_layers(f: Fields, style: Style) -> list[Mixer | None]:
    """Based: gated convolutions, with linear attention in ``alt_mixer_layers`` and windows in ``alt_mixer_2_layers``."""
    tables = [f.table(key) or Fields({}, f.where, f"{key}.") for key in ("mixer", "alt_mixer", "alt_mixer_2")]
    convolution, linear, sliding = tables
    hidden = f.count("hidden_size")
    width, kernel = hidden * convolution.count("expand_proj", 4) // 2, convolution.count("kernel_size", 3)
    gated = Recurrence(
        1, 0, width, inputs=2 * width, scan="", vectors=3 * width + hidden, conv_kernel=kernel, conv_channels=width
    )
    heads = sliding.count("num_attention_heads", f.count("num_attention_heads"))
    window = SelfAttention(heads, heads, hidden // heads, window=sliding.count("window_size", 64))
    placed = (set(f.counts("alt_mixer_layers") or ()), set(f.counts("alt_mixer_2_layers") or ()))
    taylor = _taylor(linear, hidden)
    return [taylor if i in placed[0] else window if i in placed[1] else gated for i in range(depth(f))]


def _taylor(f: Fields, hidden: int) -> Recurrence:
    """Linear attention whose feature map holds the terms of exp's second-order Taylor series: 1 + d + d² numbers."""
    heads, feature = f.count("num_attention_heads", 16), f.count("feature_dim", 16)
    value = f.count("head_dim", hidden // heads)
    return Recurrence(heads, 1 + feature + feature**2, value, inputs=heads * (2 * feature + value), feature_dim=feature)


def _matrix_memory(f: Fields) -> Recurrence:
    """xLSTM's mLSTM: queries and keys half as wide as values, exponential input and forget gates per head."""
    hidden, heads = f.count("hidden_size"), f.count("num_attention_heads")
    key = int(hidden * f.real("qk_dim_factor", 0.5)) // heads
    value = int(hidden * f.real("v_dim_factor", 1.0)) // heads
    inputs = heads * (2 * key + 2 * value + 2)
    return Recurrence(heads, key, value, inputs=inputs, vectors=2 * heads + heads * value)


def _rounded_swiglu(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    step = f.count("ffn_round_up_to_multiple_of", 64)
    width = f.count("hidden_size") * f.real("ffn_proj_factor", 2.667)
    return [FeedForward(int(-(-width // step)) * step)] * layers


RECURRENCES: dict[str, Style] = {
    "rwkv": RWKV4,
    "rwkv5": replace(RWKV4, mixers=_everywhere(_wkv5), feeds=_channel_mixing(3.5)),
    "rwkv6": replace(RWKV4, mixers=_everywhere(_wkv6), feeds=_channel_mixing(3.5)),
    "recurrent_gemma": GRIFFIN,
    "retnet": Style(mixers=_everywhere(_retention), feeds=_swiglu_of(2)),
    "gla": Style(mixers=_everywhere(_gated_linear), feeds=_swiglu_of(4), rope=False),
    "based": Style(mixers=_based_layers, tied=True),
    "xlstm": Style(mixers=_everywhere(_matrix_memory), feeds=_rounded_swiglu, rope=False),
}
