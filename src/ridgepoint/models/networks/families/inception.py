"""Networks of parallel branches and separable convolutions: Inception v3, v4 and ResNet v2, Xception, GhostNet."""

from __future__ import annotations

from math import ceil

from ridgepoint.models.networks.families.convolutions import (
    classifier,
    concatenate,
    conv_norm,
    depthwise,
    rounded,
    squeeze_excite,
)
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape

Step = tuple[int, int | tuple[int, int], int]
"""Output channels, kernel, stride; strided ones of a size above one are not padded."""
TALL, WIDE = (7, 1), (1, 7)


def _step(tape: Tape, x: Map, step: Step, name: str, pad: int | None = None) -> Map:
    out, kernel, stride = step
    return conv_norm(tape, x, out, kernel, stride, pad=0 if stride > 1 and kernel != 1 else pad, name=name)


def _mix(
    tape: Tape, x: Map, *branches: tuple[Step, ...], pool: int = 0, shrink: bool = False, valid: bool = False
) -> Map:
    """Branches side by side; ``pool`` channels come from a pooled one, all channels where the block shrinks the map.

    ``valid``: each branch's last convolution is not padded.
    """
    total, result = 0.0, x
    for index, branch in enumerate(branches):
        y = x
        for place, step in enumerate(branch):
            last = valid and place == len(branch) - 1
            y = _step(tape, y, step, f"branch{index}_{place}", 0 if last else None)
        total, result = total + float(y.channels), y
    if shrink:
        tape.pool(x, 3, 2)
        total += float(x.channels)
    elif pool:
        conv_norm(tape, tape.pool(x, 3, 1, pad=1), pool, 1, name="pooled")
        total += pool
    return concatenate(tape, result, total)


def _fork(tape: Tape, x: Map, before: tuple[Step, ...], out: int, name: str) -> float:
    """A branch that ends in a wide and a tall convolution side by side."""
    with tape.scope(name):
        for index, step in enumerate(before):
            x = _step(tape, x, step, f"conv{index}")
        conv_norm(tape, x, out, (1, 3), name="wide")
        conv_norm(tape, x, out, (3, 1), name="tall")
    return 2.0 * out


def _stem(tape: Tape, x: Map) -> Map:
    for index, (out, stride, pad) in enumerate(((32, 2, 0), (32, 1, 0), (64, 1, 1))):
        x = conv_norm(tape, x, out, 3, stride, pad=pad, name=f"stem{index}")
    return x


