"""Hugging Face models as subjects: a ``config.json`` becomes the model that transformers builds from it, without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ridgepoint.capture.extra import needed
from ridgepoint.capture.kernels_as_calls import register
from ridgepoint.capture.library_kernels import library_kernels
from ridgepoint.capture.pytorch import Arguments, Subject
from ridgepoint.errors import RidgepointError
from ridgepoint.models.catalog import load_config

ATTENTION = "ridgepoint"
TASKS = ("prefill", "decode", "train", "forward")
IMAGES, SOUND, WORDS = "pixel_values", "input_features", "input_ids"


def read(path: Path) -> Any:
    """The configuration in a file, as transformers reads it.

    Errors: ``bad_config`` for a model type that transformers does not know.
    """
    transformers = needed("transformers", "capturing a Hugging Face model")
    file = path / "config.json" if path.is_dir() else path
    values = dict(load_config(file))
    kind = values.pop("model_type", None)
    mapping = transformers.CONFIG_MAPPING
    if kind not in mapping:
        raise RidgepointError(
            "bad_config",
            f"{file}: transformers {transformers.__version__} knows no model type '{kind}'",
            "use a newer transformers",
        )
    values.pop("quantization_config", None)
    return mapping[kind].from_dict(values)


def build(config: Any) -> Any:
    """The model of a configuration on the meta device, in its own format (16 bit where it says none)."""
    torch = needed("torch", "capturing a model")
    transformers = needed("transformers", "capturing a Hugging Face model")
    _attention_as_call()
    dtype = getattr(config, "dtype", None) or torch.bfloat16
    named = [getattr(transformers, name, None) for name in getattr(config, "architectures", None) or ()]
    chosen = next((c for c in named if c is not None), None)
    with torch.device("meta"):
        if chosen is not None:
            return chosen._from_config(config, dtype=dtype, attn_implementation=ATTENTION)
        for auto in _classes(config):
            if type(config) in auto._model_mapping:
                return auto.from_config(config, dtype=dtype, attn_implementation=ATTENTION)
    raise RidgepointError(
        "bad_config", f"transformers has no model class for {type(config).__name__}", "add its `architectures`"
    )


def subject(config: Any, task: str) -> Subject:
    """The model with the inputs of a task.

    Errors: ``bad_task`` for a task that the model does not have.
    """
    model = build(config)
    if task not in TASKS:
        raise RidgepointError("bad_task", f"nothing captures the task '{task}'", "use one of " + ", ".join(TASKS))
    takes = _parameters(model)
    generates = "logits_to_keep" in takes and WORDS in takes
    if task in ("prefill", "decode") and not generates:
        raise RidgepointError("bad_task", f"{type(model).__name__} generates no tokens", "use --task forward or train")
    arguments, sizes = _INPUTS[task](model, config, takes)
    return Subject(model, arguments, sizes, task, around=lambda: library_kernels(model))


def _classes(config: Any) -> tuple[Any, ...]:
    """Families of model classes in which a configuration that names none is looked for."""
    transformers = needed("transformers", "capturing a Hugging Face model")
    masked = transformers.AutoModelForMaskedLM
    heads: tuple[Any, ...]
    if getattr(config, "is_encoder_decoder", False):
        heads = (transformers.AutoModelForSpeechSeq2Seq, transformers.AutoModelForSeq2SeqLM)
    elif type(config) in masked._model_mapping and not getattr(config, "is_decoder", False):
        heads = (masked,)
    else:
        heads = (transformers.AutoModelForCausalLM, transformers.AutoModelForImageClassification)
    return (*heads, transformers.AutoModel)


def usual_tasks(config: Any) -> tuple[str, ...]:
    """What is captured where nothing is said: prefill and decode of a language model, else a forward pass."""
    transformers = needed("transformers", "capturing a Hugging Face model")
    causal = transformers.AutoModelForCausalLM
    named = " ".join(getattr(config, "architectures", None) or ())
    generates = causal in _classes(config) and type(config) in causal._model_mapping
    return ("prefill", "decode") if generates and ("LM" in named or not named) else ("forward",)


def _parameters(model: Any) -> set[str]:
    import inspect

    return set(inspect.signature(model.forward).parameters)


Made = tuple[Callable[[Mapping[str, int]], Arguments], dict[str, float]]


def _tokens(sizes: Mapping[str, int], length: int) -> Any:
    torch = needed("torch", "capturing a model")
    return torch.empty(sizes["batch"], length, dtype=torch.int64, device="meta")


def _prefill(model: Any, config: Any, takes: set[str]) -> Made:
    """The prompt; logits for its last position."""

    def arguments(sizes: Mapping[str, int]) -> Arguments:
        more = {"use_cache": False} if "use_cache" in takes else {}
        return {WORDS: _tokens(sizes, sizes["prompt"]), "logits_to_keep": 1, **more}, []

    return arguments, {"prompt": 1024.0, "batch": 1.0}


def _decode(model: Any, config: Any, takes: set[str]) -> Made:
    """One token after a cache of ``context`` − 1."""

    def arguments(sizes: Mapping[str, int]) -> Arguments:
        kept: list[Any] = []
        cache = _cache(sizes["context"] - 1, kept)
        return {WORDS: _tokens(sizes, 1), "past_key_values": cache, "use_cache": True}, kept

    return arguments, {"context": 1024.0, "batch": 1.0}


def _forward(model: Any, config: Any, takes: set[str]) -> Made:
    """Whatever the model's main input is: words, images or sound."""
    torch = needed("torch", "capturing a model")
    main = getattr(model, "main_input_name", WORDS)
    dtype = next(model.parameters()).dtype
    given: dict[str, tuple[int, ...]]
    more: dict[str, Any] = {"use_cache": False} if "use_cache" in takes else {}
    sizes = {"batch": 1.0}
    if main == IMAGES:
        side = getattr(config, "image_size", 224)
        height, width = side if isinstance(side, list | tuple) else (side, side)
        channels = getattr(config, "num_channels", 3)
        given = {main: (channels, height, width)}
    elif main == SOUND:
        given = {main: (config.num_mel_bins, 2 * config.max_source_positions)}
    else:
        given = {}
    words = WORDS in takes or "decoder_input_ids" in takes
    if words:
        sizes = {"seq": float(_length(config)), **sizes}

    def arguments(at: Mapping[str, int]) -> Arguments:
        made = {n: torch.empty(at["batch"], *dims, dtype=dtype, device="meta") for n, dims in given.items()}
        for name in (WORDS, "decoder_input_ids"):
            if name in takes and name not in made:
                made[name] = _tokens(at, at["seq"])
        return {**made, **more}, []

    return arguments, sizes


