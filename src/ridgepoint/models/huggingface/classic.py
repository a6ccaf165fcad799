"""The GPT-2 lineage: learned or ALiBi positions, LayerNorm, biases, plain feed-forward parts; a function each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.style import Style

GPT2 = Style(
    tied=True, rope=False, learned=0, norm_bias=True, qkv_bias=True, output_bias=True, gated=False, feed_bias=True
)  # fmt: skip


def _quadruple(style: Style) -> Callable[[Fields], Style]:
    """The style with a feed-forward part four times as wide as the model where no key says otherwise."""
    return lambda f: replace(style, width=4 * f.count("hidden_size"))


def _bigcode(f: Fields) -> Style:
    style = _quadruple(GPT2)(f)
    return replace(style, kv_heads=1) if f.flag("multi_query", True) else style


def _gpt_neo(f: Fields) -> Style:
    return replace(_quadruple(GPT2)(f), qkv_bias=False, windows=_neo_windows)


def _neo_windows(f: Fields, layers: int) -> list[int]:
    """GPT-Neo writes ``attention_layers``, or ``attention_types`` as [[[kinds], repeats], …]."""
    written = f.items("attention_layers")
    if written is None:
        written = []
        for entry in f.items("attention_types") or []:
            if not (
                isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], list) and isinstance(entry[1], int)
            ):
                raise f.error('`attention_types` must be like [[["global", "local"], 12]]')
            written += entry[0] * min(max(entry[1], 0), layers)
    if written and len(written) != layers:
        raise f.error(f"`attention_layers` must name {layers} layers, as `num_layers` says, not {len(written)}")
    size = f.count("window_size", 256)
    return [size if kind == "local" else 0 for kind in written or ["global", "local"] * layers][:layers]


def _neox(f: Fields) -> Style:
    bias = f.flag("attention_bias", True)
    return replace(
        GPT2,
        tied=False,
        rope=True,
        learned=None,
        parallel=f.flag("use_parallel_residual", True),
        qkv_bias=bias,
        output_bias=bias,
    )


def _gptj(f: Fields) -> Style:
    style = replace(_quadruple(GPT2)(f), tied=False, rope=True, learned=None, parallel=True, norms=1, head_bias=True)
    return replace(style, qkv_bias=False, output_bias=False)


def _opt(f: Fields) -> Style:
    """Two rows more than positions; the 350M model embeds in 512 and normalises after each part."""
    width = f.count("word_embed_proj_dim", f.count("hidden_size"))
    weight = f.flag("layer_norm_elementwise_affine", True)
    bias = f.flag("enable_bias", True)
    final = f.flag("do_layer_norm_before", True) and not f.flag("_remove_final_layer_norm", False)
    return replace(
        GPT2, learned=2, final_norm=final, embedding_width=0 if width == f.count("hidden_size") else width,
        norm_weight=weight, norm_bias=weight, qkv_bias=bias, output_bias=bias, feed_bias=bias,
    )  # fmt: skip


def _bloom(f: Fields) -> Style:
    return replace(_quadruple(GPT2)(f), learned=None, embedding_norm=True)


def _falcon(f: Fields) -> Style:
    """7B: one key-value head, one norm, parallel. 40B and 180B: grouped heads, two norms. RW: neither, with ALiBi."""
    new, parallel = f.flag("new_decoder_architecture", False), f.flag("parallel_attn", True)
    heads = f.count("num_attention_heads")
    bias = f.flag("bias", False)
    own = f.count("num_ln_in_parallel_attn", 2) if new else 1
    return replace(
        _quadruple(GPT2)(f),
        learned=None,
        rope=not f.flag("alibi", False),
        parallel=parallel or new,
        norms=own if parallel or new else 2,
        kv_heads=f.count("num_key_value_heads", heads) if new else 1 if f.flag("multi_query", True) else heads,
        qkv_bias=bias,
        output_bias=bias,
        feed_bias=bias,
    )


def _mpt(f: Fields) -> Style:
    attention = f.table("attn_config") or Fields({}, f.where, "attn_config.")
    bias = not f.flag("no_bias", True)
    heads = f.count("num_attention_heads")
    grouped = attention.count("kv_n_heads", 1 if attention.text("attn_type", "") == "multiquery_attention" else heads)
    learned = f.flag("learned_pos_emb", True) and not attention.flag("alibi", True)
    width = int(f.real("expansion_ratio", 4.0, least=1e-3) * f.count("hidden_size"))
    return replace(
        GPT2, learned=0 if learned else None, norm_bias=bias, layer_norm=True, qkv_bias=bias, output_bias=bias, feed_bias=bias,
        kv_heads=grouped, width=max(width, 1), query_norm="full" if attention.flag("qk_ln", False) else "",
    )  # fmt: skip


def _phi(f: Fields) -> Style:
    return replace(GPT2, tied=False, rope=True, learned=None, parallel=True, norms=1, head_bias=True)


CLASSIC: dict[str, Callable[[Fields], Style]] = {
    "gpt2": _quadruple(GPT2),
    "gpt_bigcode": _bigcode,
    "gpt_neo": _gpt_neo,
    "gpt_neox": _neox,
    "gptj": _gptj,
    "codegen": _gptj,
    "opt": _opt,
    "bloom": _bloom,
    "falcon": _falcon,
    "refinedweb": _falcon,
    "refinedwebmodel": _falcon,
    "mpt": _mpt,
    "phi": _phi,
}
