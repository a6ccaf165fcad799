"""Vision transformers of several scales: CrossViT, NesT, TinyViT, ViTamin, Next-ViT."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from ridgepoint.models.networks.families.convolutions import classifier, concatenate, conv_norm, depthwise, rounded
from ridgepoint.models.networks.families.tokens import feed_forward, transformer_layer
from ridgepoint.models.networks.families.vision_transformers import vit_block
from ridgepoint.models.networks.families.window_transformers import windows
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


def _positions(tape: Tape, x: Rows, blocks: Num = 1.0, name: str = "positions") -> Rows:
    tape.count(name, float(np.max(x.length * blocks * x.channels)))
    return tape.add(x, name)


@family("crossvit")
def crossvit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """CrossViT (Chen et al. 2021): two towers of different patches whose class tokens attend to the other's patches.

    Options: ``dims``, ``heads``, ``depths`` of the towers between exchanges, ``exchanges`` (3), ``feed`` (hidden width over
    dim), ``scale`` of the second tower's image, ``deep_stem``, ``classes``.
    """
    dims, heads, depths = net.option("dims"), net.option("heads"), net.option("depths")
    towers = []
    for index, patch in enumerate((12, 16)):
        side = np.floor(sizes["image_px"] * (net.option("scale") if index else 1.0) + 1e-9)
        with tape.scope(f"tower{index}"):
            grid = _patches(tape, net, tape.image(3, side, side), dims[index], patch)
            tape.count("token", float(dims[index]))
            rows = tape.to_rows(grid)
            towers.append(_positions(tape, replace(rows, length=rows.length + 1.0)))
    for exchange in range(net.option("exchanges", 3)):
        with tape.scope(f"stage{exchange + 1}"):
            for index, rows in enumerate(towers):
                layer = partial(transformer_layer, tape, heads=heads, width=net.option("feed") * dims[index])
                with tape.scope(f"tower{index}"):
                    tape.repeat(depths[index], layer, rows)
            for index in (0, 1):
                with tape.scope(f"exchange{index}"):
                    _exchange(tape, towers[index], towers[1 - index], heads)
    for index, rows in enumerate(towers):
        with tape.scope(f"head{index}"):
            one = replace(tape.norm(rows, "layer"), length=1.0)
            tape.linear(one, net.option("classes", 1000), name="classifier")


def _patches(tape: Tape, net: Network, x: Map, dim: int, patch: int) -> Map:
    if not net.option("deep_stem", False):
        return tape.conv(x, dim, patch, patch, bias=True, pad=0, name="patches")
    x = tape.activate(tape.conv(x, dim // 4, 7, 4, bias=True, name="stem1"))
    last = {12: ((3, 0), (1, 1)), 16: ((2, 1), (2, 1))}[patch]
    for index, (stride, pad) in enumerate(last):
        x = tape.conv(x, dim // 2 * (index + 1), 3, stride, bias=True, pad=pad, name=f"stem{index + 2}")
        x = x if index else tape.activate(x)
    return x


def _exchange(tape: Tape, own: Rows, other: Rows, heads: int) -> None:
    """One tower's class token at the other's width: it attends to the other's patches and returns."""
    token = tape.activate(tape.norm(replace(own, length=1.0), "layer", name="norm_in"), 1.0)
    tape.linear(token, other.channels, name="project")
    rows = tape.norm(other, "layer", name="norm")
    query = tape.linear(replace(other, length=1.0), other.channels, name="query")
    tape.linear(rows, 2.0 * other.channels, name="key_value")
    y = tape.linear(tape.attend(query, rows, heads, other.channels / heads), other.channels, name="output")
    y = tape.activate(tape.norm(tape.add(y), "layer", name="norm_out"), 1.0)
    tape.move(tape.linear(y, own.channels, name="revert"), own.values)


