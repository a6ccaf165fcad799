"""Convolutional networks that append features as they go: DPN, SelecSLS, RDNet."""

from __future__ import annotations

from functools import partial

from ridgepoint.models.networks.families.convolutions import classifier, concatenate, conv_norm
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


@family("dpn")
def dpn(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Dual path networks (Chen et al. 2017): one path adds as residual networks do, the other appends as dense ones do.

    Options: ``stem`` channels, ``small`` (a 3 × 3 stem and a quarter of the width), ``inner`` width of the first stage,
    ``groups``, ``depths``, ``growth`` per stage, ``split`` (two last convolutions, after one norm), ``classes``.
    """
    small = net.option("small", False)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.pool(conv_norm(tape, x, net.option("stem"), 3 if small else 7, 2, name="stem"), 3, 2, pad=1)
    for stage, (depth, growth) in enumerate(zip(net.option("depths"), net.option("growth"), strict=True)):
        width, inner = 64 * 2**stage * (1 if small else 4), net.option("inner") * 2**stage
        with tape.scope(f"stage{stage + 1}"):
            for index in range(depth):
                with tape.scope(f"block{index}"):
                    stride = 2 if stage and not index else 1
                    x = _dual(tape, net, x, inner, width, growth, stride, first=not index)
    classifier(tape, tape.activate(tape.norm(x, name="last_norm")), net.option("classes", 1000))


def _before(tape: Tape, x: Map, out: int, kernel: int, stride: int, groups: int, name: str) -> Map:
    y = tape.activate(tape.norm(x, name=f"{name}_norm"), name=f"{name}_act")
    return tape.conv(y, out, kernel, stride, groups, name=name)


def _dual(tape: Tape, net: Network, x: Map, inner: int, width: int, growth: int, stride: int, first: bool) -> Map:
    kept = float(x.channels)
    if first:
        _before(tape, x, width + 2 * growth, 1, stride, 1, "shortcut")
        kept = width + 2.0 * growth
    y = _before(tape, x, inner, 1, 1, 1, "conv1")
    y = _before(tape, y, inner, 3, stride, net.option("groups"), "conv2")
    if net.option("split", False):
        y = tape.activate(tape.norm(y, name="conv3_norm"))
        tape.conv(y, growth, 1, name="grow")
        y = tape.conv(y, width, 1, name="conv3")
    else:
        y = _before(tape, y, width + growth, 1, 1, 1, "conv3")
    return concatenate(tape, tape.add(y), kept + growth)


@family("selecsls")
def selecsls(tape: Tape, net: Network, sizes: Sizes) -> None:
    """SelecSLS (Mehta et al. 2020): blocks append what a stage's first block gave.

    Options: ``stages``: blocks of (inner, channels), the first of each with stride 2; ``head``: (channels, kernel, stride);
    ``classes``.
    """
    x = conv_norm(tape, tape.image(3, sizes["image_px"], sizes["image_px"]), 32, 3, 2, name="stem")
    for stage, blocks in enumerate(net.option("stages")):
        skip = 0.0
        for index, (inner, out) in enumerate(blocks):
            with tape.scope(f"stage{stage + 1}_{index}"):
                y = conv_norm(tape, x, inner, 3, 1 if index else 2, name="conv1")
                for place, (channels, kernel) in enumerate(((inner, 1), (inner // 2, 3), (inner, 1), (inner // 2, 3))):
                    y = conv_norm(tape, y, channels, kernel, name=f"conv{place + 2}")
                x = conv_norm(tape, concatenate(tape, y, 2.0 * inner + skip), out, 1, name="join")
                skip = skip or float(out)
    for index, (out, kernel, stride) in enumerate(net.option("head")):
        x = conv_norm(tape, x, out, kernel, stride, name=f"head{index}")
    classifier(tape, x, net.option("classes", 1000))


@family("rdnet")
def rdnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """RDNet (Kim et al. 2024): a dense network of wide separable blocks.

    Options: ``stem`` channels, ``growth`` per stage of three blocks, ``halved`` stages, ``attentive``: the first stage whose
    blocks end in channel attention; ``classes``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.norm(tape.conv(x, net.option("stem"), 4, 4, bias=True, pad=0, name="stem"), "layer", name="stem_norm")
    for stage, growth in enumerate(net.option("growth")):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                size = 2 if stage in net.option("halved") else 1
                out = int(float(x.channels) * 0.5 / 8) * 8
                y = tape.norm(x, "layer", name="transition_norm")
                x = tape.conv(y, out, size, size, bias=True, pad=0, name="transition")
            grow = partial(_grow, tape, growth, stage >= net.option("attentive", 2))
            for index in range(3):
                with tape.scope(f"block{index}"):
                    x = grow(x)
    with tape.scope("head"):
        tape.linear(tape.norm(tape.global_pool(x), "layer"), net.option("classes", 1000), name="classifier")


def _grow(tape: Tape, growth: int, attentive: bool, x: Map) -> Map:
    y = tape.conv(x, x.channels, 7, groups=x.channels, bias=True, name="depthwise")
    y = tape.conv(tape.norm(y, "layer"), int(float(x.channels) * 4 / 8) * 8, 1, bias=True, name="up")
    y = tape.conv(tape.activate(y, 1.0), growth, 1, bias=True, name="down")
    if attentive:
        tape.linear(tape.global_pool(y), growth, name="attention")
        y = tape.scale(y, "gate")
    tape.count("layer_scale", float(growth))
    return concatenate(tape, tape.scale(y), x.channels + growth)
