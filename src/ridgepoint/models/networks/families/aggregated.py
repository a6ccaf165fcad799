"""Networks that gather the outputs of many layers: DenseNet, VoVNet, PP-HGNet, DLA."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ridgepoint.models.networks.families.convolutions import (
    classifier,
    concatenate,
    conv_norm,
    depthwise,
    efficient_channel,
)
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


@family("densenet")
def densenet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """DenseNet (Huang et al. 2017): every layer reads all earlier ones of its block.

    Options: ``depths``, ``growth``, ``first`` width, ``stem`` (widths of 3 × 3 convolutions before it; one 7 × 7 without).
    """
    growth, first = net.option("growth", 32), net.option("first", 64)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    with tape.scope("stem"):
        widths = (*net.option("stem", ()), first)
        for index, width in enumerate(widths):
            kernel = 3 if len(widths) > 1 else 7
            x = conv_norm(tape, x, width, kernel, 1 if index else 2, name=f"conv{index + 1}")
        x = tape.pool(x, 3, 2, pad=1)
    depths = net.option("depths")
    for stage, depth in enumerate(depths):
        with tape.scope(f"block{stage + 1}"):
            for _ in range(depth):
                y = tape.activate(tape.norm(x, name="norm1"))
                y = conv_norm(tape, y, 4 * growth, 1, name="conv1")
                tape.conv(y, growth, 3, name="conv2")
                x = concatenate(tape, x, x.channels + growth)
            x = tape.activate(tape.norm(x, name="transition_norm"))
            if stage + 1 < len(depths):
                x = tape.pool(tape.conv(x, x.channels // 2, 1, name="transition"), 2, 2)
    classifier(tape, x, net.option("classes", 1000))


@family("vovnet")
def vovnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """VoVNet (Lee et al. 2019, Lee and Park 2020): the outputs of a block's layers meet once, at its end.

    Options: ``stem`` widths, ``inner`` and ``widths`` per stage, ``depths``, ``layers`` per block, ``depthwise``,
    ``residual``, ``attention`` (``ese``, ``eca``), ``norm``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    separable = net.option("depthwise", False)
    norm = net.option("norm", "batch")
    with tape.scope("stem"):
        for index, width in enumerate(net.option("stem")):
            stride = 1 if index == 1 else 2
            if separable and index:
                x = tape.conv(x, x.channels, 3, stride, x.channels, name=f"depthwise{index + 1}")
                x = conv_norm(tape, x, width, 1, norm=norm, name=f"conv{index + 1}")
            else:
                x = conv_norm(tape, x, width, 3, stride, norm=norm, name=f"conv{index + 1}")
    for stage, depth in enumerate(net.option("depths")):
        with tape.scope(f"stage{stage + 1}"):
            x = tape.pool(x, 3, 2, pad=1) if stage else x
            for block in range(depth):
                x = _one_shot(tape, net, x, stage, block, last=block == depth - 1)
    classifier(tape, x)


def _one_shot(tape: Tape, net: Network, x: Map, stage: int, block: int, last: bool) -> Map:
    inner, layers = net.option("inner")[stage], net.option("layers")
    separable, norm = net.option("depthwise", False), net.option("norm", "batch")
    total = x.channels + inner * layers
    y = conv_norm(tape, x, inner, 1, norm=norm, name="reduce") if separable and x.channels != inner else x
    for index in range(layers):
        if separable:
            y = tape.conv(y, inner, 3, groups=inner, name=f"depthwise{index}")
        y = conv_norm(tape, y, inner, 1 if separable else 3, norm=norm, name=f"conv{index}")
    y = conv_norm(tape, concatenate(tape, y, total), net.option("widths")[stage], 1, norm=norm, name="gather")
    if last:
        y = _attend(tape, net.option("attention", ""), y)
    return tape.add(y) if net.option("residual", False) and block else y


def _attend(tape: Tape, kind: str, x: Map) -> Map:
    if kind == "eca":
        return efficient_channel(tape, x)
    if kind == "ese":
        y = tape.linear(tape.global_pool(x), x.channels, name="ese")
        tape.activate(y, 1.0, name="gate")
        return tape.scale(x)
    return x