@family("nest")
def nest(tape: Tape, net: Network, sizes: Sizes) -> None:
    """NesT (Zhang et al. 2022): attention inside blocks of one size, of which each level has a quarter as many.

    Options: ``dims``, ``heads``, ``depths``, ``classes``.
    """
    dims, levels = net.option("dims"), len(net.option("dims"))
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.conv(x, dims[0], 4, 4, bias=True, pad=0, name="patches")
    size = x.height / 2.0 ** (levels - 1)
    for level, depth in enumerate(net.option("depths")):
        with tape.scope(f"level{level + 1}"):
            if level:
                x = tape.norm(tape.conv(x, dims[level], 3, bias=True, name="down"), "layer", name="down_norm")
                x = tape.pool(x, 3, 2, pad=1)
            rows = _positions(tape, windows(tape, x, size), 4.0 ** (levels - 1 - level))
            layer = partial(transformer_layer, tape, heads=net.option("heads")[level], width=4.0 * dims[level])
            tape.repeat(depth, layer, rows)
            tape.move(x, name="unblock")
    classifier(tape, tape.norm(x, "layer", name="last_norm"), net.option("classes", 1000))


@family("tiny_vit")
def tiny_vit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """TinyViT (Wu et al. 2022): inverted residuals, then window attention with a depthwise convolution after it.

    Options: ``dims``, ``heads``, ``depths``, ``window`` per stage, ``classes``.
    """
    dims = net.option("dims")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = conv_norm(tape, x, dims[0] // 2, 3, 2, act="gelu", name="stem1")
    x = conv_norm(tape, x, dims[0], 3, 2, act="", name="stem2")
    for stage, depth in enumerate(net.option("depths")):
        with tape.scope(f"stage{stage + 1}"):
            if not stage:
                x = tape.repeat(depth, partial(_inverted, tape), x)
                continue
            x = conv_norm(tape, x, dims[stage], 1, act="gelu", name="merge1")
            x = conv_norm(tape, depthwise(tape, x, 3, 2, "gelu", "merge2"), dims[stage], 1, act="", name="merge3")
            x = tape.repeat(depth, partial(_windowed, tape, net.option("heads")[stage], net.option("window")[stage]), x)
    with tape.scope("head"):
        tape.linear(tape.norm(tape.global_pool(x), "layer"), net.option("classes", 1000), name="classifier")


def _inverted(tape: Tape, x: Map) -> Map:
    y = depthwise(tape, conv_norm(tape, x, 4.0 * x.channels, 1, act="gelu", name="expand"), 3, act="gelu")
    return tape.activate(tape.add(conv_norm(tape, y, x.channels, 1, act="", name="project")), 1.0)


def _windowed(tape: Tape, heads: int, window: int, x: Map) -> Map:
    rows = windows(tape, x, float(window))
    with tape.scope("attention"):
        tape.linear(tape.norm(rows, "layer"), 3.0 * x.channels, name="qkv")
        tape.count("relative_positions", float(heads * window**2))
        tape.linear(tape.attend(rows, rows, heads, x.channels / heads), x.channels, name="output")
    tape.move(x, name="unwindow")
    x = depthwise(tape, tape.add(x), 3, act="", name="local")
    rows = tape.norm(tape.to_rows(x), "layer", name="feed_norm")
    feed_forward(tape, rows, 4.0 * x.channels)
    return tape.add(x)


@family("vitamin")
def vitamin(tape: Tape, net: Network, sizes: Sizes) -> None:
    """ViTamin (Chen et al. 2024): two stages of inverted residuals with layer norms before a transformer with gated parts.

    Options: ``widths`` of the two stages, ``depths`` of them, ``positions`` (an embedding for every row), those of
    :func:`~ridgepoint.models.networks.families.vision_transformers.vit`.
    """
    widths = net.option("widths")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.norm(tape.conv(x, widths[0], 3, 2, bias=True, name="stem1"), "layer", name="stem_norm")
    x = tape.conv(tape.activate(x, 1.0), widths[0], 3, bias=True, name="stem2")
    for stage, depth in enumerate(net.option("depths", (2, 4))):
        with tape.scope(f"stage{stage + 1}"):
            x = _normed_residual(tape, x, widths[stage], 2)
            x = tape.repeat(depth - 1, partial(_normed_residual, tape, out=widths[stage], stride=1), x)
    grid = tape.conv(tape.norm(x, "layer", name="pool_norm"), net.option("dim"), 3, 2, bias=True, name="pool")
    rows = tape.to_rows(grid)
    rows = _positions(tape, rows) if net.option("positions", True) else rows
    with tape.scope("blocks"):
        rows = tape.repeat(net.option("depth"), lambda y: vit_block(tape, net, y, grid), rows)
    with tape.scope("head"):
        tape.linear(tape.norm(tape.global_pool(rows), "layer"), net.option("classes"), name="classifier")


def _normed_residual(tape: Tape, x: Map, out: int, stride: int) -> Map:
    if stride > 1:
        y = tape.pool(x, 3, 2, pad=1)
        if x.channels != out:
            tape.conv(y, out, 1, bias=True, name="shortcut")
    y = tape.conv(tape.norm(x, "layer", name="norm"), 4 * out, 1, bias=True, name="expand")
    y = tape.conv(tape.activate(y, 1.0), 4 * out, 3, stride, 4 * out, bias=True, name="depthwise")
    return tape.add(tape.conv(tape.activate(y, 1.0, name="act2"), out, 1, bias=True, name="project"))


@family("nextvit")
def nextvit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Next-ViT (Li et al. 2022): convolutions over groups as attention, and blocks that add softmax attention to them.

    Options: ``depths``, ``classes``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    for index, (out, stride) in enumerate(((64, 2), (32, 1), (64, 1), (64, 2))):
        x = conv_norm(tape, x, out, 3, stride, name=f"stem{index}")
    for stage, depth in enumerate(net.option("depths")):
        width, last, every = ((96, 96, 0), (192, 256, depth), (384, 512, 5), (768, 1024, depth))[stage]
        for index in range(depth):
            stride = 2 if stage and not index else 1
            with tape.scope(f"stage{stage + 1}_{index}"):
                mixed = bool(every) and (index + 1) % every == 0
                x = (
                    _softmax_block(tape, x, last, stride, 8 // 2**stage)
                    if mixed
                    else _conv_block(tape, x, width, stride)
                )
    classifier(tape, tape.norm(x, name="last_norm"), net.option("classes", 1000))


def _embed(tape: Tape, x: Map, out: int, stride: int, name: str) -> Map:
    y = tape.pool(x, 2, 2) if stride == 2 else x
    return conv_norm(tape, y, out, 1, act="", name=name) if stride == 2 or x.channels != out else x


def _grouped(tape: Tape, x: Map) -> Map:
    y = conv_norm(tape, x, x.channels, 3, groups=x.channels / 32.0, name="grouped")
    return tape.add(tape.conv(y, x.channels, 1, name="mix"))


def _convolved_feed(tape: Tape, x: Map, factor: float) -> Map:
    feed_forward(tape, tape.to_rows(tape.norm(x, name="feed_norm")), factor * x.channels)
    return tape.add(x)


def _conv_block(tape: Tape, x: Map, out: int, stride: int) -> Map:
    return _convolved_feed(tape, _grouped(tape, _embed(tape, x, out, stride, "embed")), 3.0)


def _softmax_block(tape: Tape, x: Map, out: int, stride: int, shrink: int) -> Map:
    wide = rounded(int(out * 0.75), 32)
    x = _embed(tape, x, wide, stride, "embed")
    rows = keys = tape.to_rows(tape.norm(x, name="norm"))
    with tape.scope("attention"):
        tape.linear(rows, wide, name="query")
        if shrink > 1:
            keys = tape.norm(replace(rows, length=np.floor(rows.length / shrink**2)), "batch", name="key_norm")
        tape.linear(keys, 2.0 * wide, name="key_value")
        tape.linear(tape.attend(rows, keys, wide // 32, 32), wide, name="output")
    y = _grouped(tape, _embed(tape, tape.add(x), out - wide, 1, "narrow"))
    return _convolved_feed(tape, concatenate(tape, y, float(out)), 2.0)
