"""Transformers over a pyramid of maps: PVT v2 and SegFormer, SAM's image encoder, Hiera."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from ridgepoint.models.networks.families.convolutions import concatenate, conv_norm
from ridgepoint.models.networks.families.tokens import feed_forward
from ridgepoint.models.networks.families.window_transformers import windows
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


@family("pyramid")
def pyramid(tape: Tape, net: Network, sizes: Sizes) -> None:
    """PVT v2 (Wang et al. 2022), and SegFormer (Xie et al. 2021), whose decoder joins all four maps.

    Options: ``dims``, ``depths``, ``heads``, ``feed`` ratios, ``shrink`` of keys and values per stage, ``pooled`` (keys and
    values from a 7 × 7 pool instead), ``decoder`` width of SegFormer (0: a classifier), ``classes``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    maps = []
    for stage, dim in enumerate(net.option("dims")):
        with tape.scope(f"stage{stage + 1}"):
            x = tape.conv(x, dim, 3 if stage else 7, 2 if stage else 4, bias=True, name="patches")
            x = tape.norm(x, "layer", name="patch_norm")
            x = tape.repeat(net.option("depths")[stage], lambda y, s=stage: _reduced_layer(tape, net, y, s), x)  # type: ignore[misc]
            maps.append(tape.norm(x, "layer", name="last_norm"))
    classes = net.option("classes", 1000)
    if net.option("decoder", 0):
        _decoder(tape, maps, net.option("decoder"), classes)
        return
    with tape.scope("head"):
        tape.linear(tape.global_pool(x), classes, name="classifier")


def _reduced_layer(tape: Tape, net: Network, x: Map, stage: int) -> Map:
    dim, heads = float(x.channels), net.option("heads")[stage]
    shrink, pooled = net.option("shrink", (8, 4, 2, 1))[stage], net.option("pooled", False)
    tape.norm(x, "layer", name="norm1")
    with tape.scope("attention"):
        rows = tape.linear(tape.to_rows(x), dim, name="query")
        source = x
        if pooled:
            source = tape.conv(replace(x, height=7.0, width=7.0), dim, 1, bias=True, name="reduce")
        elif shrink > 1:
            source = tape.conv(x, dim, shrink, shrink, bias=True, pad=0, name="reduce")
        if source is not x:
            tape.norm(source, "layer", name="reduce_norm")
        keys = tape.to_rows(source)
        tape.linear(keys, 2.0 * dim, name="key_value")
        tape.linear(tape.attend(rows, keys, heads, dim / heads), dim, name="output")
    x = tape.norm(tape.add(x), "layer", name="norm2")
    with tape.scope("feed"):
        wide = tape.linear(tape.to_rows(x), net.option("feed", (8, 8, 4, 4))[stage] * dim, name="up")
        y = tape.to_map(wide, x.height, x.width)
        y = tape.activate(tape.conv(y, y.channels, 3, groups=y.channels, bias=True, name="depthwise"), 1.0)
        tape.linear(tape.to_rows(y), dim, name="down")
    return tape.add(x)


def _decoder(tape: Tape, maps: list[Map], width: int, classes: int) -> None:
    """Every map is projected and enlarged to the first one's size; one convolution joins them."""
    first = maps[0]
    with tape.scope("decoder"):
        for index, level in enumerate(maps):
            rows = tape.linear(tape.to_rows(level), width, name=f"project{index}")
            tape.move(rows, written=first.batch * first.positions * width, name=f"enlarge{index}")
        y = conv_norm(tape, concatenate(tape, first, 4.0 * width), width, 1, name="join")
        tape.conv(y, classes, 1, bias=True, name="classifier")


