"""Styles that several decoder families start from; ``tied`` is what a missing ``tie_word_embeddings`` means there."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.huggingface import mixers, patterns
from ridgepoint.models.huggingface.style import Style

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


BIASED = replace(LLAMA, feed_bias=False, qkv_bias=("bias", False), output_bias=("bias", False))
POST_NORM = replace(LLAMA, feed_bias=False, query_norm="full")
OLMO3 = replace(POST_NORM, windows=patterns.windows_by(patterns.all_but_each(4)), defaults={"sliding_window": 4096})
COHERE = Style(
    tied=True, parallel=True, norms=1, qkv_bias=("attention_bias", False), output_bias=("attention_bias", False),
    query_norm="full", query_norm_key=("use_qk_norm", False),
)  # fmt: skip
NEMOTRON = replace(LLAMA, norm_bias=True, gated=False)
