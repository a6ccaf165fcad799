"""Small networks for classification: ReXNet, RepGhost."""

from __future__ import annotations

from ridgepoint.models.networks.families.convolutions import (
    activation,
    classifier,
    conv_norm,
    depthwise,
    rounded,
    squeeze_excite,
)
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


@family("rexnet")
def rexnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """ReXNet (Han et al. 2021): inverted residuals whose channels grow by the same step from block to block.

    Options: ``width`` factor, ``divisor`` of channels, ``classes``.
    """
    width, divisor = net.option("width", 1.0), net.option("divisor", 1)
    depths, strides = (1, 2, 2, 3, 3, 5), (1, 2, 2, 2, 1, 2)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = conv_norm(tape, x, rounded(round(32 * max(width, 1.0)), divisor), 3, 2, act="silu", name="stem")
    base, index = 16.0 / min(width, 1.0), 0
    for stage, depth in enumerate(depths):
        for place in range(depth):
            out = rounded(round(base * width), divisor)
            with tape.scope(f"block{index}"):
                x = _linear_bottleneck(
                    tape, x, out, strides[stage] if not place else 1, 6 if stage else 1, stage > 1, divisor
                )
            base, index = base + 180.0 / sum(depths), index + 1
    x = conv_norm(tape, x, rounded(1280 * width, divisor), 1, act="silu", name="last")
    classifier(tape, x, net.option("classes", 1000))


def _linear_bottleneck(tape: Tape, x: Map, out: int, stride: int, expand: int, attentive: bool, divisor: int) -> Map:
    mid = rounded(round(float(x.channels) * expand), divisor) if expand > 1 else int(x.channels)
    y = conv_norm(tape, x, mid, 1, act="silu", name="expand") if expand > 1 else x
    y = depthwise(tape, y, 3, stride, act="")
    if attentive:
        y = squeeze_excite(tape, y, rounded(int(mid / 12), divisor), norm=True)
    y = conv_norm(tape, tape.activate(y), out, 1, act="", name="project")
    return tape.add(y) if stride == 1 and x.channels <= out else y


@family("repghost")
def repghost(tape: Tape, net: Network, sizes: Sizes) -> None:
    """RepGhost (Chen et al. 2022): GhostNet with additions instead of concatenations, as trained or with merged branches.

    Options: ``stages``: blocks of (kernel, inner channels, channels, attention ratio, stride); ``width``, ``merged``,
    ``classes``.
    """
    width, merged = net.option("width", 1.0), net.option("merged", False)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = conv_norm(tape, x, rounded(16 * width, 4), 3, 2, name="stem")
    for index, (kernel, inner, out, ratio, stride) in enumerate(net.option("stages")):
        with tape.scope(f"block{index}"):
            x = _block(tape, x, kernel, rounded(inner * width, 4), rounded(out * width, 4), ratio, stride, merged)
    x = conv_norm(tape, x, rounded(net.option("stages")[-1][1] * width * 2, 4), 1, name="last")
    with tape.scope("head"):
        y = tape.activate(tape.linear(tape.global_pool(x), 1280, name="hidden"))
        tape.linear(y, net.option("classes", 1000), name="classifier")


def _module(tape: Tape, x: Map, out: int, act: str, merged: bool, name: str) -> Map:
    """A convolution, a depthwise one on its result, and in training the result's own norm beside it."""
    with tape.scope(name):
        y = conv_norm(tape, x, out, 1, act=act, name="primary")
        z = depthwise(tape, y, 3, act="", name="cheap")
        if not merged:
            z = tape.add(tape.norm(z, name="identity_norm"))
        return activation(tape, z, act, "last_act")


def _block(tape: Tape, x: Map, kernel: int, inner: int, out: int, ratio: float, stride: int, merged: bool) -> Map:
    y = _module(tape, x, inner, "relu", merged, "ghost1")
    y = depthwise(tape, y, kernel, stride, "", "down") if stride > 1 else y
    y = squeeze_excite(tape, y, rounded(inner * ratio, 4)) if ratio else y
    y = _module(tape, y, out, "", merged, "ghost2")
    if stride > 1 or x.channels != out:
        conv_norm(tape, depthwise(tape, x, kernel, stride, "", "shortcut_down"), out, 1, act="", name="shortcut")
    return tape.add(y)
