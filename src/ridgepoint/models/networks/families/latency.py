"""Networks drawn for the clock and not for the count of operations: FasterNet, TResNet; SimpleNet, plain and small."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.convolutions import classifier, conv_norm, squeeze_excite
from ridgepoint.models.networks.families.residual import blur
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


@family("fasternet")
def fasternet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """FasterNet (Chen et al. 2023): a 3 × 3 convolution of a quarter of the channels in place, then two pointwise ones.

    The partial convolution reads and writes its own channels only: 1/16 of the operations and about 1/4 of the traffic of a
    full one, where a depthwise one saves operations alone.

    Options: ``dim`` of the first stage, ``depths``, ``part`` of the channels that are convolved (1/4), ``smooth`` (GELU),
    ``classes``.
    """
    dim = net.option("dim")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.norm(tape.conv(x, dim, 4, 4, pad=0, name="patches"))
    for stage, depth in enumerate(net.option("depths")):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                x = tape.norm(tape.conv(x, dim * 2**stage, 2, 2, pad=0, name="down"))
            x = tape.repeat(depth, lambda y: _partial_block(tape, net, y), x)
    with tape.scope("head"):
        rows = tape.linear(tape.global_pool(x), 1280, False, "hidden")
        tape.linear(tape.activate(rows), net.option("classes", 1000), name="classifier")


def _partial_block(tape: Tape, net: Network, x: Map) -> Map:
    part = replace(x, channels=x.channels * net.option("part", 0.25))
    tape.conv(part, part.channels, 3, name="partial")
    y = tape.norm(tape.conv(x, 2.0 * x.channels, 1, name="up"))
    tape.activate(y, special=1.0 if net.option("smooth", False) else 0.0)
    return tape.add(tape.conv(y, x.channels, 1, name="down"))


@family("tresnet")
def tresnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """TResNet (Ridnik et al. 2021): pixels folded into channels, basic blocks early, bottlenecks late, blurred strides.

    Options: ``depths`` of the stages, ``width`` factor of 64 channels, ``bottlenecks`` in all stages, ``classes``.
    """
    base, depths = int(64 * net.option("width", 1.0)), net.option("depths")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    tape.move(x, name="fold")
    x = conv_norm(tape, Map(x.batch, 48.0, x.height / 4.0, x.width / 4.0), base, 3, name="stem")
    for stage, depth in enumerate(depths):
        planes, deep = base * 2**stage, stage > 1 or net.option("bottlenecks", False)
        with tape.scope(f"stage{stage + 1}"):
            x = _blurred_block(tape, x, planes, 2 if stage else 1, deep, stage < 3)
            x = tape.repeat(
                depth - 1,
                lambda y, planes=planes, deep=deep, se=stage < 3: _blurred_block(tape, y, planes, 1, deep, se),  # type: ignore[misc]
                x,
            )
    classifier(tape, x, net.option("classes", 1000))


def _blurred_block(tape: Tape, x: Map, planes: int, stride: int, deep: bool, attentive: bool) -> Map:
    out = 4 * planes if deep else planes
    y = conv_norm(tape, x, planes, 1, name="conv1") if deep else x
    y = conv_norm(tape, y, planes, 3, name="conv2")
    y = blur(tape, y) if stride > 1 else y
    y = y if deep else conv_norm(tape, y, planes, 3, act="", name="conv3")
    y = squeeze_excite(tape, y, max(out // (8 if deep else 4), 64)) if attentive else y
    y = conv_norm(tape, y, out, 1, act="", name="conv3") if deep else y
    if stride > 1 or x.channels != out:
        short = tape.pool(x, 2, 2) if stride > 1 else x
        tape.norm(tape.conv(short, out, 1, name="shortcut"))
    return tape.activate(tape.add(y))


@family("plain")
def plain(tape: Tape, net: Network, sizes: Sizes) -> None:
    """SimpleNet (HasanPour et al. 2016): thirteen convolutions in a row.

    Options: ``layers``: (channels, kernel, 1 where a 2 × 2 pool comes before it), ``classes``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    for index, (out, kernel, pooled) in enumerate(net.option("layers")):
        x = tape.pool(x, 2, 2) if pooled else x
        x = tape.conv(x, out, kernel, bias=True, name=f"conv{index + 1}")
        x = tape.activate(tape.norm(x, name=f"norm{index + 1}"))
    classifier(tape, x, net.option("classes", 1000))
