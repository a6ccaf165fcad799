"""Mixers other than plain softmax attention: latent attention, delta nets, state-space blocks, and their patterns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.models.architecture import DeltaAttention, LatentAttention, Mamba1, Mamba2, Mixer
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.patterns import KINDS, kinds
from ridgepoint.models.huggingface.style import Style, answer, depth, self_attention


def latent_layers(f: Fields, style: Style) -> list[Mixer | None]:
    """Multi-head latent attention in every layer (DeepSeek-V2 and its descendants)."""
    return [latent_attention(f, style)] * depth(f)


def latent_attention(f: Fields, style: Style) -> LatentAttention:
    """Multi-head latent attention; with an indexer where ``index_topk`` is written (DeepSeek sparse attention)."""
    sparse = f.has("index_topk")
    return LatentAttention(
        heads=f.count("num_attention_heads"),
        q_rank=f.count("q_lora_rank", 0, least=0),
        kv_rank=f.count("kv_lora_rank"),
        nope_dim=f.count("qk_nope_head_dim"),
        rope_dim=f.count("qk_rope_head_dim", least=0),
        value_dim=f.count("v_head_dim"),
        bias=answer(f, style.qkv_bias),
        index_heads=f.count("index_n_heads") if sparse else 0,
        index_dim=f.count("index_head_dim") if sparse else 0,
        index_topk=f.count("index_topk") if sparse else 0,
    )


def delta_attention(f: Fields) -> DeltaAttention:
    """The gated delta net of Qwen3-Next and Qwen3.5."""
    key_heads, value_heads = f.count("linear_num_key_heads", 16), f.count("linear_num_value_heads", 32)
    if value_heads % key_heads:
        raise f.error(
            f"`linear_num_key_heads` must divide `linear_num_value_heads`: {key_heads} does not divide {value_heads}"
        )
    return DeltaAttention(
        key_heads=key_heads,
        value_heads=value_heads,
        key_dim=f.count("linear_key_head_dim", 128),
        value_dim=f.count("linear_value_head_dim", 128),
        conv_kernel=f.count("linear_conv_kernel_dim", 4),
    )


def delta_or_attention(f: Fields, style: Style) -> list[Mixer | None]:
    """Every ``full_attention_interval``-th layer has softmax attention, the others a gated delta net."""
    interval = f.count("full_attention_interval", 4)
    named = kinds(f, depth(f), lambda i: "linear_attention" if (i + 1) % interval else "full_attention", KINDS)
    return chosen(named, {"linear_attention": lambda: delta_attention(f)}, lambda: self_attention(f, style))


def kimi_layers(f: Fields, style: Style) -> list[Mixer | None]:
    """Kimi Linear: delta attention with channel gates in ``kda_layers`` (counted from 1), else latent attention."""
    linear = f.table("linear_attn_config") or Fields({}, f.where, "linear_attn_config.")
    special = set(linear.counts("kda_layers") or ())
    named = kinds(f, depth(f), lambda i: "linear_attention" if i + 1 in special else "full_attention")
    # Newer files write these beside the other keys.
    heads = linear.count("num_heads", f.count("linear_num_heads", f.count("num_attention_heads")))
    dim = linear.count("head_dim", f.count("linear_head_dim", 128))
    kernel = linear.count("short_conv_kernel_size", f.count("linear_conv_kernel_dim", 4))
    rank = 0 if linear.flag("use_full_rank_gate", False) else dim
    delta = DeltaAttention(heads, heads, dim, dim, kernel, channel_gate=True, gate_rank=rank)
    return chosen(named, {"linear_attention": lambda: delta}, lambda: latent_attention(f, style))


def lightning_or_attention(f: Fields, style: Style) -> list[Mixer | None]:
    """MiniMax-Text-01: lightning attention, which has the shapes of a delta net without a convolution, and softmax."""
    layers = depth(f)
    marks = f.counts("attn_type_list", layers) or [i % 2 for i in range(layers)]
    named = kinds(f, layers, lambda i: "full_attention" if marks[i] else "linear_attention", KINDS)
    softmax = self_attention(f, style)
    delta = DeltaAttention(softmax.heads, softmax.heads, softmax.head_dim, softmax.head_dim, conv_kernel=0)
    return chosen(named, {"linear_attention": lambda: delta}, lambda: softmax)


def mamba2(f: Fields) -> Mamba2:
    """A Mamba-2 block under the names of Mamba-2, Nemotron-H, Bamba and Granite hybrids."""
    hidden = f.count("hidden_size")
    expand = f.real("mamba_expand", f.real("expand", 2.0, least=1e-3), least=1e-3)
    head = f.count("mamba_d_head" if f.has("mamba_d_head") else "mamba_head_dim", f.count("head_dim", 64))
    heads = f.count(
        "mamba_n_heads" if f.has("mamba_n_heads") else "mamba_num_heads", max(1, int(hidden * expand) // head)
    )
    groups = f.count("mamba_n_groups" if f.has("mamba_n_groups") else "n_groups", 1)
    if heads % groups:
        raise f.error(f"`n_groups` must divide the number of state-space heads, and {groups} does not divide {heads}")
    return Mamba2(
        heads=heads,
        head_dim=head,
        state_dim=f.count(next((k for k in ("ssm_state_size", "mamba_d_state") if f.has(k)), "state_size"), 128),
        groups=groups,
        conv_kernel=f.count("mamba_d_conv" if f.has("mamba_d_conv") else "conv_kernel", 4),
        chunk=f.count("mamba_chunk_size" if f.has("mamba_chunk_size") else "chunk_size", 256),
        conv_bias=f.flag("mamba_conv_bias" if f.has("mamba_conv_bias") else "use_conv_bias", True),
        projection_bias=f.flag("mamba_proj_bias", f.flag("use_bias", False)),
    )


def mamba1(f: Fields, alone: bool = False) -> Mamba1:
    """A Mamba block under the names of Mamba, Falcon-Mamba and Jamba; ``alone``: ``intermediate_size`` is its width."""
    hidden = f.count("hidden_size")
    expand = f.real("mamba_expand", f.real("expand", 2.0, least=1e-3), least=1e-3)
    rank = next((k for k in ("mamba_dt_rank", "time_step_rank") if f.has(k) and f.find(k)[1] != "auto"), "")
    return Mamba1(
        inner=f.count("intermediate_size", max(1, int(expand * hidden))) if alone else max(1, int(expand * hidden)),
        state_dim=f.count("mamba_d_state" if f.has("mamba_d_state") else "state_size", 16),
        dt_rank=f.count(rank) if rank else -(-hidden // 16),
        conv_kernel=f.count("mamba_d_conv" if f.has("mamba_d_conv") else "conv_kernel", 4),
        conv_bias=f.flag("mamba_conv_bias" if f.has("mamba_conv_bias") else "use_conv_bias", True),
        projection_bias=f.flag("mamba_proj_bias", f.flag("use_bias", False)),
    )


def mamba1_layers(f: Fields, style: Style) -> list[Mixer | None]:
    """A Mamba block in every layer."""
    return [mamba1(f, alone=True)] * depth(f)


def mamba2_layers(f: Fields, style: Style) -> list[Mixer | None]:
    """A Mamba-2 block in every layer."""
    return [mamba2(f)] * depth(f)


def mamba2_or_attention(f: Fields, style: Style) -> list[Mixer | None]:
    """Mamba-2, with softmax attention in the layers that ``layer_types`` or ``attn_layer_indices`` name."""
    attention = set(f.counts("attn_layer_indices") or ())
    named = kinds(f, depth(f), lambda i: "attention" if i in attention else "mamba", KINDS)
    block = mamba2(f)
    return chosen(named, {"mamba": lambda: block, "linear_attention": lambda: block}, lambda: self_attention(f, style))


def mamba1_or_attention(f: Fields, style: Style) -> list[Mixer | None]:
    """Jamba: softmax attention in every ``attn_layer_period``-th layer, Mamba elsewhere."""
    period, offset = f.count("attn_layer_period", 8), f.count("attn_layer_offset", 4, least=0)
    named = kinds(f, depth(f), lambda i: "attention" if i % period == offset else "mamba", KINDS)
    block = mamba1(f)
    return chosen(named, {"mamba": lambda: block, "linear_attention": lambda: block}, lambda: self_attention(f, style))


def llama4_layers(f: Fields, style: Style) -> list[Mixer | None]:
    """Llama 4: every fourth layer has full attention without rotary positions, the others attend inside chunks."""
    layers, step = depth(f), f.count("no_rope_layer_interval", 4)
    rotary = f.counts("no_rope_layers") or [int((i + 1) % step != 0) for i in range(layers)]
    if len(rotary) != layers:
        raise f.error(f"`no_rope_layers` must have {layers} entries, as `num_hidden_layers` says, not {len(rotary)}")
    base = self_attention(f, style)
    chunk = f.count("attention_chunk_size", 0, least=0)
    return chosen(
        ["local" if on else "full" for on in rotary],
        {"local": lambda: replace(base, chunk=chunk)},
        lambda: replace(base, rope=False, query_norm=""),
    )


def chosen(named: list[str], table: dict[str, Callable[[], Mixer]], other: Callable[[], Mixer]) -> list[Mixer | None]:
    """One mixer per name, each built once and only if a layer has it."""
    built = {name: table.get(name, other)() for name in dict.fromkeys(named)}
    return [built[name] for name in named]
