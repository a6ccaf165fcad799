"""Which formats a checkpoint is stored in: ``dtype`` and ``quantization_config`` as the common tools write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import find_format
from ridgepoint.models.architecture import Precision
from ridgepoint.models.huggingface.fields import Fields, shown

UNQUANTIZED = ("embedding", "head", "router")
"""Every tool leaves these alone unless it says otherwise."""

_MODULES: dict[str, tuple[str, ...]] = {
    "attention": ("model.layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.o_proj"),
    "feed": ("model.layers.{}.mlp.up_proj", "model.layers.{}.mlp.down_proj"),
    "experts": (
        "model.layers.{}.mlp.experts.0.up_proj",
        "model.layers.{}.block_sparse_moe.experts.0.w1",
        "model.layers.{}.mlp.experts",
    ),
    "router": ("model.layers.{}.mlp.gate", "model.layers.{}.mlp.router", "model.layers.{}.block_sparse_moe.gate"),
    "embedding": ("model.embed_tokens",),
    "head": ("lm_head",),
}
"""What the modules of a component are called in checkpoints."""

_KEPT_KEYS = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "llm_int8_skip_modules")
_MOST_PATTERNS = 20_000


def read_precision(f: Fields, layers: int) -> tuple[Precision, tuple[str, ...]]:
    """The formats of the weights, and notes on what had to be assumed."""
    quantization = f.table("quantization_config") or f.table("compression_config")
    base, notes = _base(f, "weights" if quantization is None else "weights that are not quantized")
    if quantization is None:
        return Precision(base), notes
    weights = _weights(quantization)
    if weights is None:
        method = shown(quantization.find("quant_method")[1]) if quantization.has("quant_method") else "unnamed"
        return Precision(base), (*notes, f"the quantization {method} is not known here: weights counted as {base}")
    kept = {*_kept(quantization, layers), *UNQUANTIZED}
    if quantization.values.get("lm_head") is True:
        kept.discard("head")
    return Precision(weights, tuple((part, base) for part in _MODULES if part in kept)), notes


def _base(f: Fields, what: str) -> tuple[str, tuple[str, ...]]:
    if not f.has("dtype"):
        return "bf16", (f"the configuration names no dtype: {what} counted as bf16",)
    written = f.text("dtype").removeprefix("torch.")
    if written == "auto":
        return "bf16", (f"the configuration's dtype is 'auto': {what} counted as bf16",)
    try:
        return find_format(re.sub(r"^float8_.*", "fp8", written)).name, ()
    except RidgepointError as error:
        raise f.error(f"`{f.find('dtype')[0]}` must be a number format, not {shown(written)}", error.hint) from None


def _weights(q: Fields) -> str | None:
    """The format that a quantization writes weights in; ``None`` where the method is not known."""
    method = q.text("quant_method", "").lower()
    reader = _METHODS.get(method)
    if reader is not None:
        return reader(q)
    return _compressed(q) if q.has("config_groups") else None


def _fp8(q: Fields) -> str:
    return "fp8_block" if q.has("weight_block_size") else "fp8"


def _integer(key: str) -> Callable[[Fields], str]:
    def read(q: Fields) -> str:
        bits = q.count(key, 4)
        if bits not in (1, 2, 3, 4, 8):
            raise q.error(f"`{q.path}{key}` must be 1, 2, 3, 4 or 8, not {bits}")
        return f"int{bits}"

    return read


def _bitsandbytes(q: Fields) -> str:
    if q.flag("load_in_4bit", False):
        return {"fp4": "fp4"}.get(q.text("bnb_4bit_quant_type", "fp4"), "nf4")
    return "int8"


def _compressed(q: Fields) -> str | None:
    """compressed-tensors and ModelOpt: the first group with weights decides, its format's name first."""
    groups = q.table("config_groups")
    for key in groups.values if groups else ():
        group = groups.table(key) if groups else None
        weights = group.table("weights") if group else None
        if group is not None and weights is not None:
            named = _named(group.text("format", q.text("format", "")))
            return named or _from_scheme(weights)
    return _named(q.text("format", "")) or _named(q.text("quant_algo", ""))


