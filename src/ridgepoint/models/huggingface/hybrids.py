"""Families whose layers are of several kinds: state-space hybrids and Kimi Linear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.models.architecture import DeltaAttention, Feed, FeedForward, Mamba1, Mixer
from ridgepoint.models.huggingface import mixers, patterns
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.style import Style, dense_layers, experts, feed_forward, mixed, self_attention


def _jamba_feeds(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    period, offset = f.count("expert_layer_period", 2), f.count("expert_layer_offset", 1, least=0)
    if f.count("num_experts", 1) == 1:
        return dense_layers(f, style, layers)
    part = experts(f, style)
    return mixed(layers, lambda i: i % period == offset, part, lambda: feed_forward(f, style))


def _jamba_norms(f: Fields) -> tuple[tuple[str, int], ...]:
    """Jamba normalises the step, input and output projections inside its Mamba blocks."""
    blocks = [m for m in mixers.mamba1_or_attention(f, Style()) if isinstance(m, Mamba1)]
    return (("inner_norms", sum(m.dt_rank + 2 * m.state_dim for m in blocks)),)


def _kimi_feeds(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    part = replace(patterns.deepseek_experts(f, style), hidden=f.count("routed_expert_hidden_size", 0, least=0))
    return patterns.dense_or(f, style, layers, part)


def _kimi(f: Fields) -> Style:
    notes = ("block attention residuals are not modelled",) if f.has("attn_res_block_size") else ()
    return Style(mixers=mixers.kimi_layers, feeds=_kimi_feeds, other=_kimi_gates, notes=notes, defaults={
        "topk_method": "noaux_tc"})  # fmt: skip


def _kimi_gates(f: Fields) -> tuple[tuple[str, int], ...]:
    """Output gates of latent attention, which the architecture value does not carry."""
    if not f.flag("mla_use_output_gate", False):
        return ()
    layers = sum(not isinstance(m, DeltaAttention) for m in mixers.kimi_layers(f, Style()))
    return (
        ("attention_gate", layers * f.count("hidden_size") * f.count("num_attention_heads") * f.count("v_head_dim")),
    )


def _nothing(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    return [None] * layers


def _nemotron_layers(f: Fields) -> list[str]:
    """The kind of each Nemotron-H layer, from the pattern's letters or from the list of names."""
    written = f.names("layers_block_type", frozenset(_NEMOTRON.values()) | frozenset(_RENAMED))
    if written is not None:
        written = [_RENAMED.get(kind, kind) for kind in written]
    else:
        pattern = f.text("hybrid_override_pattern").replace("|", "")
        if not pattern or set(pattern) - set(_NEMOTRON):
            raise f.refuse("hybrid_override_pattern", "a text of M, *, - and E, one letter for each layer", pattern)
        written = [_NEMOTRON[letter] for letter in pattern]
    if not written or len(written) > 10_000 or len(written) != f.count("num_hidden_layers", len(written)):
        raise f.error(f"the pattern names {len(written)} layers, and `num_hidden_layers` does not agree")
    return written


_RENAMED = {"linear_attention": "mamba", "full_attention": "attention"}
"""Newer names."""
_NEMOTRON = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def _nemotron_mixers(f: Fields, style: Style) -> list[Mixer | None]:
    built: dict[str, Mixer | None] = {"mlp": None, "moe": None}
    named = _nemotron_layers(f)
    if "mamba" in named:
        built["mamba"] = mixers.mamba2(f)
    if "attention" in named:
        built["attention"] = self_attention(f, style)
    return [built[name] for name in named]


def _nemotron_feeds(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    named = _nemotron_layers(f)
    built: dict[str, Feed | None] = {"mamba": None, "attention": None}
    if "mlp" in named:
        built["mlp"] = feed_forward(f, style)
    if "moe" in named:
        built["moe"] = experts(
            f, style, shared_width=f.count("moe_shared_expert_intermediate_size", 0, least=0), router_bias=True,
            hidden=f.count("moe_latent_size", 0, least=0),
        )  # fmt: skip
    return [built[name] for name in named]


def _granite_feeds(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    """Experts beside a shared part, or the shared part alone where there are none."""
    shared = f.count("shared_intermediate_size", f.count("intermediate_size", 1), least=0)
    if f.count("num_experts", 0, least=0) == 0:
        return [FeedForward(max(shared, 1), gated=style.gated)] * layers
    return [experts(f, style, shared_width=shared)] * layers


def _minimax(f: Fields) -> Style:
    note = "lightning attention is described as a delta net without convolution"
    return Style(mixers=mixers.lightning_or_attention, feeds=patterns.all_experts, notes=(note,))


MAMBA1 = Style(mixers=mixers.mamba1_layers, feeds=_nothing, norms=1, rope=False, tied=True)
HYBRIDS: dict[str, Style | Callable[[Fields], Style]] = {
    "mamba": MAMBA1,
    "falcon_mamba": MAMBA1,
    "mamba2": Style(mixers=mixers.mamba2_layers, feeds=_nothing, norms=1, rope=False),
    "nemotron_h": Style(
        mixers=_nemotron_mixers,
        feeds=_nemotron_feeds,
        norms=1,
        rope=False,
        gated=False,
        qkv_bias=("attention_bias", False),
        output_bias=("attention_bias", False),
        feed_bias=("mlp_bias", False),
    ),
    "jamba": Style(mixers=mixers.mamba1_or_attention, feeds=_jamba_feeds, rope=False, other=_jamba_norms),
    "bamba": Style(
        mixers=mixers.mamba2_or_attention,
        qkv_bias=("attention_bias", False),
        output_bias=("attention_bias", False),
        feed_bias=("mlp_bias", False),
    ),
    "granitemoehybrid": Style(
        mixers=mixers.mamba2_or_attention,
        feeds=_granite_feeds,
        rope=False,
        qkv_bias=("attention_bias", False),
        output_bias=("attention_bias", False),
    ),
    "kimi_linear": _kimi,
    "kimi_k3": _kimi,
    "minimax": _minimax,
    "minimax_text_01": _minimax,
}