@family("sam_encoder")
def sam_encoder(tape: Tape, net: Network, sizes: Sizes) -> None:
    """The image encoder of Segment Anything (Kirillov et al. 2023): a ViT with windows but in four layers.

    Options: ``dim``, ``depth``, ``heads``, ``window``, ``whole`` (how many layers attend to everything), ``neck`` width.
    """
    dim, depth, whole = net.option("dim"), net.option("depth"), net.option("whole", 4)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.conv(x, dim, 16, 16, bias=True, pad=0, name="patches")
    tape.count("positions", (net.size("image_px") / 16.0) ** 2 * dim)
    x = tape.add(x, "positions")
    size = float(net.option("window", 14))
    with tape.scope("windowed"):
        x = tape.repeat(depth - whole, lambda y: _sam_layer(tape, net, y, size), x)
    with tape.scope("whole"):
        x = tape.repeat(whole, lambda y: _sam_layer(tape, net, y, 0.0), x)
    with tape.scope("neck"):
        neck = net.option("neck", 256)
        x = tape.norm(tape.conv(x, neck, 1, name="conv1"), "layer", name="norm1")
        tape.norm(tape.conv(x, neck, 3, name="conv2"), "layer", name="norm2")


def _sam_layer(tape: Tape, net: Network, x: Map, window: float) -> Map:
    dim, heads = float(x.channels), net.option("heads")
    head_dim = dim / heads
    tape.norm(x, "layer", name="norm1")
    rows = windows(tape, x, window) if window else tape.to_rows(x)
    side: Num = window or x.height
    with tape.scope("attention"):
        tape.linear(rows, 3.0 * dim, name="qkv")
        tape.count("relative_positions", 2.0 * (2.0 * float(np.max(side)) - 1.0) * head_dim)
        for axis in ("height", "width"):
            tape.matmul(rows.batch * heads * side, side, head_dim, side, f"{axis}_biases")
        tape.linear(tape.attend(rows, rows, heads, head_dim), dim, name="output")
    x = tape.norm(tape.add(x), "layer", name="norm2")
    feed_forward(tape, tape.to_rows(x), 4.0 * dim)
    return tape.add(x)


