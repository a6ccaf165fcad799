"""Segmentation with convolutions: U-Net in two and three dimensions, FCN and DeepLabV3."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.convolutions import concatenate, conv_norm
from ridgepoint.models.networks.families.residual import residual_maps
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


@family("unet_2d")
def unet_2d(tape: Tape, net: Network, sizes: Sizes) -> None:
    """U-Net (Ronneberger et al. 2015) with padded convolutions.

    Options: ``channels`` of the image, ``base`` width, ``levels``, ``norm`` (batch norms), ``classes``.
    """
    base, levels = net.option("base", 64), net.option("levels", 4)
    x = tape.image(net.option("channels", 3), sizes["image_px"], sizes["image_px"])
    kept = []
    for level in range(levels + 1):
        with tape.scope(f"down{level}"):
            x = _twice(tape, net, tape.pool(x, 2, 2) if level else x, base * 2**level)
        kept.append(x)
    for level in reversed(range(levels)):
        with tape.scope(f"up{level}"):
            x = tape.transposed_conv(x, base * 2**level, 2, 2)
            x = _twice(tape, net, concatenate(tape, x, x.channels + kept[level].channels), base * 2**level)
    tape.conv(x, net.option("classes", 2), 1, bias=True, name="classifier")


def _twice(tape: Tape, net: Network, x: Map, out: int) -> Map:
    for index in (1, 2):
        norm = net.option("norm", False)
        x = tape.conv(x, out, 3, bias=not norm, name=f"conv{index}")
        x = tape.activate(tape.norm(x, name=f"norm{index}") if norm else x)
    return x


@family("unet_3d")
def unet_3d(tape: Tape, net: Network, sizes: Sizes) -> None:
    """3-D U-Net (Çiçek et al. 2016) on a cube. Options: ``channels``, ``base`` width, ``levels``, ``classes``."""
    base, levels = net.option("base", 32), net.option("levels", 3)
    side = sizes["image_px"]
    x = tape.image(net.option("channels", 3), side, side, side)
    kept = []
    for level in range(levels + 1):
        with tape.scope(f"down{level}"):
            x = _halved(tape, x) if level else x
            x = _cubes(tape, x, base * 2**level, base * 2 ** (level + 1))
        kept.append(x)
    for level in reversed(range(levels)):
        with tape.scope(f"up{level}"):
            up = tape.linear(tape.to_rows(x), 8.0 * x.channels, False, "up_conv")
            beside = kept[level]
            tape.move(up, name="spread")
            x = concatenate(tape, beside, x.channels + beside.channels)
            x = _cubes(tape, x, base * 2 ** (level + 1), base * 2 ** (level + 1))
    tape.conv3d(x, net.option("classes", 3), (1, 1, 1), name="classifier")


def _halved(tape: Tape, x: Map) -> Map:
    half = tape.pool(x, 2, 2)
    return replace(half, depth=half.depth / 2.0)


def _cubes(tape: Tape, x: Map, *widths: int) -> Map:
    for index, width in enumerate(widths):
        x = tape.conv3d(x, width, (3, 3, 3), name=f"conv{index}")
        x = tape.activate(tape.norm(x, "batch", affine=False, name=f"norm{index}"))
    return x


@family("dilated")
def dilated(tape: Tape, net: Network, sizes: Sizes) -> None:
    """FCN (Long et al. 2015) and DeepLabV3 (Chen et al. 2017) on a ResNet that keeps an eighth of the size.

    Options: ``backbone`` (options of a ResNet with ``strides``), ``pyramid`` (DeepLabV3's parallel convolutions),
    ``auxiliary`` (a second classifier on the third stage), ``classes``.
    """
    with tape.scope("backbone"):
        image = tape.image(3, sizes["image_px"], sizes["image_px"])
        maps = residual_maps(tape, replace(net, config=net.option("backbone")), image)
    classes, x = net.option("classes", 21), maps[-1]
    with tape.scope("head"):
        if net.option("pyramid", False):
            x = _atrous_pyramid(tape, x)
            x = conv_norm(tape, x, 256, 3, name="conv")
        else:
            x = conv_norm(tape, x, 512, 3, name="conv")
        tape.conv(x, classes, 1, bias=True, name="classifier")
        tape.move(x, written=image.values / 3.0 * classes, name="enlarge")
    if net.option("auxiliary", True):
        with tape.scope("auxiliary"):
            y = conv_norm(tape, maps[-2], 256, 3, name="conv")
            tape.conv(y, classes, 1, bias=True, name="classifier")


def _atrous_pyramid(tape: Tape, x: Map) -> Map:
    """One pointwise and three dilated convolutions, and the pooled map."""
    y = conv_norm(tape, x, 256, 1, name="pointwise")
    for rate in (12, 24, 36):
        conv_norm(tape, x, 256, 3, dilation=rate, name=f"atrous{rate}")
    pooled = tape.global_pool(x)
    tape.norm(tape.linear(pooled, 256, False, "pooled"), "batch", name="pooled_norm")
    return conv_norm(tape, concatenate(tape, y, 1280.0), 256, 1, name="project")