def _named(text: str) -> str | None:
    """The format that a name such as ``mxfp4-pack-quantized`` or ``NVFP4`` starts with."""
    folded = text.lower().replace("_", "-")
    table = {
        "nvfp4": "nvfp4",
        "mxfp4": "mxfp4",
        "mxfp8": "mxfp8",
        "fp8": "fp8",
        "w4a16": "int4",
        "w4a8": "int4",
        "int8": "int8",
    }
    return next((name for start, name in table.items() if folded.startswith(start)), None)


def _from_scheme(weights: Fields) -> str | None:
    bits, kind = weights.count("num_bits", 8), weights.text("type", "int")
    group, strategy = weights.count("group_size", 0, least=-1), weights.text("strategy", "")
    if kind == "float":
        if bits == 4:
            return {16: "nvfp4", 32: "mxfp4"}.get(group, "fp4")
        return ("mxfp8" if group == 32 else "fp8_block" if strategy == "block" else "fp8") if bits == 8 else None
    return f"int{bits}" if bits in (1, 2, 3, 4, 8) else None


_METHODS: dict[str, Callable[[Fields], str | None]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "mxfp4": lambda q: "mxfp4",
    "gptq": _integer("bits"),
    "awq": _integer("bits"),
    "auto-round": _integer("bits"),
    "hqq": lambda q: _integer("nbits")(q.table("weight_quant_params") or q),
    "bitsandbytes": _bitsandbytes,
    "bitsandbytes_8bit": lambda q: "int8",
    "bitsandbytes_4bit": lambda q: "nf4",
    "eetq": lambda q: "int8",
    "bitnet": lambda q: "ternary",
    "compressed-tensors": _compressed,
    "modelopt": _compressed,
    "quark": lambda q: _named(q.text("quant_algo", "")),
}


def _kept(q: Fields, layers: int) -> set[str]:
    """The components that the quantization leaves in the base format, by the modules it lists."""
    patterns = [item for key in _KEPT_KEYS for item in q.items(key) or [] if isinstance(item, str)][:_MOST_PATTERNS]
    plain = {p for p in patterns if not p.startswith("re:") and "*" not in p}
    # "gate" or "model.layers.*.self_attn": a part of the module's path, or a pattern over it.
    parts = {p for p in plain if not re.search(r"\.\d+(\.|$)", p)}
    tests = [*(_part(p) for p in parts), *(_pattern(p) for p in patterns if p not in plain)]
    return {part for part, modules in _MODULES.items() if _is_kept(modules, layers, plain, tests)}


def _is_kept(modules: tuple[str, ...], layers: int, plain: set[str], tests: list[Callable[[str], Any]]) -> bool:
    """Whether the patterns name any kind of the component's modules, and in more than half of the layers."""
    for module in modules:
        if any(test(module.format(layers // 2)) for test in tests):
            return True
        listed = sum(any(_prefixes(module.format(i), plain)) for i in range(layers)) if plain else 0
        if listed * 2 > layers:
            return True
    return False


def _prefixes(module: str, plain: set[str]) -> list[bool]:
    """Whether the module or a module around it is listed by name."""
    parts = module.split(".")
    return [".".join(parts[:end]) in plain for end in range(len(parts), 0, -1)]


def _part(part: str) -> Callable[[str], Any]:
    return lambda module: f".{part}." in f".{module}."


def _pattern(pattern: str) -> Callable[[str], Any]:
    if not pattern.startswith("re:"):
        return lambda module: fnmatchcase(module, pattern) or fnmatchcase(module, f"{pattern}.*")
    text = pattern.removeprefix("re:")
    # Nested or long-winded repetition could run for ever; no tool writes it.
    if len(re.findall(r"[*+{]", text)) > 4 or re.search(r"[*+}]\)?[*+{]|\)[*+{]", text):
        return lambda module: False
    try:
        return re.compile(text).match
    except (re.error, OverflowError, RecursionError):
        return lambda module: False
