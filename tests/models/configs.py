"""Small configurations, and short ways to look at what was read from them."""

from typing import Any

from ridgepoint.models.architecture import Experts, Layer, Model, SelfAttention
from ridgepoint.models.huggingface import read_config

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}
MOE = {**LLAMA, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}


def read(**keys: Any) -> Model:
    return read_config({**LLAMA, **keys}, "config.json", "test")


def layers(model: Model) -> list[Layer]:
    return [layer for layer, count in model.main.layers for _ in range(count)]


def attention(model: Model) -> list[SelfAttention]:
    return [layer.mixer for layer in layers(model) if isinstance(layer.mixer, SelfAttention)]


def windows(model: Model) -> list[int]:
    return [mixer.window for mixer in attention(model)]


def sparse(model: Model) -> list[int]:
    return [i for i, layer in enumerate(layers(model)) if isinstance(layer.feed, Experts)]