def _length(config: Any) -> int:
    """A usual length within the positions that the model has."""
    known = [getattr(config, name, None) for name in ("max_target_positions", "max_position_embeddings", "n_positions")]
    return int(min([1024, *(k for k in known if k)]) // 8 * 8)


def _train(model: Any, config: Any, takes: set[str]) -> Made:
    """The forward inputs, and labels where the model computes its own loss."""
    forward, sizes = _forward(model, config, takes)
    labelled = "labels" in takes and "seq" in sizes and WORDS in takes

    def arguments(at: Mapping[str, int]) -> Arguments:
        made, kept = forward(at)
        return ({**made, "labels": _tokens(at, at["seq"])} if labelled else made), kept

    return arguments, sizes


_INPUTS: dict[str, Callable[..., Made]] = {"prefill": _prefill, "decode": _decode, "forward": _forward, "train": _train}


def _attention_as_call() -> None:
    """Teaches transformers the attention call: grouped heads as they are, no mask tensors."""
    from transformers import AttentionInterface

    if ATTENTION in AttentionInterface._global_mapping:
        return
    ops = register()

    def attention(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, sliding_window: Any = None,
        is_causal: Any = None, **_: Any,
    ) -> tuple[Any, None]:  # fmt: skip
        causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
        out = ops.attention(query, key, value, None, causal, int(sliding_window or 0))
        return out.transpose(1, 2), None

    AttentionInterface.register(ATTENTION, attention)


def _cache(past: int, kept: list[Any]) -> Any:
    """A cache that holds ``past`` tokens when it is first used, and grows in place."""
    from transformers.cache_utils import Cache, DynamicLayer

    ops = register()

    class Grown(DynamicLayer):  # type: ignore[misc]
        """Keys and values of one layer, there before the step."""

        def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.keys, self.values = (_before(states, past) for states in (key_states, value_states))
            kept.extend((self.keys, self.values))

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            self.keys = ops.append(self.keys, key_states, -2)
            self.values = ops.append(self.values, value_states, -2)
            return self.keys, self.values

        def get_seq_length(self) -> Any:
            return self.keys.shape[-2] if self.is_initialized else past

    class GrownCache(Cache):  # type: ignore[misc]
        """The layers' caches, whose length is known before any is used."""

        def get_seq_length(self, *args: Any, **kwargs: Any) -> Any:
            return past

    return GrownCache(layer_class_to_replicate=Grown)


def _before(states: Any, past: int) -> Any:
    shape = list(states.shape)
    shape[-2] = past
    return states.new_empty(shape)
