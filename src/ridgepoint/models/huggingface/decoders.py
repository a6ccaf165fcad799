"""Decoder families by model type: a style, or a function that chooses one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.models.huggingface import mixers, patterns
from ridgepoint.models.huggingface.bases import (
    BIASED,
    COHERE,
    DEEPSEEK,
    DEEPSEEK_V3,
    GEMMA,
    GEMMA2,
    GEMMA3,
    GLM4,
    GLM4_MOE,
    LLAMA,
    LLAMA4,
    MISTRAL,
    NEMOTRON,
    OLMO3,
    POST_NORM,
    QWEN2,
    QWEN3,
    QWEN3_NEXT,
)
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.style import Style, no_windows
from ridgepoint.models.huggingface.variants import (
    MLLAMA_NOTE,
    biased_experts,
    dbrx,
    ernie_experts,
    gemma4,
    minimax_m2_experts,
    mllama_cross,
    mllama_mixers,
    phimoe,
    qwen1,
    stablelm,
    starcoder2,
)

GPT_OSS = Style(
    qkv_bias=("attention_bias", True),
    output_bias=("attention_bias", True),
    sinks=True,
    windows=patterns.windows_by(patterns.all_but_each(2)),
    feeds=lambda f, style, layers: [biased_experts(f, style)] * layers,
)

DECODERS: dict[str, Style | Callable[[Fields], Style]] = {
    "llama": LLAMA,
    "yi": LLAMA,
    "aquila": LLAMA,
    "mistral": MISTRAL,
    "ministral": replace(MISTRAL, windows=patterns.windows_by(patterns.every_layer)),
    "ministral3": MISTRAL,
    "mixtral": replace(MISTRAL, feeds=patterns.all_experts),
    "qwen": qwen1,
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
    "phimoe": phimoe,
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
    "minimax_m2": Style(feeds=minimax_m2_experts, query_norm="full", query_norm_key=("use_qk_norm", True)),
    "nemotron": NEMOTRON,
    "starcoder2": starcoder2,
    "stablelm": stablelm,
    "cohere": COHERE,
    "cohere2": replace(COHERE, query_norm="", windows=patterns.windows_by(patterns.all_but_each(4))),
    "dbrx": dbrx,
    "grok_1": replace(LLAMA, tied=True, norms=4, feeds=patterns.all_experts),
    "apertus": replace(LLAMA, gated=False, query_norm="head", query_norm_key=("qk_norm", True)),
    "dots1": replace(LLAMA, query_norm="head", feeds=patterns.dense_first),
    "minicpm": LLAMA,
    "helium": LLAMA,
    "arcee": replace(LLAMA, gated=False),
    "hunyuan_v1_dense": replace(QWEN3, windows=no_windows),
    "exaone": LLAMA,
    "mllama_text_model": replace(LLAMA, mixers=mllama_mixers, other=mllama_cross, notes=(MLLAMA_NOTE,)),
    "ernie4_5_moe": replace(
        LLAMA, tied=True, feeds=ernie_experts, qkv_bias=("use_bias", False), output_bias=("use_bias", False)
    ),
    "gemma4": gemma4,
    "gemma4_text": gemma4,
    "olmo": replace(LLAMA, norm_weight=False),
    "olmo2": POST_NORM,
    "olmo3": OLMO3,
    "olmoe": replace(POST_NORM, feeds=patterns.all_experts),
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
