"""Decoder families, one style each; ``tied`` is what a missing ``tie_word_embeddings`` means to ``transformers``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.models.architecture import Feed
from ridgepoint.models.huggingface import mixers, patterns
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.style import Style, experts, feed_forward

LLAMA = Style(
    qkv_bias=("attention_bias", False), output_bias=("attention_bias", False), feed_bias=("mlp_bias", False)
)  # fmt: skip
MISTRAL = Style(windows=patterns.windows_by(patterns.every_layer))
QWEN2 = Style(qkv_bias=True, windows=patterns.windows_by(patterns.after_full_layers))
QWEN3 = replace(
    QWEN2, qkv_bias=("attention_bias", False), output_bias=("attention_bias", False), query_norm="head"
)  # fmt: skip
GEMMA = Style(tied=True, qkv_bias=("attention_bias", False), output_bias=("attention_bias", False))
GEMMA2 = replace(
    GEMMA, norms=4, windows=patterns.windows_by(patterns.all_but_each(2)),
    defaults={"sliding_window": 4096, "head_dim": 256},
)  # fmt: skip
GEMMA3 = replace(
    GEMMA2,
    query_norm="head",
    windows=patterns.windows_by(patterns.all_but_each(6)),
    # Released files leave these to the configuration class.
    defaults={
        "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "sliding_window": 4096, "max_position_embeddings": 131_072,
    },
)  # fmt: skip
DEEPSEEK = Style(
    mixers=mixers.latent_layers, feeds=patterns.dense_first, qkv_bias=("attention_bias", False),
)  # fmt: skip
DEEPSEEK_V3 = replace(DEEPSEEK, defaults={"topk_method": "noaux_tc"})
GLM4 = Style(norms=4, qkv_bias=("attention_bias", False))
GLM4_MOE = Style(
    feeds=patterns.dense_first,
    qkv_bias=("attention_bias", False),
    query_norm="head",
    query_norm_key=("use_qk_norm", False),
    defaults={"topk_method": "noaux_tc"},
)
GPT_OSS = Style(
    qkv_bias=("attention_bias", True),
    output_bias=("attention_bias", True),
    sinks=True,
    windows=patterns.windows_by(patterns.all_but_each(2)),
    feeds=lambda f, style, layers: [_biased_experts(f, style)] * layers,
)
LLAMA4 = Style(
    mixers=mixers.llama4_layers,
    feeds=patterns.interleaved,
    query_norm="head",
    query_norm_key=("use_qk_norm", True),
    qkv_bias=("attention_bias", False),
    output_bias=("attention_bias", False),
    defaults={"attention_chunk_size": 8192},
)
QWEN3_NEXT = replace(QWEN3, mixers=mixers.delta_or_attention, output_gate=("attn_output_gate", True))


def _biased_experts(f: Fields, style: Style) -> Feed:
    return experts(f, style, bias=True, router_bias=True)


def _minimax_m2_experts(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    return [experts(f, style, router_bias=f.flag("use_routing_bias", True))] * layers


def _phimoe(f: Fields) -> Style:
    return replace(
        MISTRAL, feeds=patterns.all_experts, norm_bias=True, head_bias=("lm_head_bias", False),
        qkv_bias=("attention_bias", False), output_bias=("attention_bias", False),
    )  # fmt: skip


def _stablelm(f: Fields) -> Style:
    parallel = f.flag("use_parallel_residual", False)
    return Style(
        norm_bias=True, qkv_bias=("use_qkv_bias", False), parallel=parallel, norms=1 if parallel else 2,
        query_norm="full", query_norm_key=("qk_layernorm", False),
    )  # fmt: skip


def _starcoder2(f: Fields) -> Style:
    bias = f.flag("use_bias", True)
    return replace(
        MISTRAL, tied=True, norm_bias=True, gated=False, qkv_bias=bias, output_bias=bias, feed_bias=bias
    )  # fmt: skip


def _qwen1(f: Fields) -> Style:
    """Qwen 1 writes the width of both input projections of the feed-forward part together."""
    return Style(qkv_bias=True, feeds=lambda f, style, layers: [_halved(f)] * layers)


def _halved(f: Fields) -> Feed:
    return feed_forward(Fields({"intermediate_size": max(1, f.count("intermediate_size") // 2)}, f.where), Style())


def _dbrx(f: Fields) -> Style:
    attention = f.table("attn_config") or Fields({}, f.where, "attn_config.")
    feed = f.table("ffn_config") or Fields({}, f.where, "ffn_config.")
    merged = Fields({**feed.values, "intermediate_size": feed.count("intermediate_size", 10752)}, f.where, feed.path)
    return Style(
        kv_heads=attention.count("kv_n_heads", 8),
        feeds=lambda f, style, layers: [experts(merged, style)] * layers,
    )


BIASED = replace(LLAMA, feed_bias=False, qkv_bias=("bias", False), output_bias=("bias", False))
_POST_NORM = replace(LLAMA, feed_bias=False, query_norm="full")
OLMO3 = replace(_POST_NORM, windows=patterns.windows_by(patterns.all_but_each(4)), defaults={"sliding_window": 4096})
COHERE = Style(
    tied=True, parallel=True, norms=1, qkv_bias=("attention_bias", False), output_bias=("attention_bias", False),
    query_norm="full", query_norm_key=("use_qk_norm", False),
)  # fmt: skip
NEMOTRON = replace(LLAMA, norm_bias=True, gated=False)

DECODERS: dict[str, Style | Callable[[Fields], Style]] = {
    "llama": LLAMA,
    "yi": LLAMA,
    "aquila": LLAMA,
    "mistral": MISTRAL,
    "ministral": replace(MISTRAL, windows=patterns.windows_by(patterns.every_layer)),
    "ministral3": MISTRAL,
    "mixtral": replace(MISTRAL, feeds=patterns.all_experts),
    "qwen": _qwen1,
    "qwen2": QWEN2,
    "qwen2_vl": QWEN2,
    "qwen2_vl_text": QWEN2,
    "qwen2_5_vl": QWEN2,
    "qwen2_5_vl_text": QWEN2,
    "qwen2_moe": replace(QWEN2, feeds=patterns.sparse_step),
    "qwen3": QWEN3,
    "qwen3_vl": QWEN3,
    "qwen3_vl_text": QWEN3,
    "qwen3_moe": replace(QWEN3, feeds=patterns.sparse_step),
    "qwen3_vl_moe": replace(QWEN3, feeds=patterns.sparse_step),
    "qwen3_vl_moe_text": replace(QWEN3, feeds=patterns.sparse_step),
    "qwen3_next": replace(QWEN3_NEXT, feeds=patterns.sparse_step),
    "qwen3_5": QWEN3_NEXT,
    "qwen3_5_text": QWEN3_NEXT,
    "qwen3_5_moe": replace(QWEN3_NEXT, feeds=patterns.sparse_step),
    "qwen3_5_moe_text": replace(QWEN3_NEXT, feeds=patterns.sparse_step),
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
    "gemma3_text": GEMMA3,
    "phi3": MISTRAL,
    "phi4mm": MISTRAL,
    "phimoe": _phimoe,
    "deepseek": replace(LLAMA, feeds=patterns.dense_first),
    "deepseek_v2": DEEPSEEK,
    "deepseek_v3": DEEPSEEK_V3,
    "deepseek_v32": DEEPSEEK_V3,
    "kimi_k2": DEEPSEEK_V3,
    "kimi_k25": DEEPSEEK_V3,
    "glm": Style(qkv_bias=("attention_bias", True)),
    "glm4": GLM4,
    "glm4_moe": GLM4_MOE,
    "glm4_moe_lite": DEEPSEEK_V3,
    "glm_moe_dsa": DEEPSEEK_V3,
    "gpt_oss": GPT_OSS,
    "llama4": LLAMA4,
    "llama4_text": LLAMA4,
    "minimax_m2": Style(feeds=_minimax_m2_experts, query_norm="full", query_norm_key=("use_qk_norm", True)),
    "nemotron": NEMOTRON,
    "starcoder2": _starcoder2,
    "stablelm": _stablelm,
    "cohere": COHERE,
    "cohere2": replace(COHERE, query_norm="", windows=patterns.windows_by(patterns.all_but_each(4))),
    "dbrx": _dbrx,
    "grok_1": replace(LLAMA, tied=True, norms=4, feeds=patterns.all_experts),
    "olmo": replace(LLAMA, norm_weight=False),
    "olmo2": _POST_NORM,
    "olmo3": OLMO3,
    "olmoe": replace(_POST_NORM, feeds=patterns.all_experts),
    "granite": LLAMA,
    "granitemoe": replace(LLAMA, feeds=patterns.all_experts),
    "granitemoeshared": replace(LLAMA, feeds=patterns.all_experts),
    "internlm": replace(BIASED, qkv_bias=("bias", True), output_bias=("bias", True)),
    "internlm2": BIASED,
    "internlm3": replace(LLAMA, qkv_bias=("qkv_bias", False), output_bias=("bias", False), feed_bias=("bias", False)),
    "baichuan": LLAMA,
    "smollm3": LLAMA,
    "seed_oss": replace(LLAMA, qkv_bias=("attention_bias", True), output_bias=("attention_out_bias", False)),
    "exaone4": replace(QWEN3, windows=patterns.windows_by(patterns.all_but_each(4))),
    "ernie4_5": replace(LLAMA, tied=True, qkv_bias=("use_bias", False), output_bias=("use_bias", False)),
}


def unknown(f: Fields) -> Style:
    """A family that is not in the tables, read as the Llama-like decoder that most new ones are."""
    style = replace(LLAMA, tied=True, windows=patterns.windows_by(patterns.every_layer))
    if f.has("kv_lora_rank", "qk_nope_head_dim"):
        style = replace(style, mixers=mixers.latent_layers)
    if f.count("num_experts", 0, least=0) > 1:
        style = replace(style, feeds=patterns.dense_first)
    return style
