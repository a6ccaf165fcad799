"""Which family a configuration belongs to, and the model that it describes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import Model
from ridgepoint.models.huggingface.classic import CLASSIC
from ridgepoint.models.huggingface.decoders import DECODERS, unknown
from ridgepoint.models.huggingface.encoders import ENCODERS
from ridgepoint.models.huggingface.fields import MISSING, Fields, shown
from ridgepoint.models.huggingface.hybrids import HYBRIDS
from ridgepoint.models.huggingface.recurrences import RECURRENCES
from ridgepoint.models.huggingface.side_by_side import read_falcon_h1, read_longcat
from ridgepoint.models.huggingface.style import Style, read_decoder
from ridgepoint.models.huggingface.vision import vision_parameters

Reader = Callable[[Fields, str], Model]

_STYLES: Mapping[str, Style | Callable[[Fields], Style]] = {**DECODERS, **CLASSIC, **HYBRIDS, **RECURRENCES}
_READERS: Mapping[str, Reader] = {**ENCODERS, "falcon_h1": read_falcon_h1, "longcat_flash": read_longcat}
_LLAMA_LIKE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
_INHERITED = ("tie_word_embeddings", "dtype", "torch_dtype", "quantization_config", "compression_config")
_ENDINGS = re.compile(
    r"(ForCausalLM|ForConditionalGeneration|LMHeadModel|ForMaskedLM|ForPreTraining|ForSequenceClassification|Model)$"
)
_REFUSED: Mapping[str, str] = {
    "zamba": "its layers share their weights",
    "zamba2": "its layers share their weights",
    "lfm2": "its mixers have no description yet",
    "xlnet": "its two-stream attention has no description yet",
    "gemma3n": "its embeddings per layer have no description yet",
}
"""Families that have the usual keys and would be read wrongly."""


def read_config(config: Mapping[str, Any], where: str, name: str) -> Model:
    """The model that a ``config.json`` describes; ``where`` names the file in errors, ``name`` the model.

    >>> small = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    ...          "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 1000, "torch_dtype": "bfloat16"}
    >>> model = read_config(small, "config.json", "small")
    >>> model.main.depth, model.main.layers[0][0].mixer.kv_heads
    (2, 2)

    Errors: ``bad_config`` with file, key and expectation.
    """
    if not isinstance(config, Mapping):
        raise RidgepointError("bad_config", f"{where}: it must hold a JSON object, not {shown(config)}")
    top = Fields(config, where)
    text = _text(top)
    family = _family(text, top)
    reader = _reader(family)
    if family in _REFUSED:
        raise text.error(
            f"the family '{family}' cannot be described: {_REFUSED[family]}",
            "`ridgepoint models list` shows models that can",
        )
    model = reader(text, name) if reader else _unknown(text, name, family)
    other, notes = vision_parameters(top, model.hidden)
    return replace(model, other_parameters=(*model.other_parameters, *other), notes=(*model.notes, *notes))


def model_types() -> list[str]:
    """The model types that are read as themselves.

    >>> {"llama", "deepseek_v3", "bert", "t5", "mamba2"} <= set(model_types())
    True
    """
    return sorted({*_STYLES, *_READERS})


def _text(top: Fields) -> Fields:
    """The part that describes the language model; it inherits what wrappers write once for all parts."""
    outer = top.table("thinker_config") or top
    for key in _TEXT_CONFIGS:
        inner = outer.table(key)
        if inner is not None:
            inherited = {k: top.values[k] for k in _INHERITED if top.values.get(k) is not None}
            if any(inner.values.get(k) is not None for k in ("dtype", "torch_dtype")):
                inherited = {k: v for k, v in inherited.items() if "dtype" not in k}
            own = {k: v for k, v in inner.values.items() if v is not None}
            if "tie_word_embeddings" in inherited:  # the wrapper has the head, so it decides
                own.pop("tie_word_embeddings", None)
            return replace(inner, values={**inherited, **own})
    return top


def _family(text: Fields, top: Fields) -> str:
    """``model_type``, or what the name of the architecture's class says; folded to lower case with underscores."""
    for fields in (text, top):
        written = fields.text("model_type")
        if written:
            return _fold(written)
        for item in fields.items("architectures") or ():
            if isinstance(item, str):
                return _from_class(_ENDINGS.sub("", item))
    return ""


def _from_class(stem: str) -> str:
    """``Qwen3Moe`` → ``qwen3_moe``: the known family that is spelt alike but for underscores."""
    spelt = {known.replace("_", ""): known for known in (*_STYLES, *_READERS, *_REFUSED)}
    return spelt.get(stem.lower(), stem.lower())


def _fold(model_type: str) -> str:
    return model_type.lower().replace("-", "_").replace(".", "_")[:80]


def _reader(family: str) -> Reader | None:
    if family in _READERS:
        return _READERS[family]
    if family in _STYLES:
        style = _STYLES[family]
        return lambda f, name: read_decoder(f, style if isinstance(style, Style) else style(f), name)
    return None


def _unknown(f: Fields, name: str, family: str) -> Model:
    missing = [key for key in _LLAMA_LIKE if f.find(key)[1] is MISSING]
    called = f"model_type '{family}' is not known" if family else "`model_type` is missing"
    if missing:
        keys = ", ".join(f"`{f.path}{key}`" for key in missing)
        raise f.error(
            f"{called}, and to be read as a Llama-like decoder it lacks {keys}",
            "add the keys or write the model's type",
        )
    model = read_decoder(f, unknown(f), name)
    return replace(
        model, notes=(*model.notes, f"{called}: read as a Llama-like decoder, which may miss what is special in it")
    )
