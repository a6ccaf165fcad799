"""Attention and convolution side by side: Twins, DaViT, EdgeNeXt, FocalNet, TNT, HRNet's parallel maps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import ceil

from ridgepoint.models.networks.families.convolutions import conv_norm
from ridgepoint.models.networks.families.tokens import feed_forward, transformer_layer
from ridgepoint.models.networks.families.window_transformers import windows
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape


def _head(tape: Tape, net: Network, x: Map | Rows) -> None:
    with tape.scope("head"):
        y = tape.norm(tape.global_pool(x), "layer")
        if net.option("classes", 1000):
            tape.linear(y, net.option("classes", 1000), name="classifier")


@family("twins")
def twins(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Twins (Chu et al. 2021): attention to a shrunk map, in the SVT form after attention in windows.

    Options: ``dims``, ``depths``, ``heads``, ``feed`` ratios, ``shrink`` per stage, ``window`` (0: PCPVT), ``classes``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    for stage, (dim, depth) in enumerate(zip(net.option("dims"), net.option("depths"), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            size = 2 if stage else 4
            x = tape.conv(x, dim, size, size, bias=True, pad=0, name="patches")
            x = tape.norm(x, "layer", name="patch_norm")
            for index in range(depth):
                local = net.option("window", 0) and index % 2 == 0
                x = _twins_layer(tape, net, x, stage, float(net.option("window", 0)) if local else 0.0)
                if index == 0:
                    x = tape.add(tape.conv(x, dim, 3, groups=dim, bias=True, name="positions"))
    _head(tape, net, x)


def _twins_layer(tape: Tape, net: Network, x: Map, stage: int, window: float) -> Map:
    dim, heads, shrink = float(x.channels), net.option("heads")[stage], net.option("shrink", (8, 4, 2, 1))[stage]
    tape.norm(x, "layer", name="norm1")
    with tape.scope("attention"):
        if window:
            rows = keys = windows(tape, x, window)
            tape.linear(rows, 3.0 * dim, name="qkv")
        else:
            rows, source = tape.to_rows(x), x
            tape.linear(rows, dim, name="query")
            if shrink > 1:
                source = tape.conv(x, dim, shrink, shrink, bias=True, pad=0, name="reduce")
                source = tape.norm(source, "layer", name="reduce_norm")
            keys = tape.to_rows(source)
            tape.linear(keys, 2.0 * dim, name="key_value")
        tape.linear(tape.attend(rows, keys, heads, dim / heads), dim, name="output")
    x = tape.norm(tape.add(x), "layer", name="norm2")
    feed_forward(tape, tape.to_rows(x), net.option("feed", (4, 4, 4, 4))[stage] * dim)
    return tape.add(x)


def channel_attention(tape: Tape, x: Rows, heads: int, temperature: bool = False) -> Rows:
    """Attention between the channels of a head over all positions."""
    dim = float(x.channels)
    head_dim = dim / heads
    with tape.scope("attention"):
        tape.linear(x, 3.0 * dim, name="qkv")
        if temperature:
            tape.count("temperature", float(heads))
        tape.matmul(head_dim, head_dim, x.length, x.batch * heads, "channels")
        tape.softmax(x.batch * dim, head_dim)
        tape.matmul(head_dim, x.length, head_dim, x.batch * heads, "values")
        return tape.linear(x, dim, name="output")


@family("davit")
def davit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """DaViT (Ding et al. 2022): attention in windows, then between channels. Options: ``dims``, ``depths``, ``heads``,
    ``window`` (7), ``overlap`` (maps shrink by 3 × 3 convolutions), ``classes``.
    """
    size, pad = (3, 1) if net.option("overlap", False) else (2, 0)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    for stage, (dim, depth) in enumerate(zip(net.option("dims"), net.option("depths"), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                x = tape.conv(tape.norm(x, "layer", name="down_norm"), dim, size, 2, bias=True, pad=pad, name="down")
            else:
                x = tape.norm(tape.conv(x, dim, 7, 4, bias=True, pad=3, name="stem"), "layer", name="stem_norm")
            heads = net.option("heads")[stage]
            x = tape.repeat(depth, lambda y, h=heads: _dual_layer(tape, net, y, h), x)  # type: ignore[misc]
    _head(tape, net, x)


def _dual_layer(tape: Tape, net: Network, x: Map, heads: int) -> Map:
    dim = float(x.channels)
    for kind in ("window", "channel"):
        with tape.scope(kind):
            x = tape.add(tape.conv(x, dim, 3, groups=dim, bias=True, name="positions1"))
            tape.norm(x, "layer", name="norm1")
            if kind == "window":
                rows = windows(tape, x, float(net.option("window", 7)))
                tape.linear(rows, 3.0 * dim, name="qkv")
                tape.linear(tape.attend(rows, rows, heads, dim / heads), dim, name="output")
            else:
                channel_attention(tape, tape.to_rows(x), heads)
            x = tape.add(x)
            x = tape.add(tape.conv(x, dim, 3, groups=dim, bias=True, name="positions2"))
            feed_forward(tape, tape.norm(tape.to_rows(x), "layer", name="norm2"), 4.0 * dim)
            x = tape.add(x)
    return x


@family("edgenext")
def edgenext(tape: Tape, net: Network, sizes: Sizes) -> None:
    """EdgeNeXt (Maaz et al. 2022): depthwise convolutions of growing size, then convolutions on splits and attention
    between channels. Options: ``dims``, ``depths``, ``heads`` (8), ``strided`` (overlapping patches, first layers that
    shrink the map, convolutions without bias), ``classes``.
    """
    dims, strided = net.option("dims"), net.option("strided", False)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    kernel, pad = (9, 4) if strided else (4, 0)
    x = tape.norm(tape.conv(x, dims[0], kernel, 4, bias=not strided, pad=pad, name="stem"), "layer", name="stem_norm")
    for stage, (dim, depth) in enumerate(zip(dims, net.option("depths"), strict=True)):
        encode = partial(_encoder, tape, kernel=(3, 5, 7, 9)[stage], bias=not strided)
        with tape.scope(f"stage{stage + 1}"):
            if stage and strided:
                x = encode(x, out=dim, stride=2)
            elif stage:
                x = tape.conv(tape.norm(x, "layer", name="down_norm"), dim, 2, 2, bias=True, pad=0, name="down")
            x = tape.repeat(depth - 1 - (stage > 0 and strided) if stage else depth, encode, x)
            if stage:
                x = _split_encoder(tape, x, (2, 2, 3, 4)[stage], net.option("heads", 8), stage == 1, not strided)
    _head(tape, net, x)


def _scaled_feed(tape: Tape, x: Map) -> Map:
    dim = float(x.channels)
    feed_forward(tape, tape.norm(tape.to_rows(x), "layer"), 4.0 * dim)
    tape.count("layer_scale", dim)
    return tape.add(tape.scale(x))


def _encoder(tape: Tape, x: Map, kernel: int, bias: bool, out: int = 0, stride: int = 1) -> Map:
    y = tape.conv(x, out or x.channels, kernel, stride, x.channels, bias, name="depthwise")
    return _scaled_feed(tape, y)


def _split_encoder(tape: Tape, x: Map, splits: int, heads: int, positions: bool, bias: bool) -> Map:
    dim = int(x.channels)
    with tape.scope("split"):
        width = max(ceil(dim / splits), dim // splits)
        for index in range(max(1, splits - 1)):
            part = replace(x, channels=float(width))
            tape.conv(part, width, 3, groups=width, bias=bias, name=f"conv{index}")
        tape.move(x, name="concat")
        if positions:
            tape.conv(replace(x, batch=1.0, channels=64.0), dim, 1, bias=True, name="positions")
        channel_attention(tape, tape.norm(tape.to_rows(x), "layer", name="norm1"), heads, temperature=True)
        tape.count("layer_scale1", float(dim))
        return _scaled_feed(tape, tape.add(tape.scale(x)))


@family("focalnet")
def focalnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """FocalNet (Yang et al. 2022): contexts from growing depthwise convolutions modulate every position.

    Options: ``dim``, ``depths``, ``levels`` of context, ``window`` of the first (3), ``later`` version (overlapping
    patches, norms after, layer scale), ``modulation_norm``, ``classes``.
    """
    dim, later = net.option("dim"), net.option("later", False)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    for stage, depth in enumerate(net.option("depths")):
        with tape.scope(f"stage{stage + 1}"):
            size = 2 if stage else 4
            kernel, pad = (3 if stage else 7, 1 if stage else 2) if later else (size, 0)
            x = tape.conv(x, dim * 2**stage, kernel, size, bias=True, pad=pad, name="patches")
            x = tape.norm(x, "layer", name="patch_norm")
            x = tape.repeat(depth, lambda y: _focal_layer(tape, net, y), x)
    with tape.scope("head"):
        y = tape.global_pool(tape.norm(x, "layer"))
        if net.option("classes", 1000):
            tape.linear(y, net.option("classes", 1000), name="classifier")


def _focal_layer(tape: Tape, net: Network, x: Map) -> Map:
    dim, levels, later = float(x.channels), net.option("levels"), net.option("later", False)
    tape.norm(x, "layer", name="norm1")
    with tape.scope("modulation"):
        tape.conv(x, 2.0 * dim + levels + 1.0, 1, bias=True, name="project")
        for index in range(levels):
            kernel = net.option("window", 3) + 2 * index
            y = tape.activate(tape.conv(x, dim, kernel, groups=dim, name=f"context{index}"), 1.0)
            tape.add(tape.multiply(y, "gate"))
        tape.global_pool(x)
        tape.multiply(tape.conv(x, dim, 1, bias=True, name="mix"))
        if net.option("modulation_norm", False):
            tape.norm(x, "layer")
        tape.conv(x, dim, 1, bias=True, name="output")
    if later:
        tape.count("layer_scale", 2.0 * dim)
        tape.scale(x)
    x = tape.norm(tape.add(x), "layer", name="norm2")
    feed_forward(tape, tape.to_rows(x), 4.0 * dim)
    return tape.add(x)


@family("tnt")
def tnt(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Transformer in transformer (Han et al. 2021): each patch's 16 pixels attend to one another in a small one.

    Options: ``dim``, ``inner`` width, ``depth``, ``heads``, ``classes``.
    """
    dim, inner = net.option("dim"), net.option("inner")
    x = tape.conv(tape.image(3, sizes["image_px"], sizes["image_px"]), inner, 7, 4, bias=True, pad=3, name="pixels")
    patches = x.positions / 16.0
    pixels = Rows(x.batch * patches, 16.0, float(inner))
    tape.count("pixel_positions", 16.0 * inner)
    merged = Rows(x.batch, patches, 16.0 * inner)
    tape.norm(tape.linear(tape.norm(merged, "layer", name="norm1"), dim, name="merge"), "layer", name="norm2")
    tape.count("positions", (2.0 + (net.size("image_px") / 16.0) ** 2) * dim)
    rows = Rows(x.batch, patches + 1.0, float(dim))
    rows = tape.repeat(net.option("depth"), lambda y: _nested_layer(tape, net, y, pixels, merged), rows)
    with tape.scope("head"):
        tape.norm(rows, "layer")
        tape.linear(replace(rows, length=1.0), net.option("classes", 1000), name="classifier")


