"""Decoder families that need a function: what their keys say decides the style, or a part is theirs alone."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.architecture import Feed, Mixer
from ridgepoint.models.huggingface import patterns
from ridgepoint.models.huggingface.bases import GEMMA3, LLAMA, MISTRAL
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.style import (
    Style,
    attention_layers,
    dense_layers,
    depth,
    experts,
    feed_forward,
    mixed,
    self_attention,
)
from ridgepoint.models.parameters import feed_parameters, mixer_parameters


def biased_experts(f: Fields, style: Style) -> Feed:
    """Experts and router with biases (gpt-oss)."""
    return experts(f, style, bias=True, router_bias=True)


def minimax_m2_experts(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    """Experts in every layer, with a balancing bias in the router."""
    return [experts(f, style, router_bias=f.flag("use_routing_bias", True))] * layers


def phimoe(f: Fields) -> Style:
    """Phi MoE: LayerNorms with bias, and biases where the keys say."""
    return replace(
        MISTRAL, feeds=patterns.all_experts, norm_bias=True, head_bias=("lm_head_bias", False),
        qkv_bias=("attention_bias", False), output_bias=("attention_bias", False),
    )  # fmt: skip


def stablelm(f: Fields) -> Style:
    """StableLM: LayerNorms; the 12B model runs both parts of a layer side by side under one."""
    parallel = f.flag("use_parallel_residual", False)
    return Style(
        norm_bias=True, qkv_bias=("use_qkv_bias", False), parallel=parallel, norms=1 if parallel else 2,
        query_norm="full", query_norm_key=("qk_layernorm", False),
    )  # fmt: skip


def starcoder2(f: Fields) -> Style:
    """StarCoder 2: biases everywhere, plain feed-forward parts."""
    bias = f.flag("use_bias", True)
    return replace(
        MISTRAL, tied=True, norm_bias=True, gated=False, qkv_bias=bias, output_bias=bias, feed_bias=bias
    )  # fmt: skip


def qwen1(f: Fields) -> Style:
    """Qwen 1 writes the width of both input projections of the feed-forward part together."""
    return Style(qkv_bias=True, feeds=lambda f, style, layers: [halved(f)] * layers)


def halved(f: Fields) -> Feed:
    """Half the written width."""
    return feed_forward(Fields({"intermediate_size": max(1, f.count("intermediate_size") // 2)}, f.where), Style())


def dbrx(f: Fields) -> Style:
    """DBRX keeps the shapes of attention and experts in objects of their own."""
    attention = f.table("attn_config") or Fields({}, f.where, "attn_config.")
    feed = f.table("ffn_config") or Fields({}, f.where, "ffn_config.")
    merged = Fields({**feed.values, "intermediate_size": feed.count("intermediate_size", 10752)}, f.where, feed.path)
    return Style(
        kv_heads=attention.count("kv_n_heads", 8),
        layer_norm=True,
        feeds=lambda f, style, layers: [experts(merged, style)] * layers,
    )


def ernie_experts(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    """Experts in every ``moe_layer_interval``-th layer between two indices."""
    first, step = f.count("moe_layer_start_index", 1, least=0), f.count("moe_layer_interval", 1)
    last = f.count("moe_layer_end_index", -1, least=-1)
    end = last if last >= 0 else layers
    part = patterns.deepseek_experts(f, style)
    return mixed(layers, lambda i: first <= i <= end and (i + 1) % step == 0, part, lambda: feed_forward(f, style))


MLLAMA_NOTE = "the layers that attend to images are counted as parameters; a text without images skips them"


def mllama_images(f: Fields) -> int:
    """How many layers attend to images instead of text."""
    listed = set(f.counts("cross_attention_layers") or ())
    return sum(i in listed for i in range(depth(f)))


def mllama_mixers(f: Fields, style: Style) -> list[Mixer | None]:
    """The layers that attend to text."""
    return attention_layers(f, style)[mllama_images(f) :]


def mllama_cross(f: Fields) -> tuple[tuple[str, int], ...]:
    """Layers that attend to images (norms on queries and keys, two gates), and eight more rows in the input table."""
    hidden = f.count("hidden_size")
    attention = mixer_parameters(replace(self_attention(f, LLAMA), query_norm="head"), hidden)
    layer = attention + feed_parameters(feed_forward(f, LLAMA), hidden) + 2 * hidden + 2
    return (("image_attention_layers", int(layer) * mllama_images(f)), ("image_tokens", 8 * hidden))


def gemma4(f: Fields) -> Style:
    """Full layers have heads of their own shape; with experts, the dense part runs beside them in every layer."""
    if f.count("hidden_size_per_layer_input", 0, least=0) or f.count("num_kv_shared_layers", 0, least=0):
        raise f.error(
            "Gemma 4 models with embeddings per layer or shared keys cannot be described", "the 26B and 31B models can"
        )
    moe = f.flag("enable_moe_block", False)
    notes = ("values of full layers reuse the key projection, which is counted twice",)
    return replace(
        GEMMA3, mixers=gemma4_mixers, feeds=gemma4_experts if moe else dense_layers, norms=7 if moe else 4, defaults={},
        notes=notes if f.flag("attention_k_eq_v", False) else (),
    )  # fmt: skip


def gemma4_mixers(f: Fields, style: Style) -> list[Mixer | None]:
    """Windowed layers, and full ones with heads of their own shape."""
    local = self_attention(f, style)
    wide = self_attention(
        replace(
            f,
            values={
                **f.values,
                "head_dim": f.find("global_head_dim")[1] if f.has("global_head_dim") else local.head_dim,
                "num_key_value_heads": f.count("num_global_key_value_heads", local.kv_heads),
            },
        ),
        style,
    )
    windows = style.windows(f, depth(f))
    by_window = {w: replace(local, window=w) if w else wide for w in set(windows)}
    return [by_window[w] for w in windows]


def gemma4_experts(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    """Experts beside the dense part."""
    return [experts(f, style, shared_width=f.count("intermediate_size"), router_bias=True)] * layers
