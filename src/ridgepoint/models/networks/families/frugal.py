"""Detection and pose on small devices with few operations: LeYOLO, LitePose."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from ridgepoint.models.networks.families.convolutions import concatenate, conv_norm, depthwise, inverted_residual
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape

Blocks = tuple[tuple[int, int, int, int], ...]
"""Channels, kernel, inner channels (0: none of its own, those of the input are convolved), stride."""


@family("leyolo")
def leyolo(tape: Tape, net: Network, sizes: Sizes) -> None:
    """LeYOLO (Hollard et al. 2024): inverted bottlenecks everywhere, a light pyramid, a head of depthwise convolutions.

    Options: ``width`` factor, ``backbone``: its stages of blocks (see ``Blocks``), ``neck``: the blocks of its four parts,
    ``classes``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    with tape.scope("backbone"):
        x = conv_norm(tape, x, _width(net, 16), 3, 2, act="silu", name="stem1")
        x = conv_norm(tape, x, _width(net, 16), 1, act="silu", name="stem2")
        maps = []
        for stage in net.option("backbone"):
            x = _blocks(tape, net, x, stage)
            maps.append(x)
        half = int(x.channels) // 2
        y = conv_norm(tape, x, half, 1, act="silu", name="narrow")
        for _ in range(3):
            tape.pool(y, 5, 1, pad=2)
        top = conv_norm(tape, concatenate(tape, y, 4.0 * half), _width(net, 96), 1, act="silu", name="join")
    with tape.scope("neck"):
        levels = _neck(tape, net, maps[-3], maps[-2], top)
    for index, level in enumerate(levels):
        with tape.scope(f"head{index}"):
            _head(tape, net.option("classes", 80), level, int(levels[0].channels))


def _width(net: Network, channels: int) -> int:
    return ceil(channels * float(net.option("width", 1.0)) / 8) * 8


def _blocks(tape: Tape, net: Network, x: Map, blocks: Blocks) -> Map:
    for out, kernel, inner, stride in blocks:
        width = _width(net, out)
        y = conv_norm(tape, x, _width(net, inner), 1, act="silu", name="expand") if inner else x
        y = conv_norm(tape, depthwise(tape, y, kernel, stride, "silu"), width, 1, act="", name="project")
        x = tape.add(y) if stride == 1 and x.channels == width else y
    return x


def _neck(tape: Tape, net: Network, small: Map, middle: Map, top: Map) -> list[Map]:
    """Up the pyramid and down again; each of the four parts is a list of blocks."""
    parts = net.option("neck")
    beside = replace(middle, channels=middle.channels + top.channels)
    tape.move(top, written=4.0 * top.values, name="enlarge1")
    mid = _blocks(tape, net, concatenate(tape, beside, beside.channels), parts[0])
    beside = replace(small, channels=small.channels + mid.channels)
    tape.move(mid, written=4.0 * mid.values, name="enlarge2")
    first = _blocks(tape, net, concatenate(tape, beside, beside.channels), parts[1])
    y = conv_norm(tape, first, _width(net, 64), 3, 2, act="silu", name="down1")
    second = _blocks(tape, net, concatenate(tape, y, y.channels + mid.channels), parts[2])
    y = conv_norm(tape, second, _width(net, 96), 3, 2, act="silu", name="down2")
    return [first, second, _blocks(tape, net, concatenate(tape, y, y.channels + top.channels), parts[3])]


def _head(tape: Tape, classes: int, x: Map, first: int) -> None:
    """Boxes (four sides, 16 bins each) and classes: two depthwise convolutions each between pointwise ones."""
    for name, width, out in (
        ("box", max(16, first // 4, 64), 64),
        ("class", max(first, min(classes, 100)), classes),
    ):
        y = conv_norm(tape, x, width, 1, act="silu", name=f"{name}1")
        for index in (2, 3):
            y = depthwise(tape, y, 3, act="silu", name=f"{name}{index}")
        tape.conv(y, out, 1, bias=True, name=f"{name}4")


@family("litepose")
def litepose(tape: Tape, net: Network, sizes: Sizes) -> None:
    """LitePose (Wang et al. 2022): inverted residuals with large kernels in one branch; deconvolutions fuse two scales.

    Options: ``stages``: (blocks, channels, stride), ``kernel`` of the depthwise convolutions (7), ``stem`` channels,
    ``deconvolutions`` widths, ``joints`` (14: CrowdPose).
    """
    kernel, joints = net.option("kernel", 7), net.option("joints", 14)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    with tape.scope("stem"):
        x = depthwise(tape, conv_norm(tape, x, 32, 3, 2, act="relu6", name="conv"), 3, act="relu6")
        x = conv_norm(tape, x, net.option("stem", 16), 1, act="", name="project")
    maps = [x]
    for index, (count, out, stride) in enumerate(net.option("stages")):
        with tape.scope(f"stage{index + 1}"):
            x = inverted_residual(tape, x, out, kernel, stride, 6.0, act="relu6")
            x = tape.repeat(
                count - 1, lambda y, out=out: inverted_residual(tape, y, out, kernel, 1, 6.0, act="relu6"), x  # type: ignore[misc]
            )  # fmt: skip
        maps.append(x)
    refined = maps[-1]
    for index, out in enumerate(net.option("deconvolutions")):
        raw = maps[-index - 2]
        with tape.scope(f"deconvolution{index}"):
            tape.transposed_conv(refined, out, 4, 2, bias=False, name="refined")
            raw = tape.transposed_conv(raw, out, 4, 2, bias=False, name="raw")
            refined = tape.activate(tape.norm(tape.add(raw)))
        if index:
            channels = 2 * joints if index == 1 else joints
            for name, y in (("refined", refined), ("raw", maps[-index - 3])):
                with tape.scope(f"final{index}_{name}"):
                    tape.conv(depthwise(tape, y, 5), channels, 1, name="predict")
