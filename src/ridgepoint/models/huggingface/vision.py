"""Parameters of the vision tower beside a language model: counted where the keys say its size exactly, else noted."""

from __future__ import annotations

from collections.abc import Callable

from ridgepoint.models.huggingface.fields import Fields

Found = tuple[tuple[tuple[str, int], ...], tuple[str, ...]]

_NOTHING: Found = ((), ())
_PARTS = ("vision_config", "audio_config", "vision_tower")


def vision_parameters(top: Fields) -> Found:
    """(name, parameters) of the parts beside the text model, and a note for those that could not be counted."""
    vision = next((part for part in (top.table("vision_config"),) if part is not None), None)
    notes = [f"the part `{key}` is not counted" for key in _PARTS[1:] if isinstance(top.values.get(key), dict)]
    if vision is None or not vision.values:
        return (), tuple(notes)
    count = _TOWERS.get(top.text("model_type"))
    if count is None:
        return (), (*notes, "the vision tower (`vision_config`) is not counted")
    return (("vision", count(vision)),), (
        *notes,
        "the vision tower is counted as parameters but is not part of the work",
    )


def _qwen3_tower(v: Fields) -> int:
    """Qwen3-VL and Qwen3.5: patch convolution, position table, pre-norm blocks with biases, mergers."""
    hidden, wide = v.count("hidden_size"), v.count("intermediate_size")
    patch = v.count("in_channels", 3) * v.count("temporal_patch_size", 2) * v.count("patch_size", 16) ** 2
    stem = patch * hidden + hidden + v.count("num_position_embeddings", 2304) * hidden
    block = 4 * hidden + 4 * hidden * hidden + 4 * hidden + 2 * hidden * wide + wide + hidden
    merged = hidden * v.count("spatial_merge_size", 2) ** 2
    out = v.count("out_hidden_size")
    projections = merged * merged + merged + merged * out + out
    deep = len(v.items("deepstack_visual_indexes") or ())
    return stem + v.count("depth") * block + 2 * hidden + projections + deep * (2 * merged + projections)


_TOWERS: dict[str, Callable[[Fields], int]] = {
    "qwen3_vl": _qwen3_tower,
    "qwen3_vl_moe": _qwen3_tower,
    "qwen3_5": _qwen3_tower,
    "qwen3_5_moe": _qwen3_tower,
}