@family("inception_v3")
def inception_v3(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Inception v3 (Szegedy et al. 2016), without its auxiliary classifier. Options: ``classes``."""
    x = tape.pool(_stem(tape, tape.image(3, sizes["image_px"], sizes["image_px"])), 3, 2)
    x = conv_norm(tape, conv_norm(tape, x, 80, 1, name="stem3"), 192, 3, pad=0, name="stem4")
    x = tape.pool(x, 3, 2)
    for index, pool in enumerate((32, 64, 64)):
        with tape.scope(f"mixed5{index}"):
            three = ((64, 1, 1), (96, 3, 1), (96, 3, 1))
            x = _mix(tape, x, ((64, 1, 1),), ((48, 1, 1), (64, 5, 1)), three, pool=pool)
    with tape.scope("mixed6"):
        x = _mix(tape, x, ((384, 3, 2),), ((64, 1, 1), (96, 3, 1), (96, 3, 2)), shrink=True)
    for index, c in enumerate((128, 160, 160, 192)):
        with tape.scope(f"mixed6{index}"):
            five: tuple[Step, ...] = ((c, 1, 1), (c, TALL, 1), (c, WIDE, 1), (c, TALL, 1), (192, WIDE, 1))
            x = _mix(tape, x, ((192, 1, 1),), ((c, 1, 1), (c, WIDE, 1), (192, TALL, 1)), five, pool=192)
    with tape.scope("mixed7"):
        x = _mix(
            tape, x, ((192, 1, 1), (320, 3, 2)), ((192, 1, 1), (192, WIDE, 1), (192, TALL, 1), (192, 3, 2)), shrink=True
        )
    for index in range(2):
        with tape.scope(f"mixed7{index}"):
            total = _fork(tape, x, ((384, 1, 1),), 384, "fork1") + _fork(
                tape, x, ((448, 1, 1), (384, 3, 1)), 384, "fork2"
            )
            y = _mix(tape, x, ((320, 1, 1),), pool=192)
            x = concatenate(tape, y, y.channels + total)
    classifier(tape, x, net.option("classes", 1000))


@family("inception_v4")
def inception_v4(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Inception v4 (Szegedy et al. 2017). Options: ``classes``."""
    x = _stem(tape, tape.image(3, sizes["image_px"], sizes["image_px"]))
    x = _mix(tape, x, ((96, 3, 2),), shrink=True)
    with tape.scope("mixed4"):
        x = _mix(tape, x, ((64, 1, 1), (96, 3, 1)), ((64, 1, 1), (64, WIDE, 1), (64, TALL, 1), (96, 3, 1)), valid=True)
    with tape.scope("mixed5"):
        x = _mix(tape, x, ((192, 3, 2),), shrink=True)
    a: tuple[tuple[Step, ...], ...] = (((96, 1, 1),), ((64, 1, 1), (96, 3, 1)), ((64, 1, 1), (96, 3, 1), (96, 3, 1)))
    with tape.scope("a"):
        x = tape.repeat(4, lambda y: _mix(tape, y, *a, pool=96), x)
        x = _mix(tape, x, ((384, 3, 2),), ((192, 1, 1), (224, 3, 1), (256, 3, 2)), shrink=True)
    five: tuple[Step, ...] = ((192, 1, 1), (192, TALL, 1), (224, WIDE, 1), (224, TALL, 1), (256, WIDE, 1))
    with tape.scope("b"):
        b: tuple[tuple[Step, ...], ...] = (((384, 1, 1),), ((192, 1, 1), (224, WIDE, 1), (256, TALL, 1)), five)
        x = tape.repeat(7, lambda y: _mix(tape, y, *b, pool=128), x)
        x = _mix(
            tape, x, ((192, 1, 1), (192, 3, 2)), ((256, 1, 1), (256, WIDE, 1), (320, TALL, 1), (320, 3, 2)), shrink=True
        )
    with tape.scope("c"):
        x = tape.repeat(3, lambda y: _last_block(tape, y), x)
    classifier(tape, x, net.option("classes", 1000))


def _last_block(tape: Tape, x: Map) -> Map:
    total = _fork(tape, x, ((384, 1, 1),), 256, "fork1")
    total += _fork(tape, x, ((384, 1, 1), (448, (3, 1), 1), (512, (1, 3), 1)), 256, "fork2")
    y = _mix(tape, x, ((256, 1, 1),), pool=256)
    return concatenate(tape, y, y.channels + total)


@family("xception")
def xception(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Xception (Chollet 2017): separable convolutions with shortcuts. Options: ``classes``."""
    x = conv_norm(tape, tape.image(3, sizes["image_px"], sizes["image_px"]), 32, 3, 2, pad=0, name="conv1")
    x = conv_norm(tape, x, 64, 3, pad=0, name="conv2")
    for index, out in enumerate((128, 256, 728)):
        with tape.scope(f"entry{index}"):
            x = _xception_block(tape, x, (out, out), 2)
    with tape.scope("middle"):
        x = tape.repeat(8, lambda y: _xception_block(tape, y, (728, 728, 728), 1), x)
    with tape.scope("exit"):
        x = _xception_block(tape, x, (728, 1024), 2)
        for out in (1536, 2048):
            x = tape.activate(_separable(tape, x, out, f"conv{out}"))
    classifier(tape, x, net.option("classes", 1000))


def _separable(tape: Tape, x: Map, out: int, name: str) -> Map:
    y = tape.conv(x, x.channels, 3, groups=x.channels, name=f"{name}_depthwise")
    return tape.norm(tape.conv(y, out, 1, name=name), name=f"{name}_norm")


def _xception_block(tape: Tape, x: Map, widths: tuple[int, ...], stride: int) -> Map:
    y = x
    for index, width in enumerate(widths):
        y = _separable(tape, tape.activate(y), width, f"conv{index}")
    if stride > 1:
        y = tape.pool(y, 3, stride, pad=1)
        conv_norm(tape, x, widths[-1], 1, stride, act="", name="shortcut")
    return tape.add(y)


@family("xception_aligned")
def xception_aligned(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Aligned Xception (Chen et al. 2018, DeepLab v3+): three separable convolutions per block, the last one strided.

    Options: ``entry``: blocks of (channels, stride); ``middle`` blocks; ``early`` norms and activations (before the
    convolutions); ``classes``.
    """
    early = net.option("early", False)
    x = conv_norm(tape, tape.image(3, sizes["image_px"], sizes["image_px"]), 32, 3, 2, name="stem1")
    x = tape.conv(x, 64, 3, name="stem2") if early else conv_norm(tape, x, 64, 3, name="stem2")
    for index, (out, stride) in enumerate(net.option("entry")):
        with tape.scope(f"entry{index}"):
            x = _aligned_block(tape, x, (out, out, out), stride, early)
    with tape.scope("middle"):
        x = tape.repeat(net.option("middle"), lambda y: _aligned_block(tape, y, (728, 728, 728), 1, early), x)
    with tape.scope("exit1"):
        x = _aligned_block(tape, x, (728, 1024, 1024), 2, early)
    with tape.scope("exit2"):
        x = _aligned_block(tape, x, (1536, 1536, 2048), 1, early, skip=False, inner=not early)
    classifier(tape, tape.activate(x) if early else x, net.option("classes", 1000))


def _aligned_block(tape: Tape, x: Map, widths: tuple[int, int, int], stride: int, early: bool, skip: bool = True,
                   inner: bool = False) -> Map:  # fmt: skip
    """``early``: norm and activation before each pair of convolutions; else norms after each convolution, activations before
    each pair, or with ``inner`` after every norm.
    """
    y = x = tape.activate(tape.norm(x, name="norm0")) if early else x
    for index, width in enumerate(widths):
        if early:
            y = tape.activate(tape.norm(y, name=f"norm{index}")) if index else y
        else:
            y = y if inner else tape.activate(y)
        y = tape.conv(y, y.channels, 3, stride if index == 2 else 1, y.channels, name=f"depthwise{index}")
        y = y if early else tape.norm(y, name=f"depthwise_norm{index}")
        y = tape.conv(tape.activate(y) if inner else y, width, 1, name=f"conv{index}")
        y = y if early else tape.norm(y, name=f"norm{index}")
        y = tape.activate(y) if inner else y
    if skip and (x.channels != widths[-1] or stride > 1):
        short = tape.conv(x, widths[-1], 1, stride, name="shortcut")
        if not early:
            tape.norm(short, name="shortcut_norm")
    return tape.add(y) if skip else y


@family("inception_resnet_v2")
def inception_resnet_v2(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Inception-ResNet v2 (Szegedy et al. 2017): inceptions whose joined branches are added to their input.

    Options: ``classes``.
    """
    x = tape.pool(_stem(tape, tape.image(3, sizes["image_px"], sizes["image_px"])), 3, 2)
    x = tape.pool(conv_norm(tape, conv_norm(tape, x, 80, 1, name="stem3"), 192, 3, pad=0, name="stem4"), 3, 2)
    with tape.scope("mixed5"):
        x = _mix(tape, x, ((96, 1, 1),), ((48, 1, 1), (64, 5, 1)), ((64, 1, 1), (96, 3, 1), (96, 3, 1)), pool=64)
    x = _joined(tape, x, 10, "a", ((32, 1, 1),), ((32, 1, 1), (32, 3, 1)), ((32, 1, 1), (48, 3, 1), (64, 3, 1)))
    with tape.scope("mixed6"):
        x = _mix(tape, x, ((384, 3, 2),), ((256, 1, 1), (256, 3, 1), (384, 3, 2)), shrink=True)
    x = _joined(tape, x, 20, "b", ((192, 1, 1),), ((128, 1, 1), (160, WIDE, 1), (192, TALL, 1)))
    with tape.scope("mixed7"):
        three: tuple[Step, ...] = ((256, 1, 1), (288, 3, 1), (320, 3, 2))
        x = _mix(tape, x, ((256, 1, 1), (384, 3, 2)), ((256, 1, 1), (288, 3, 2)), three, shrink=True)
    x = _joined(tape, x, 10, "c", ((192, 1, 1),), ((192, 1, 1), (224, (1, 3), 1), (256, (3, 1), 1)))
    classifier(tape, conv_norm(tape, x, 1536, 1, name="last"), net.option("classes", 1000))


def _joined(tape: Tape, x: Map, depth: int, name: str, *branches: tuple[Step, ...]) -> Map:
    def block(y: Map) -> Map:
        return tape.activate(tape.add(tape.conv(_mix(tape, y, *branches), y.channels, 1, bias=True, name="join")))

    with tape.scope(name):
        return tape.repeat(depth, block, x)


@family("ghostnet")
def ghostnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """GhostNet (Han et al. 2020) and its second version (Tang et al. 2022: a long-range gate on each block's first part).

    Options: ``stages``: blocks of (kernel, inner channels, channels, attention ratio, stride); ``width`` factor,
    ``version``, ``classes``.
    """
    width = net.option("width", 1.0)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = conv_norm(tape, x, rounded(16 * width, 4), 3, 2, name="stem")
    blocks = net.option("stages")
    for index, (kernel, inner, out, ratio, stride) in enumerate(blocks):
        with tape.scope(f"block{index}"):
            gated = net.option("version", 1) == 2 and index > 1
            x = _ghost_block(tape, x, kernel, rounded(inner * width, 4), rounded(out * width, 4), ratio, stride, gated)
    x = conv_norm(tape, x, rounded(960 * width, 4), 1, name="last")
    with tape.scope("head"):
        y = tape.activate(tape.linear(tape.global_pool(x), 1280, name="hidden"))
        tape.linear(y, net.option("classes", 1000), name="classifier")


def _ghost(tape: Tape, x: Map, out: int, act: str, name: str) -> Map:
    """Half of the channels from a convolution, half from a depthwise one on them."""
    with tape.scope(name):
        half = conv_norm(tape, x, ceil(out / 2), 1, act=act, name="primary")
        return concatenate(tape, depthwise(tape, half, 3, act=act, name="cheap"), float(out))


def _ghost_block(tape: Tape, x: Map, kernel: int, inner: int, out: int, ratio: float, stride: int, gated: bool) -> Map:
    y = _ghost(tape, x, inner, "relu", "ghost1")
    if gated:
        z = conv_norm(tape, tape.pool(x, 2, 2), inner, 1, act="", name="gate")
        z = conv_norm(tape, z, inner, (1, 5), groups=inner, act="", name="gate_wide")
        tape.activate(conv_norm(tape, z, inner, (5, 1), groups=inner, act="", name="gate_tall"), 1.0)
        y = tape.multiply(y)
    y = depthwise(tape, y, kernel, stride, "", "down") if stride > 1 else y
    y = squeeze_excite(tape, y, rounded(inner * ratio, 4)) if ratio else y
    y = _ghost(tape, y, out, "", "ghost2")
    if stride > 1 or x.channels != out:
        conv_norm(tape, depthwise(tape, x, kernel, stride, "", "shortcut_down"), out, 1, act="", name="shortcut")
    return tape.add(y)