def _nested_layer(tape: Tape, net: Network, x: Rows, pixels: Rows, merged: Rows) -> Rows:
    dim, inner = net.option("dim"), net.option("inner")
    with tape.scope("inner"):
        transformer_layer(tape, pixels, 4, 4 * inner, qkv_bias=False)
        y = tape.linear(tape.norm(merged, "layer", name="merge_norm1"), dim, False, "merge")
        tape.add(tape.norm(y, "layer", name="merge_norm2"))
    return transformer_layer(tape, x, net.option("heads"), 4 * dim, qkv_bias=False)


@family("hrnet")
def hrnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """HRNet for classification (Wang et al. 2020): maps of four sizes side by side that exchange features.

    Options: ``width`` of the largest map, ``modules`` of the last three stages (1, 4, 3), ``classes``.
    """
    width = net.option("width")
    x = conv_norm(tape, tape.image(3, sizes["image_px"], sizes["image_px"]), 64, 3, 2, name="stem1")
    x = conv_norm(tape, x, 64, 3, 2, name="stem2")
    with tape.scope("stage1"):
        for _ in range(4):
            x = _bottleneck(tape, x, 64)
    maps = [conv_norm(tape, x, width, 3, name="start0"), conv_norm(tape, x, 2 * width, 3, 2, name="start1")]
    for stage, count in enumerate(net.option("modules", (1, 4, 3))):
        with tape.scope(f"stage{stage + 2}"):
            if stage:
                maps.append(conv_norm(tape, maps[-1], width * 2 ** (stage + 1), 3, 2, name="start"))
            for _ in range(count):
                maps = _exchange(tape, [_basic_blocks(tape, m, index) for index, m in enumerate(maps)])
    with tape.scope("head"):
        y = _bottleneck(tape, maps[0], 32)
        for index, level in enumerate(maps[1:]):
            down = conv_norm(tape, y, 256 * 2**index, 3, 2, name=f"down{index}")
            _bottleneck(tape, level, 64 * 2**index)
            y = tape.add(down)
        y = conv_norm(tape, y, 2048, 1, name="last")
        tape.linear(tape.global_pool(y), net.option("classes", 1000), name="classifier")


