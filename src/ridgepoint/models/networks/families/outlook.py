"""Hybrids with their own mixers: VOLO's outlooks, GC-ViT's global queries, EfficientFormer's pools, FastViT's branches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.models.networks.families.bespoke import branched
from ridgepoint.models.networks.families.convolutions import classifier, conv_norm, rounded, squeeze_excite
from ridgepoint.models.networks.families.tokens import attention, feed_forward, transformer_layer
from ridgepoint.models.networks.families.window_transformers import windows
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


@family("volo")
def volo(tape: Tape, net: Network, sizes: Sizes) -> None:
    """VOLO (Yuan et al. 2022): every position's weights over its neighbourhood come from the position itself.

    Options: ``dims`` and ``heads`` of the outlooks and of the attention, ``depths`` of both, ``stem`` width, ``feed``
    ratio, ``classes``.
    """
    (near, dim), (near_heads, heads), (outlooks, depth) = net.option("dims"), net.option("heads"), net.option("depths")
    stem, feed, classes = net.option("stem", 64), net.option("feed", 3), net.option("classes", 1000)
    x = conv_norm(tape, tape.image(3, sizes["image_px"], sizes["image_px"]), stem, 7, 2, name="stem1")
    x = conv_norm(tape, conv_norm(tape, x, stem, 3, name="stem2"), stem, 3, name="stem3")
    x = tape.conv(x, near, 4, 4, bias=True, pad=0, name="patches")
    with tape.scope("outlooks"):
        x = tape.repeat(outlooks, lambda y: _outlook(tape, y, near_heads, feed), x)
    x = tape.conv(x, dim, 2, 2, bias=True, pad=0, name="down")
    tape.count("positions", (net.size("image_px") / 16.0) ** 2 * dim)
    rows = tape.to_rows(tape.add(x, "positions"))
    with tape.scope("attention"):
        rows = tape.repeat(depth, lambda y: transformer_layer(tape, y, heads, feed * dim, qkv_bias=False), rows)
    with tape.scope("class"):
        tape.count("token", float(dim))
        everything = replace(rows, length=rows.length + 1.0)
        everything = tape.repeat(2, lambda y: _class_layer(tape, y, heads, feed * dim), everything)
    with tape.scope("head"):
        tape.norm(everything, "layer")
        tape.linear(replace(rows, length=1.0), classes, name="classifier")
        tape.linear(rows, classes, name="auxiliary")


def _outlook(tape: Tape, x: Map, heads: int, feed: int) -> Map:
    dim = float(x.channels)
    rows = tape.to_rows(tape.norm(x, "layer", name="norm1"))
    with tape.scope("outlook"):
        tape.linear(rows, dim, False, "values")
        tape.move(x, written=x.values * 9.0 / 4.0, name="unfold")
        down = tape.pool(x, 2, 2)
        weights = tape.linear(tape.to_rows(down), 81.0 * heads, name="weights")
        tape.softmax(weights.values / 9.0, 9.0)
        tape.matmul(9.0, dim / heads, 9.0, down.batch * down.positions * heads, "weighted")
        tape.move(x, written=x.values * 9.0 / 4.0, name="fold")
        tape.linear(rows, dim, name="output")
    x = tape.norm(tape.add(x), "layer", name="norm2")
    feed_forward(tape, tape.to_rows(x), feed * dim)
    return tape.add(x)


def _class_layer(tape: Tape, x: Rows, heads: int, feed: float) -> Rows:
    tape.norm(x, "layer", name="norm1")
    token = replace(x, length=1.0)
    y = tape.norm(tape.add(attention(tape, token, heads, context=x, bias=False)), "layer", name="norm2")
    tape.add(feed_forward(tape, y, feed))
    return x


@family("gcvit")
def gcvit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """GC-ViT (Hatamizadeh et al. 2023): windows ask with their own queries, or with queries pooled from the whole map.

    Options: ``dim``, ``depths``, ``heads``, ``feed`` ratio, ``shares`` (the window's part of the image per stage),
    ``layer_scale``, ``classes``.
    """
    image = sizes["image_px"]
    x = tape.conv(tape.image(3, image, image), net.option("dim"), 3, 2, bias=True, name="stem")
    with tape.scope("stem_down"):
        x = _gc_down(tape, x, net.option("dim"))
    for stage, depth in enumerate(net.option("depths")):
        with tape.scope(f"stage{stage + 1}"):
            x = _gc_down(tape, x, int(x.channels) * 2) if stage else x
            share = net.option("shares", (32, 32, 16, 32))[stage]
            _global_queries(tape, x, stage, share)
            for index in range(depth):
                x = _gc_layer(tape, net, x, net.option("heads")[stage], image / share, asked=index % 2 == 1)
    classifier(tape, tape.norm(x, "layer", name="last_norm"), net.option("classes", 1000))


def _fused(tape: Tape, x: Map, name: str) -> Map:
    """A depthwise and a pointwise convolution with channel attention between them, added to their input."""
    with tape.scope(name):
        y = tape.activate(tape.conv(x, x.channels, 3, groups=x.channels, name="depthwise"), 1.0)
        y = squeeze_excite(tape, y, rounded(float(x.channels) / 4.0, 8, limit=0.0), bias=False)
        return tape.add(tape.conv(y, x.channels, 1, name="project"))


def _gc_down(tape: Tape, x: Map, out: int) -> Map:
    x = _fused(tape, tape.norm(x, "layer", name="down_norm1"), "down_block")
    return tape.norm(tape.conv(x, out, 3, 2, name="down"), "layer", name="down_norm2")


def _global_queries(tape: Tape, x: Map, stage: int, share: int) -> None:
    halvings = {32: 3, 16: 2}[share] - stage
    for index in range(max(1, halvings)):
        x = _fused(tape, x, f"query{index}")
        x = tape.pool(x, 3, 2, pad=1) if index < halvings else x


def _gc_layer(tape: Tape, net: Network, x: Map, heads: int, window: Num, asked: bool) -> Map:
    dim, scaled = float(x.channels), net.option("layer_scale", False)
    tape.norm(x, "layer", name="norm1")
    rows = windows(tape, x, window)
    with tape.scope("attention"):
        tape.linear(rows, (2.0 if asked else 3.0) * dim, name="qkv")
        tape.count("relative_positions", float(np.max((2.0 * window - 1.0) ** 2)) * heads)
        tape.linear(tape.attend(rows, rows, heads, dim / heads), dim, name="output")
    if scaled:
        tape.count("layer_scale", 2.0 * dim)
        tape.scale(x)
    x = tape.norm(tape.add(x), "layer", name="norm2")
    feed_forward(tape, tape.to_rows(x), net.option("feed", 3) * dim)
    return tape.add(x)


@family("efficientformer")
def efficientformer(tape: Tape, net: Network, sizes: Sizes) -> None:
    """EfficientFormer (Li et al. 2022): pools mix positions, attention only in the last layers.

    Options: ``dims``, ``depths``, ``attentive`` (how many last layers), ``classes``.
    """
    dims, last = net.option("dims"), net.option("attentive")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    for index, width in enumerate((dims[0] // 2, dims[0])):
        x = tape.activate(
            tape.norm(tape.conv(x, width, 3, 2, bias=True, name=f"stem{index}"), name=f"stem_norm{index}")
        )
    for stage, (dim, depth) in enumerate(zip(dims, net.option("depths"), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                x = tape.norm(tape.conv(x, dim, 3, 2, bias=True, name="down"), name="down_norm")
            pooled = depth - (last if stage == 3 else 0)
            x = tape.repeat(pooled, lambda y: _pool_layer(tape, y), x)
    rows = tape.repeat(last, lambda y: _wide_layer(tape, y), tape.to_rows(x))
    with tape.scope("head"):
        y = tape.global_pool(tape.norm(rows, "layer"))
        for name in ("classifier", "classifier_distilled"):
            tape.linear(y, net.option("classes", 1000), name=name)


def _pool_layer(tape: Tape, x: Map) -> Map:
    dim = float(x.channels)
    tape.pool(x, 3, 1, pad=1)
    tape.count("layer_scales", 2.0 * dim)
    x = tape.add(tape.scale(x))
    y = tape.activate(tape.norm(tape.conv(x, 4.0 * dim, 1, bias=True, name="up"), name="up_norm"), 1.0)
    y = tape.norm(tape.conv(y, dim, 1, bias=True, name="down"), name="down_norm")
    return tape.add(tape.scale(y))


def _wide_layer(tape: Tape, x: Rows) -> Rows:
    """Attention of eight heads with keys of 32 and values of 128."""
    dim = float(x.channels)
    tape.norm(x, "layer", name="norm1")
    with tape.scope("attention"):
        tape.linear(x, 8.0 * (2.0 * 32.0 + 128.0), name="qkv")
        tape.count("biases", 8.0 * float(np.max(x.length)))
        tape.matmul(x.length, x.length, 32.0, x.batch * 8.0, "scores")
        tape.softmax(x.batch * 8.0 * x.length, x.length)
        tape.matmul(x.length, 128.0, x.length, x.batch * 8.0, "values")
        tape.linear(replace(x, channels=1024.0), dim, name="output")
    tape.count("layer_scales", 2.0 * dim)
    x = tape.norm(tape.add(tape.scale(x)), "layer", name="norm2")
    return tape.add(tape.scale(feed_forward(tape, x, 4.0 * dim)))


@family("fastvit")
def fastvit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """FastViT (Vasu et al. 2023) with its training-time branches.

    Options: ``dims``, ``depths``, ``feed`` ratio, ``attentive`` (attention in the last stage), ``squeezed`` stages
    (channel attention where they shrink the map), ``classes``.
    """
    dims, feed, attentive = net.option("dims"), net.option("feed", 4), net.option("attentive", False)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    for index, (kernel, stride, groups) in enumerate(((3, 2, 1), (3, 2, dims[0]), (1, 1, 1))):
        with tape.scope(f"stem{index}"):
            x = branched(tape, x, dims[0], kernel, stride, groups, 1, special=1.0)
    for stage, (dim, depth) in enumerate(zip(dims, net.option("depths"), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            x = _large_down(tape, x, dim, stage in net.option("squeezed", ())) if stage else x
            last = attentive and stage == len(dims) - 1
            if last:
                x = tape.add(tape.conv(x, dim, 7, groups=dim, bias=True, name="positions"))
            x = tape.repeat(depth, lambda y, last=last: _fast_layer(tape, y, feed, last), x)  # type: ignore[misc]
    with tape.scope("last"):
        x = branched(tape, x, 2 * dims[-1], 3, 1, dims[-1], 1, se=True, special=1.0)
    classifier(tape, x, net.option("classes", 1000))


def _large_down(tape: Tape, x: Map, out: int, squeezed: bool) -> Map:
    """Kernels of 7 and 3 side by side, then a pointwise block."""
    with tape.scope("down"):
        y = conv_norm(tape, x, out, 7, 2, x.channels, "", name="large")
        tape.add(conv_norm(tape, x, out, 3, 2, x.channels, "", name="small"))
        y = squeeze_excite(tape, y, rounded(out / 4, 1)) if squeezed else y
        return branched(tape, y, out, 1, 1, 1, 1, special=1.0)


def _fast_layer(tape: Tape, x: Map, feed: float, attentive: bool) -> Map:
    dim = int(x.channels)
    if attentive:
        rows = tape.to_rows(tape.norm(x, name="norm"))
        tape.linear(rows, 3.0 * dim, False, "qkv")
        tape.linear(tape.attend(rows, rows, dim / 32.0, 32.0), dim, name="output")
        tape.count("layer_scale", float(dim))
        x = tape.add(tape.scale(x))
    else:
        with tape.scope("mixer"):
            tape.norm(x, name="norm")
            y = conv_norm(tape, x, dim, 3, 1, dim, "", name="conv")
            tape.add(conv_norm(tape, x, dim, 1, 1, dim, "", name="pointwise"))
            tape.norm(tape.add(y), name="identity")
            tape.count("layer_scale", float(dim))
            x = tape.add(tape.scale(y))
    with tape.scope("feed"):
        y = conv_norm(tape, x, dim, 7, 1, dim, "", name="depthwise")
        y = tape.activate(tape.conv(y, feed * dim, 1, bias=True, name="up"), 1.0)
        y = tape.conv(y, dim, 1, bias=True, name="down")
        tape.count("layer_scale", float(dim))
        return tape.add(tape.scale(y))
