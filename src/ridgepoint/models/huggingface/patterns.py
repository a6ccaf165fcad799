"""Which layers are special: windows, experts, linear attention. One function per rule that families share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.models.architecture import Experts, Feed
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.style import Style, experts, feed_forward, mixed

SLIDING = frozenset({"sliding_attention", "local_attention", "sliding"})
KINDS = SLIDING | {"full_attention", "global_attention", "attention", "chunked_attention", "linear_attention", "mamba"}
SOFTMAX = SLIDING | {"full_attention", "global_attention", "attention"}


def kinds(f: Fields, layers: int, default: Callable[[int], str], known: frozenset[str] = KINDS) -> list[str]:
    """The kind of each layer: ``layer_types`` where it is written, else the family's own rule."""
    return f.names("layer_types", known, layers) or [default(i) for i in range(layers)]


def windows_by(rule: Callable[[Fields, int], Callable[[int], bool]]) -> Callable[[Fields, int], list[int]]:
    """Windows in the layers that ``layer_types`` calls sliding; where it is missing, in those ``rule`` picks."""

    def windows(f: Fields, layers: int) -> list[int]:
        is_sliding = rule(f, layers)
        named = kinds(f, layers, lambda i: "sliding_attention" if is_sliding(i) else "full_attention", SOFTMAX)
        return [window(f) if kind in SLIDING else 0 for kind in named]

    return windows


def window(f: Fields) -> int:
    """The sliding window; 0 where it is as long as the context and so never binds."""
    size = f.count("sliding_window")
    return 0 if size >= f.count("max_position_embeddings", 10**10) else size


def every_layer(f: Fields, layers: int) -> Callable[[int], bool]:
    """A window in every layer where there is one (Mistral v0.1; later versions write null)."""
    given = f.has("sliding_window") and f.flag("use_sliding_window", True)
    return lambda i: given


def after_full_layers(f: Fields, layers: int) -> Callable[[int], bool]:
    """Qwen2: only with ``use_sliding_window``, and only from layer ``max_window_layers`` on."""
    given = f.flag("use_sliding_window", False) and f.has("sliding_window")
    first = f.count("max_window_layers", 28, least=0)
    return lambda i: given and i >= first


def all_but_each(default: int) -> Callable[[Fields, int], Callable[[int], bool]]:
    """Every ``sliding_window_pattern``-th layer sees everything, the others a window (Gemma, Cohere 2, gpt-oss)."""

    def rule(f: Fields, layers: int) -> Callable[[int], bool]:
        key = "sliding_window_pattern" if f.has("sliding_window_pattern") else "_sliding_window_pattern"
        pattern = f.count(key, default)
        given = f.has("sliding_window")
        return lambda i: given and (i + 1) % pattern != 0

    return rule


def all_experts(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    """Experts in every layer (Mixtral, gpt-oss, OLMoE)."""
    return [experts(f, style, shared_width=f.count("shared_intermediate_size", 0, least=0))] * layers


def dense_first(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    """DeepSeek: the first layers are dense, then every ``moe_layer_freq``-th has experts."""
    return dense_or(f, style, layers, deepseek_experts(f, style))


def deepseek_experts(f: Fields, style: Style) -> Experts:
    """Experts with shared ones of the same width, and a balancing bias in routers of the ``noaux_tc`` kind."""
    shared = f.count("num_shared_experts", 0, least=0)
    width = f.count("moe_intermediate_size", f.count("intermediate_size", 1))
    biased = f.text("topk_method", "") == "noaux_tc" or f.text("scoring_func", "") == "sigmoid"
    return experts(f, style, shared_width=shared * width, router_bias=biased)


def dense_or(f: Fields, style: Style, layers: int, part: Experts) -> list[Feed | None]:
    """Experts by ``first_k_dense_replace`` and ``moe_layer_freq`` (a step, or a 0 or 1 for each layer)."""
    if isinstance(f.find("moe_layer_freq")[1], list):
        chosen = f.counts("moe_layer_freq", layers) or []
        return mixed(layers, lambda i: chosen[i] > 0, part, lambda: feed_forward(f, style))
    first, step = f.count("first_k_dense_replace", 0, least=0), f.count("moe_layer_freq", 1)
    is_sparse = named_sparse(f, layers, lambda i: i >= first and i % step == 0)
    return mixed(layers, is_sparse, part, lambda: feed_forward(f, style))


def named_sparse(f: Fields, layers: int, rule: Callable[[int], bool]) -> Callable[[int], bool]:
    """Which layers have experts: ``mlp_layer_types`` where newer files write it, else the family's rule."""
    named = f.names("mlp_layer_types", frozenset({"dense", "sparse"}), layers)
    return rule if named is None else lambda i: named[i] == "sparse"


def sparse_step(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    """Qwen: experts in every ``decoder_sparse_step``-th layer but ``mlp_only_layers``; the shared expert has a gate."""
    dense, step = set(f.counts("mlp_only_layers") or ()), f.count("decoder_sparse_step", 1)
    shared = f.count("shared_expert_intermediate_size", 0, least=0)
    part = experts(f, style, shared_width=shared, shared_gate=shared > 0)
    is_sparse = named_sparse(f, layers, lambda i: i not in dense and (i + 1) % step == 0)
    return mixed(layers, is_sparse, part, lambda: feed_forward(f, style))


def interleaved(f: Fields, style: Style, layers: int) -> list[Feed | None]:
    """Llama 4: experts in every ``interleave_moe_layer_step``-th layer, wider dense parts between."""
    step = f.count("interleave_moe_layer_step", 1)
    chosen = set(f.counts("moe_layers") or range(step - 1, layers, step))
    part = experts(f, style, shared_width=f.count("intermediate_size"))
    width = f.count("intermediate_size_mlp", part.width)
    return mixed(layers, lambda i: i in chosen, part, lambda: replace(feed_forward(f, style), width=width))
