"""Vision towers: a stack like any other, behind a patch projection. A table says how the families differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ridgepoint.models.architecture import Embedding, FeedForward, Layer, Model, SelfAttention, Stack
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.style import finish, head_dim
from ridgepoint.models.parameters import stack_parameters


def _none(v: Fields, tokens: int) -> int:
    return 0


@dataclass(frozen=True)
class Tower:
    """How a family of towers differs from CLIP's (patches with a class token, LayerNorms, biases everywhere)."""

    class_token: int = 1
    patch_bias: bool = False
    temporal: int = 1
    """Frames in a patch where no key says it."""
    positions: Callable[[Fields, int], int] = lambda v, tokens: tokens
    """Rows of the position table, from the number of tokens of an image."""
    pre_norm: bool = True
    final_norm: bool = True
    norms: int = 2
    norm_bias: bool = True
    gated: bool = False
    bias: bool = True
    feed_bias: bool = True
    query_norm: str = ""
    width: Callable[[Fields], int] = lambda v: v.count("hidden_size")
    wide: Callable[[Fields], int] = lambda v: v.count("intermediate_size")
    layers: str = "num_hidden_layers"


TOWERS: Mapping[str, Tower] = {
    "clip_vision_model": Tower(),
    "siglip_vision_model": Tower(class_token=0, patch_bias=True, pre_norm=False),
    "vit": Tower(patch_bias=True, pre_norm=False),
    "deit": Tower(class_token=2, patch_bias=True, pre_norm=False),
    "pixtral": Tower(
        class_token=0, positions=_none, final_norm=False, norm_bias=False, gated=True, bias=False, feed_bias=False
    ),
    "qwen2_vl": Tower(
        class_token=0, temporal=2, positions=_none, pre_norm=False, final_norm=False,
        width=lambda v: v.count("embed_dim"), layers="depth",
        wide=lambda v: int(v.count("embed_dim") * v.real("mlp_ratio", 4.0, least=0.01, most=100.0)),
    ),
    "qwen2_5_vl": Tower(
        class_token=0, temporal=2, positions=_none, pre_norm=False, final_norm=False, norm_bias=False, gated=True,
        layers="depth",
    ),
    "qwen3_vl": Tower(
        class_token=0, patch_bias=True, temporal=2, positions=lambda v, n: v.count("num_position_embeddings", 2304),
        pre_norm=False, final_norm=False, layers="depth",
    ),
    "gemma4_vision": Tower(
        class_token=0, positions=lambda v, n: 2 * v.count("position_embedding_size", 10240), pre_norm=False,
        final_norm=False, norms=4, norm_bias=False, gated=True, bias=False, feed_bias=False, query_norm="head",
    ),
    "llama4_vision_model": Tower(),
    "kimi_k25": Tower(
        class_token=0, patch_bias=True, pre_norm=False,
        positions=lambda v, n: v.count("init_pos_emb_height", 64) * v.count("init_pos_emb_width", 64),
    ),
}  # fmt: skip
TOWERS = {
    **TOWERS,
    "qwen3_vl_moe": TOWERS["qwen3_vl"],
    "qwen3_5": TOWERS["qwen3_vl"],
    "qwen3_5_moe": TOWERS["qwen3_vl"],
}


def tower_stack(v: Fields, tower: Tower) -> Stack:
    """The layers of a tower."""
    hidden = tower.width(v)
    heads = v.count("num_attention_heads")
    width = head_dim(Fields({"hidden_size": hidden, "head_dim": v.values.get("head_dim")}, v.where, v.path), heads)
    bias = v.flag("qkv_bias", tower.bias)
    mixer = SelfAttention(
        heads, heads, width, bias=bias, output_bias=tower.bias, rope=False, query_norm=tower.query_norm
    )  # fmt: skip
    layer = Layer(mixer, FeedForward(tower.wide(v), tower.gated, tower.feed_bias), tower.norms, tower.norm_bias)
    layers = ((layer, v.count(tower.layers)),)
    return Stack(hidden, layers, causal=False, final_norm=tower.final_norm, norm_bias=tower.norm_bias)


def stem(v: Fields, tower: Tower) -> dict[str, int]:
    """Parameters before the layers: patch projection, class tokens, positions, first norm."""
    hidden, patch = tower.width(v), v.count("patch_size", 16)
    frames = v.count("temporal_patch_size", tower.temporal)
    channels = v.count(next((k for k in ("num_channels", "in_channels") if v.has(k)), "in_chans"), 3)
    tokens = (v.count("image_size", 224) // patch) ** 2 + tower.class_token
    return {
        "patches": (channels * frames * patch * patch + tower.patch_bias) * hidden,
        "class_token": tower.class_token * hidden,
        "positions": tower.positions(v, tokens) * hidden,
        "first_norm": tower.pre_norm * (1 + tower.norm_bias) * hidden,
    }


def read_classifier(f: Fields, name: str) -> Model:
    """An image classifier (ViT, DeiT): the tower is an encoder, its projection and classifier are counted."""
    tower = TOWERS[f.text("model_type", "vit").lower()]
    parts = stem(f, tower)
    labels = f.table("id2label")
    classes = len(labels.values) if labels else f.count("num_labels", 1000)
    other = {**parts, "classifier": classes * (tower.width(f) + 1)}
    rows = tower.positions(f, (f.count("image_size", 224) // f.count("patch_size", 16)) ** 2 + tower.class_token)
    del other["positions"]
    notes = ("the patch projection and the classifier are counted as parameters but are not part of the work",)
    table = Embedding(vocab=0, head=False, learned_positions=rows)
    model = Model(name, table, encoder=tower_stack(f, tower), notes=notes,
                  other_parameters=tuple((key, n) for key, n in other.items() if n))  # fmt: skip
    return finish(f.with_defaults({"max_position_embeddings": rows}), model)


def tower_parameters(v: Fields, kind: str) -> int | None:
    """Parameters of a tower without what joins it to a language model; ``None`` for an unknown kind."""
    tower = TOWERS.get(kind)
    if tower is None:
        return None
    v = v.with_defaults({"num_attention_heads": v.values.get("num_heads", 1)})
    return sum(stem(v, tower).values()) + int(sum(stack_parameters(tower_stack(v, tower)).values()))
