"""What stands beside a language model: vision towers, counted where the keys say their size exactly, else noted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.towers import TOWERS, tower_parameters

Found = tuple[tuple[tuple[str, int], ...], tuple[str, ...]]

_KIMI_KEYS = {"hidden_size": "vt_hidden_size", "intermediate_size": "vt_intermediate_size",
              "num_attention_heads": "vt_num_attention_heads", "num_hidden_layers": "vt_num_hidden_layers"}  # fmt: skip


def vision_parameters(top: Fields, text_hidden: int) -> Found:
    """(name, parameters) of the parts beside the text model, and a note for those that could not be counted."""
    notes = [f"the part `{key}` is not counted" for key in ("audio_config",) if isinstance(top.values.get(key), dict)]
    vision = top.table("vision_config")
    if vision is None or not vision.values:
        return (), tuple(notes)
    wrapper = top.text("model_type").lower()
    join = _JOINS.get(wrapper)
    count = None if join is None else join(top, vision, text_hidden)
    if count is None:
        return (), (*notes, "the vision tower (`vision_config`) is not counted")
    return (("vision", count),), (*notes, "the vision tower is counted as parameters but is not part of the work")


def _mlp(inside: int, outside: int, bias: bool) -> int:
    return (inside + bias) * outside + (outside + bias) * outside


def _own(v: Fields) -> int | None:
    return tower_parameters(v, v.text("model_type").lower())


def _llava(top: Fields, v: Fields, hidden: int) -> int | None:
    """Two projections with an activation between."""
    own = _own(v)
    return (
        None if own is None else own + _mlp(v.count("hidden_size"), hidden, top.flag("multimodal_projector_bias", True))
    )


def _mistral3(top: Fields, v: Fields, hidden: int) -> int | None:
    """A norm, a merger of neighbouring patches, two projections."""
    own, width, merge = _own(v), v.count("hidden_size"), top.count("spatial_merge_size", 2) ** 2
    bias = top.flag("multimodal_projector_bias", False)
    return None if own is None else own + width + merge * width * width + _mlp(width, hidden, bias)


def _gemma(top: Fields, v: Fields, hidden: int) -> int | None:
    """Gemma 3: a norm and a projection."""
    own, width = _own(v), v.count("hidden_size")
    return None if own is None else own + _siglip_head(v) + width + width * hidden


def _paligemma(top: Fields, v: Fields, hidden: int) -> int | None:
    own, width = _own(v), v.count("hidden_size")
    return None if own is None else own + _siglip_head(v) + (width + 1) * top.count("projection_dim", hidden)


def _siglip_head(v: Fields) -> int:
    """A learned query that attends to the patches, with a feed-forward part of its own."""
    if not v.flag("vision_use_head", True):
        return 0
    width, wide = v.count("hidden_size"), v.count("intermediate_size")
    return width + 4 * (width + 1) * width + 2 * width + 2 * width * wide + wide + width


def _gemma4(top: Fields, v: Fields, hidden: int) -> int | None:
    own = tower_parameters(v, "gemma4_vision")
    return None if own is None else own + v.count("hidden_size") * hidden


def _qwen_merger(kind: str) -> Callable[[Fields, Fields, int], int | None]:
    """Neighbouring patches side by side through two projections; Qwen3-VL has such mergers at inner layers too."""

    def count(top: Fields, v: Fields, hidden: int) -> int | None:
        tower = TOWERS[kind]
        width = tower.width(v)
        merged = width * v.count("spatial_merge_size", 2) ** 2
        out = v.count("out_hidden_size", v.count("hidden_size"))
        projections = (merged + 1) * merged + (merged + 1) * out
        deep = len(v.items("deepstack_visual_indexes") or ())
        own = tower_parameters(v, kind)
        norm = (1 + tower.norm_bias) * width
        return None if own is None else own + norm + projections + deep * (2 * merged + projections)

    return count


def _llama4(top: Fields, v: Fields, hidden: int) -> int | None:
    own = tower_parameters(v, "llama4_vision_model")
    first, second = v.count("projector_input_dim", 4096), v.count("projector_output_dim", 4096)
    adapter = v.count("intermediate_size") * first + first * second
    return None if own is None else own + adapter + v.count("vision_output_dim", 4096) * hidden


def _kimi(top: Fields, v: Fields, hidden: int) -> int | None:
    v = Fields(
        {**v.values, **{key: v.values[old] for key, old in _KIMI_KEYS.items() if old in v.values}}, v.where, v.path
    )
    own, width = tower_parameters(v, "kimi_k25"), v.count("hidden_size")
    merge = 1
    for side in v.counts("merge_kernel_size") or [2, 2]:
        merge *= side
    merged = merge * width
    return None if own is None else own + 2 * width + (merged + 1) * merged + (merged + 1) * hidden


def _clip(top: Fields, v: Fields, hidden: int) -> int | None:
    """The tower, both projections into the shared space and the temperature."""
    own, shared = tower_parameters(v, "clip_vision_model"), top.count("projection_dim", 512)
    return None if own is None else own + (v.count("hidden_size") + hidden) * shared + 1


def _siglip(top: Fields, v: Fields, hidden: int) -> int | None:
    own = tower_parameters(v, "siglip_vision_model")
    return None if own is None else own + _siglip_head(v) + (hidden + 1) * hidden + 2


def _mllama(top: Fields, v: Fields, hidden: int) -> int | None:
    """Tiles with gated position tables, local and global layers, one projection."""
    width, wide, patch = v.count("hidden_size"), v.count("intermediate_size"), v.count("patch_size", 14)
    tokens = (v.count("image_size", 448) // patch) ** 2 + 1
    ratios = len(v.items("supported_aspect_ratios") or [0] * 8) + 1
    tiles = v.count("max_num_tiles", 4)
    tables = tokens * width + ratios * tiles * tokens * width + 2 * ratios * tiles * width + 3
    block = 4 * width * width + 2 * width * wide + wide + width + 4 * width
    layers, deep = v.count("num_hidden_layers"), v.count("num_global_layers", 8)
    first = v.count("num_channels", 3) * patch * patch * width + width + 4 * width
    return first + tables + (layers + deep) * block + 2 * deep + (v.count("vision_output_dim", 7680) + 1) * hidden


def _internvl(top: Fields, v: Fields, hidden: int) -> int | None:
    """InternViT with layer scales and no last norm; four neighbouring patches side by side, a norm, two projections."""
    width, wide, patch = v.count("hidden_size"), v.count("intermediate_size"), v.count("patch_size", 14)
    tokens = (v.count("image_size", 448) // patch) ** 2 + 1
    block = 4 * (width + 1) * width + 2 * width * wide + wide + width + 6 * width
    norms = 2 * v.count("num_hidden_layers") * width if v.flag("qk_normalization", False) else 0
    own = (3 * patch * patch + 2 + tokens) * width + v.count("num_hidden_layers") * block + norms
    return own + 8 * width + _mlp(4 * width, hidden, True)


_JOINS: Mapping[str, Callable[[Fields, Fields, int], int | None]] = {
    "llava": _llava,
    "mistral3": _mistral3,
    "gemma3": _gemma,
    "paligemma": _paligemma,
    "gemma4": _gemma4,
    "qwen2_vl": _qwen_merger("qwen2_vl"),
    "qwen2_5_vl": _qwen_merger("qwen2_5_vl"),
    "qwen3_vl": _qwen_merger("qwen3_vl"),
    "qwen3_vl_moe": _qwen_merger("qwen3_vl"),
    "qwen3_5": _qwen_merger("qwen3_vl"),
    "qwen3_5_moe": _qwen_merger("qwen3_vl"),
    "llama4": _llama4,
    "internvl_chat": _internvl,
    "kimi_k25": _kimi,
    "clip": _clip,
    "siglip": _siglip,
    "mllama": _mllama,
}
"""By wrapper: parameters of the tower and of what joins it to the language model."""