@family("hgnet")
def hgnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """PP-HGNet and its second version (PaddleClas 2022, 2023).

    Options: ``stem`` widths, ``branched`` stem, ``stages``: (inner width, width, blocks, kernel), ``layers`` per block,
    ``light`` stages (a pointwise and a depthwise convolution per layer), ``squeeze`` (blocks end in two convolutions
    instead of one with channel attention), ``affine`` (one learnt factor and one summand behind every activation),
    ``classes``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    stem = net.option("stem")
    with tape.scope("stem"):
        x = _branched_stem(tape, net, x, *stem) if net.option("branched", False) else _plain_stem(tape, x, stem)
    light = net.option("light", ())
    for index, (inner, out, depth, kernel) in enumerate(net.option("stages")):
        with tape.scope(f"stage{index + 1}"):
            x = depthwise(tape, x, 3, 2, act="", name="down") if index else x
            block = partial(_gathering, tape, net, inner, out, kernel, index in light)
            x = block(x)
            x = tape.repeat(depth - 1, lambda y, block=block: tape.add(block(y)), x)  # type: ignore[misc]
    with tape.scope("head"):
        y = tape.activate(tape.linear(tape.global_pool(x), 2048, False, "last"))
        tape.linear(y, net.option("classes", 1000), name="classifier")


def _plain_stem(tape: Tape, x: Map, widths: tuple[int, ...]) -> Map:
    for index, width in enumerate(widths):
        x = conv_norm(tape, x, width, 3, 1 if index else 2, name=f"conv{index + 1}")
    return tape.pool(x, 3, 2, pad=1)


def _layer(net: Network, tape: Tape, x: Map, out: Num, kernel: int, *args: int, **options: int | str) -> Map:
    """A convolution with its norm and activation, and what is learnt behind that."""
    return _affine(net, tape, conv_norm(tape, x, out, kernel, *args, **options))  # type: ignore[arg-type]


def _affine(net: Network, tape: Tape, x: Map) -> Map:
    return tape.scale(tape.scale(x, "affine_scale"), "affine_shift") if net.option("affine", False) else x


def _branched_stem(tape: Tape, net: Network, x: Map, middle: int, out: int) -> Map:
    layer = partial(_layer, net)
    x = layer(tape, x, middle, 3, 2, name="conv1")
    y = replace(layer(tape, x, middle // 2, 2, pad=1, name="conv2a"), height=x.height, width=x.width)
    y = replace(layer(tape, y, middle, 2, pad=1, name="conv2b"), height=x.height, width=x.width)
    y = layer(tape, concatenate(tape, y, 2.0 * middle), middle, 3, 2, name="conv3")
    return layer(tape, y, out, 1, name="conv4")


def _gathering(tape: Tape, net: Network, inner: int, out: int, kernel: int, light: bool, x: Map) -> Map:
    layers = net.option("layers")
    total, y = x.channels + inner * layers, x
    for index in range(layers):
        if light:
            y = conv_norm(tape, y, inner, 1, act="", name=f"conv{index}")
            y = _affine(net, tape, depthwise(tape, y, kernel, name=f"depthwise{index}"))
        else:
            y = _layer(net, tape, y, inner, kernel, name=f"conv{index}")
    y = concatenate(tape, y, total)
    if net.option("squeeze", False):
        return _layer(net, tape, _layer(net, tape, y, out // 2, 1, name="squeeze"), out, 1, name="excite")
    return _attend(tape, "ese", conv_norm(tape, y, out, 1, name="gather"))


@family("dla")
def dla(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Deep layer aggregation (Yu et al. 2018): trees of residual blocks whose outputs a 1 × 1 convolution joins.

    Options: ``levels`` and ``widths`` of the six stages, ``basic`` blocks, ``groups`` and ``width`` of a group, ``scale``
    (splits of Res2Net), ``classes``.
    """
    levels, widths = net.option("levels"), net.option("widths")
    x = conv_norm(tape, tape.image(3, sizes["image_px"], sizes["image_px"]), widths[0], 7, name="stem")
    x = conv_norm(tape, x, widths[0], 3, name="level0")
    x = conv_norm(tape, x, widths[1], 3, 2, name="level1")
    for index in range(2, 6):
        with tape.scope(f"level{index}"):
            x = _tree(tape, net, x, widths[index], levels[index], 2, top=index > 2)
    classifier(tape, x, net.option("classes", 1000))


def _tree(
    tape: Tape, net: Network, x: Map, out: int, levels: int, stride: int, root: float = 0.0, top: bool = False
) -> Map:
    root = (root or 2.0 * out) + (float(x.channels) if top else 0.0)
    if levels > 1:
        y = _tree(tape, net, x, out, levels - 1, stride)
        return _tree(tape, net, y, out, levels - 1, 1, root + out)
    bottom = tape.pool(x, stride, stride) if stride > 1 else x
    if x.channels != out:
        conv_norm(tape, bottom, out, 1, act="", name="project")
    y = _tree_block(tape, net, _tree_block(tape, net, x, out, stride), out, 1)
    return conv_norm(tape, concatenate(tape, y, root), out, 1, name="root")


def _tree_block(tape: Tape, net: Network, x: Map, out: int, stride: int) -> Map:
    if net.option("basic", False):
        y = conv_norm(tape, conv_norm(tape, x, out, 3, stride, name="conv1"), out, 3, act="", name="conv2")
        return tape.activate(tape.add(y))
    groups, scale = net.option("groups", 1), net.option("scale", 1)
    inner = int(out * net.option("width", 64) / 64) * groups // 2
    y = conv_norm(tape, x, inner * scale, 1, name="conv1")
    part = replace(y, channels=float(inner))
    for index in range(max(1, scale - 1)):
        y = conv_norm(tape, part, inner, 3, stride, groups, name=f"conv2{index}")
    y = concatenate(tape, y, float(inner * scale)) if scale > 1 else y
    return tape.activate(tape.add(conv_norm(tape, y, out, 1, act="", name="conv3")))