@family("hiera")
def hiera(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Hiera (Ryali et al. 2023): attention in units of the map that shrink with it, whole in the last two stages.

    Options: ``dim``, ``heads``, ``depths``, ``unit`` (8: its side at the start), ``positions`` (rows of its embedding, one
    for every position by default), ``layer_scale``, ``expand`` (a projection widens shortcuts), ``classes``.
    """
    dim, heads = net.option("dim"), net.option("heads")
    scaled, expand = net.option("layer_scale", False), net.option("expand", True)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.conv(x, dim, 7, 4, bias=True, pad=3, name="patches")
    tape.count("positions", float(net.option("positions", (net.size("image_px") / 4.0) ** 2) * dim))
    x = tape.add(x, "positions")
    side = float(net.option("unit", 8))
    for stage, depth in enumerate(net.option("depths")):
        out, count = dim * 2**stage, heads * 2**stage
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                # The first layer's queries are pooled inside the units of the stage before, which its attention spans.
                unit = side if stage < 3 else 0.0
                x = _hiera_layer(tape, x, out, count, unit, shrink=2, scaled=scaled, expand=expand)
                side /= 2.0
            span = side if stage < 2 else 0.0
            rest = depth - 1 if stage else depth
            layer = partial(_hiera_layer, tape, out=out, heads=count, unit=span, scaled=scaled)
            x = tape.repeat(rest, layer, x)
    with tape.scope("head"):
        y = tape.norm(tape.global_pool(x), "layer")
        tape.linear(y, net.option("classes", 1000), name="classifier")


@family("hiera_det")
def hiera_det(tape: Tape, net: Network, sizes: Sizes) -> None:
    """The image encoder of Segment Anything 2 (Ravi et al. 2024): Hiera in windows, but for a few layers that see all.

    Options: ``dim``, ``heads``, ``depths``, ``windows`` per stage, ``whole`` layers by number, ``positions``, ``classes``.
    """
    dim, heads, spans = net.option("dim", 96), net.option("heads", 1), net.option("windows", (8, 4, 14, 7))
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.conv(x, dim, 7, 4, bias=True, pad=3, name="patches")
    tape.count("positions", float(net.option("positions") * dim))
    x, index = tape.add(x, "positions"), 0
    for stage, depth in enumerate(net.option("depths")):
        out, count = dim * 2**stage, heads * 2**stage
        for place in range(depth):
            down = stage > 0 and not place  # the first layer of a stage has the windows of the one before
            span = 0.0 if index in net.option("whole") else float(spans[stage - down])
            with tape.scope(f"layer{index}"):
                x = _hiera_layer(tape, x, out, count, span, shrink=2 if down else 1)
            index += 1
    with tape.scope("head"):
        y = tape.norm(tape.global_pool(x), "layer")
        if net.option("classes", 1000):
            tape.linear(y, net.option("classes", 1000), name="classifier")


def _hiera_layer(tape: Tape, x: Map, out: int, heads: int, unit: float, shrink: int = 1, scaled: bool = False,
                 expand: bool = True) -> Map:  # fmt: skip
    rows = windows(tape, x, unit) if unit else tape.to_rows(x)
    tape.norm(x, "layer", name="norm1")
    down = tape.pool(replace(x, channels=float(out)), shrink, shrink) if shrink > 1 else x
    if shrink > 1 and expand:
        tape.linear(rows, out, name="expand")
    tape.count("layer_scales", 2.0 * out if scaled else 0.0)
    with tape.scope("attention"):
        tape.linear(rows, 3.0 * out, name="qkv")
        queries = Rows(rows.batch, rows.length / shrink**2, float(out))
        tape.linear(tape.attend(queries, rows, heads, out / heads), out, name="output")
    y = tape.norm(tape.add(replace(down, channels=float(out))), "layer", name="norm2")
    feed_forward(tape, tape.to_rows(y), 4.0 * out)
    return tape.add(y)


@family("visformer")
def visformer(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Visformer (Chen et al. 2021): a stage of grouped convolutions, then two of attention, batch norms throughout.

    Options: ``stem`` channels, ``dim``, ``heads``, ``depths``, ``classes``.
    """
    dim, heads = net.option("dim"), net.option("heads")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.activate(tape.norm(tape.conv(x, net.option("stem"), 7, 2, name="stem"), name="stem_norm"))
    for stage, depth in enumerate(net.option("depths")):
        patch, width = 2 if stage else 4, dim * 2**stage // 2
        with tape.scope(f"stage{stage + 1}"):
            x = tape.norm(tape.conv(x, width, patch, patch, bias=True, pad=0, name="patches"), name="patch_norm")
            tape.count("positions", float((net.size("image_px") // (8 * 2**stage)) ** 2 * width))
            block = _convolved if not stage else partial(_attended, heads=heads)
            x = tape.repeat(depth, partial(block, tape), tape.add(x, "positions"))
    with tape.scope("head"):
        y = tape.global_pool(tape.norm(x, name="last_norm"))
        tape.linear(y, net.option("classes", 1000), name="classifier")


def _convolved(tape: Tape, x: Map) -> Map:
    y = tape.conv(tape.norm(x), 2.0 * x.channels, 1, name="up")
    y = tape.conv(tape.activate(y, 1.0), y.channels, 3, groups=8, name="grouped")
    return tape.add(tape.conv(tape.activate(y, 1.0), x.channels, 1, name="down"))


def _attended(tape: Tape, x: Map, heads: int) -> Map:
    rows = tape.to_rows(tape.norm(x, name="norm1"))
    with tape.scope("attention"):
        tape.linear(rows, 3.0 * x.channels, False, "qkv")
        tape.linear(tape.attend(rows, rows, heads, x.channels / heads), x.channels, False, "output")
    x = tape.norm(tape.add(x), name="norm2")
    feed_forward(tape, tape.to_rows(x), 4.0 * x.channels, bias=False)
    return tape.add(x)