def _bottleneck(tape: Tape, x: Map, planes: int) -> Map:
    y = conv_norm(tape, conv_norm(tape, x, planes, 1, name="conv1"), planes, 3, name="conv2")
    y = conv_norm(tape, y, 4 * planes, 1, act="", name="conv3")
    if x.channels != 4 * planes:
        conv_norm(tape, x, 4 * planes, 1, act="", name="shortcut")
    return tape.activate(tape.add(y))


def _basic_blocks(tape: Tape, x: Map, branch: int) -> Map:
    def block(y: Map) -> Map:
        z = conv_norm(tape, conv_norm(tape, y, y.channels, 3, name="conv1"), y.channels, 3, act="", name="conv2")
        return tape.activate(tape.add(z))

    with tape.scope(f"branch{branch}"):
        return tape.repeat(4, block, x)


def _exchange(tape: Tape, maps: list[Map]) -> list[Map]:
    """Every map becomes the sum of all of them at its size."""
    with tape.scope("exchange"):
        for target, wanted in enumerate(maps):
            for source, given in enumerate(maps):
                y = given
                if source > target:
                    y = conv_norm(tape, y, wanted.channels, 1, act="", name=f"up{source}{target}")
                    tape.move(y, written=wanted.values, name="enlarge")
                for step in range(target - source):
                    last = step == target - source - 1
                    out = wanted.channels if last else y.channels
                    y = conv_norm(tape, y, out, 3, 2, act="" if last else "relu", name=f"down{source}{target}{step}")
                if source:
                    tape.add(wanted)
            tape.activate(wanted)
    return maps
