"""Early convolutional networks: AlexNet, VGG, SqueezeNet, ShuffleNet V2."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.convolutions import classifier, concatenate, conv_norm, depthwise
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


def _conv(
    tape: Tape, x: Map, out: int, kernel: int, stride: int = 1, pad: int | None = None, name: str = "conv"
) -> Map:
    return tape.activate(tape.conv(x, out, kernel, stride, bias=True, pad=pad, name=name))


@family("alexnet")
def alexnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """AlexNet in one column (Krizhevsky 2014). Options: ``classes``."""
    x = _conv(tape, tape.image(3, sizes["image_px"], sizes["image_px"]), 64, 11, 4, 2, "conv1")
    x = _conv(tape, tape.pool(x, 3, 2), 192, 5, name="conv2")
    x = _conv(tape, tape.pool(x, 3, 2), 384, 3, name="conv3")
    x = tape.pool(_conv(tape, _conv(tape, x, 256, 3, name="conv4"), 256, 3, name="conv5"), 3, 2)
    _hidden_head(tape, net, x, 6.0)


@family("vgg")
def vgg(tape: Tape, net: Network, sizes: Sizes) -> None:
    """VGG (Simonyan and Zisserman 2015). Options: ``depths`` of the five stages, ``norm`` (batch norms), ``classes``."""
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    for stage, depth in enumerate(net.option("depths")):
        with tape.scope(f"stage{stage + 1}"):
            for index in range(depth):
                y = tape.conv(x, min(64 * 2**stage, 512), 3, bias=True, name=f"conv{index + 1}")
                x = tape.activate(tape.norm(y) if net.option("norm", False) else y)
            x = tape.pool(x, 2, 2)
    _hidden_head(tape, net, x, 7.0)


def _hidden_head(tape: Tape, net: Network, x: Map, side: float) -> None:
    """Two hidden layers of 4096 over a map that is pooled to ``side`` × ``side``."""
    with tape.scope("head"):
        rows = replace(tape.to_rows(x), length=1.0, channels=x.channels * side * side)
        for index in (1, 2):
            rows = tape.activate(tape.linear(rows, 4096, name=f"hidden{index}"))
        tape.linear(rows, net.option("classes", 1000), name="classifier")


@family("squeezenet")
def squeezenet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """SqueezeNet (Iandola et al. 2016). Options: ``version`` (1.0 or 1.1), ``classes``."""
    old = net.option("version", 1.0) == 1.0
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = _conv(tape, x, 96 if old else 64, 7 if old else 3, 2, 0, "conv1")
    pools = (0, 3, 7) if old else (0, 2, 4)
    for index, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        with tape.scope(f"fire{index + 2}"):
            x = tape.pool(x, 3, 2, pad=0) if index in pools and index == 0 else x
            x = _ceil_pool(tape, x) if index in pools and index else x
            x = _conv(tape, x, squeeze, 1, name="squeeze")
            y = _conv(tape, x, 4 * squeeze, 1, name="expand1")
            _conv(tape, x, 4 * squeeze, 3, name="expand3")
            x = concatenate(tape, y, 8.0 * squeeze)
    tape.global_pool(_conv(tape, x, net.option("classes", 1000), 1, name="classifier"))


def _ceil_pool(tape: Tape, x: Map) -> Map:
    import numpy as np

    side = np.ceil((x.height - 3.0) / 2.0) + 1.0
    return replace(tape.pool(x, 3, 2), height=side, width=side)


@family("shufflenet_v2")
def shufflenet_v2(tape: Tape, net: Network, sizes: Sizes) -> None:
    """ShuffleNet V2 (Ma et al. 2018): half of the channels pass by each block.

    Options: ``widths``, ``last``, ``classes``, ``small`` pictures (the stem keeps their size).
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    if net.option("small", False):
        x = conv_norm(tape, x, 24, 3, act="", name="stem")
    else:
        x = tape.pool(conv_norm(tape, x, 24, 3, 2, name="stem"), 3, 2, pad=1)
    for stage, (width, depth) in enumerate(zip(net.option("widths"), (4, 8, 4), strict=True)):
        with tape.scope(f"stage{stage + 2}"):
            x = _shuffle_down(tape, x, width)
            x = tape.repeat(depth - 1, lambda y, width=width: _shuffle(tape, y, width), x)  # type: ignore[misc]
    classifier(tape, conv_norm(tape, x, net.option("last", 1024), 1, name="last"), net.option("classes", 1000))


def _shuffle_down(tape: Tape, x: Map, width: int) -> Map:
    half = width // 2
    conv_norm(tape, depthwise(tape, x, 3, 2, "", "depthwise_left"), half, 1, name="left")
    y = depthwise(tape, conv_norm(tape, x, half, 1, name="right1"), 3, 2, "")
    return _mixed(tape, conv_norm(tape, y, half, 1, name="right2"), width)


def _shuffle(tape: Tape, x: Map, width: int) -> Map:
    half = width // 2
    y = conv_norm(tape, replace(x, channels=float(half)), half, 1, name="right1")
    y = conv_norm(tape, depthwise(tape, y, 3, 1, ""), half, 1, name="right2")
    return _mixed(tape, y, width)


def _mixed(tape: Tape, x: Map, width: int) -> Map:
    """Both halves side by side, then their channels interleaved: two copies of the map."""
    return tape.move(concatenate(tape, x, float(width)), name="shuffle")
