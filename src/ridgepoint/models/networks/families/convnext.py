"""Convolutional networks built like transformers: ConvNeXt, ConvNeXt V2, InceptionNeXt."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ridgepoint.models.networks.families.convolutions import rounded
from ridgepoint.models.networks.families.tokens import feed_forward
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


@family("convnext")
def convnext(tape: Tape, net: Network, sizes: Sizes) -> None:
    """ConvNeXt (Liu et al. 2022) and ConvNeXt V2 (Woo et al. 2023: a global response norm instead of the layer scale).

    Options: ``depths``, ``dims``, ``response_norm``, ``stem`` (``patch``; ``overlap`` or ``tiered``: two 3 × 3
    convolutions), ``hidden`` width before the classifier, ``classes``.
    """
    dims = net.option("dims")
    x = _stem(tape, net, tape.image(3, sizes["image_px"], sizes["image_px"]))
    for stage, depth in enumerate(net.option("depths")):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                x = tape.conv(tape.norm(x, "layer"), dims[stage], 2, 2, bias=True, pad=0, name="down")
            x = tape.repeat(depth, lambda y: _block(tape, net, y), x)
    with tape.scope("head"):
        y = tape.norm(tape.global_pool(x), "layer")
        hidden = net.option("hidden", 0)
        if hidden:
            y = tape.activate(tape.linear(y, hidden, name="hidden"), 1.0)
        tape.linear(y, net.option("classes", 1000), name="classifier")


def _stem(tape: Tape, net: Network, x: Map) -> Map:
    dim, kind = net.option("dims")[0], net.option("stem", "patch")
    with tape.scope("stem"):
        if kind == "patch":
            x = tape.conv(x, dim, 4, 4, bias=True, pad=0, name="patches")
        else:
            x = tape.conv(x, rounded(dim // 2) if kind == "tiered" else dim, 3, 2, bias=True, name="conv1")
            x = tape.conv(x, dim, 3, 2, bias=True, name="conv2")
        return tape.norm(x, "layer")


def _block(tape: Tape, net: Network, x: Map) -> Map:
    """A 7 × 7 depthwise convolution, then a feed-forward part at every position."""
    dim = float(x.channels)
    y = tape.norm(tape.conv(x, dim, 7, groups=dim, bias=True, name="depthwise"), "layer")
    rows = tape.to_rows(y)
    if net.option("response_norm", False):
        with tape.scope("feed"):
            wide = tape.activate(tape.linear(rows, 4.0 * dim, name="up"), 1.0)
            tape.count("response_norm", 8.0 * dim)
            tape.global_pool(wide, "response")
            rows = tape.linear(tape.multiply(tape.scale(wide)), dim, name="down")
    else:
        rows = feed_forward(tape, rows, 4.0 * dim)
        tape.count("layer_scale", dim)
        rows = tape.scale(rows)
    return tape.add(tape.to_map(rows, x.height, x.width))


@family("inception_next")
def inception_next(tape: Tape, net: Network, sizes: Sizes) -> None:
    """InceptionNeXt (Yu et al. 2024): an eighth of the channels each through a square, a wide and a tall convolution.

    Options: ``depths``, ``dims``, ``classes``.
    """
    dims = net.option("dims")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.norm(tape.conv(x, dims[0], 4, 4, bias=True, pad=0, name="stem"), name="stem_norm")
    for stage, depth in enumerate(net.option("depths")):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                x = tape.conv(tape.norm(x, name="down_norm"), dims[stage], 2, 2, bias=True, pad=0, name="down")
            x = tape.repeat(depth, partial(_branched_block, tape, 3.0 if stage == 3 else 4.0), x)
    with tape.scope("head"):
        y = tape.activate(tape.linear(tape.global_pool(x), 3 * dims[-1], name="hidden"), 1.0)
        tape.linear(tape.norm(y, "layer"), net.option("classes", 1000), name="classifier")


def _branched_block(tape: Tape, feed: float, x: Map) -> Map:
    part = replace(x, channels=float(int(x.channels) // 8))
    for name, kernel in (("square", (3, 3)), ("wide", (1, 11)), ("tall", (11, 1))):
        tape.conv(part, part.channels, kernel, groups=part.channels, bias=True, name=name)
    x = tape.norm(tape.move(x, name="concat"))
    feed_forward(tape, tape.to_rows(x), feed * x.channels)
    tape.count("layer_scale", float(x.channels))
    return tape.add(tape.scale(x))
