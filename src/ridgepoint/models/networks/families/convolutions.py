"""Pieces that convolutional networks share: convolution with norm and activation, channel attention, inverted residuals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num

SPECIAL = {"relu": 0.0, "relu6": 0.0, "hard_swish": 0.0, "silu": 1.0, "gelu": 1.0, "sigmoid": 1.0}
"""Special functions (exponentials and the like) per value of each activation."""


def rounded(channels: float, divisor: int = 8, least: int = 0, limit: float = 0.9) -> int:
    """Channels rounded to a multiple of ``divisor``, never below ``limit`` of the number (the MobileNet rule).

    >>> rounded(32 * 0.35), rounded(24 * 1.1)
    (16, 24)
    """
    whole = max(least or divisor, int(channels + divisor / 2) // divisor * divisor)
    return whole + divisor if whole < limit * channels else whole


def activation(tape: Tape, x: Map, act: str, name: str = "act") -> Map:
    """The named activation; an empty name leaves ``x``."""
    return tape.activate(x, SPECIAL[act], name=name) if act else x


def conv_norm(
    tape: Tape, x: Map, out: Num, kernel: int | tuple[int, int], stride: int = 1, groups: Num = 1, act: str = "relu",
    *, pad: int | tuple[int, int] | None = None, dilation: int = 1, norm: str = "batch", name: str = "conv",
) -> Map:  # fmt: skip
    """Convolution, norm and activation (none for an empty name)."""
    y = tape.conv(x, out, kernel, stride, groups, pad=pad, dilation=dilation, name=name)
    return activation(tape, tape.norm(y, norm, name=f"{name}_norm"), act, f"{name}_act")


def depthwise(tape: Tape, x: Map, kernel: int, stride: int = 1, act: str = "relu", name: str = "depthwise") -> Map:
    """A depthwise convolution with norm and activation."""
    return conv_norm(tape, x, x.channels, kernel, stride, x.channels, act, name=name)


def squeeze_excite(tape: Tape, x: Map, hidden: float, bias: bool = True, norm: bool = False, name: str = "se") -> Map:
    """Channel attention from two projections of the pooled map (Hu et al. 2018)."""
    with tape.scope(name):
        y = tape.linear(tape.global_pool(x), hidden, bias, "reduce")
        if norm:
            y = tape.norm(y, "batch")
        y = tape.linear(tape.activate(y), x.channels, bias, "expand")
        tape.activate(y, 1.0, name="gate")
        return tape.scale(x)


def efficient_channel(tape: Tape, x: Map, kernel: int = 0, name: str = "eca") -> Map:
    """Channel attention from a small convolution along the channels of the pooled map (Wang et al. 2020)."""
    with tape.scope(name):
        y = tape.global_pool(x)
        tape.conv(Map(y.batch, 1.0, 1.0, x.channels), 1, (1, kernel or eca_kernel(float(x.channels))), name="along")
        tape.activate(y, 1.0, name="gate")
        return tape.scale(x)


def eca_kernel(channels: float) -> int:
    """The kernel of efficient channel attention grows with the logarithm of the channels.

    >>> eca_kernel(256), eca_kernel(2048)
    (5, 7)
    """
    from math import log2

    size = int(abs(log2(channels) + 1) / 2)
    return max(size if size % 2 else size + 1, 3)


def inverted_residual(
    tape: Tape, x: Map, out: int, kernel: int, stride: int, expand: float, *, se: float = 0.0, act: str = "relu",
    divisor: int = 8,
) -> Map:  # fmt: skip
    """Expansion, depthwise convolution, channel attention of ``se`` channels, projection (Sandler et al. 2018)."""
    mid = rounded(float(x.channels) * expand, divisor)
    y = conv_norm(tape, x, mid, 1, act=act, name="expand") if expand != 1 else x
    y = depthwise(tape, y, kernel, stride, act)
    if se:
        y = squeeze_excite(tape, y, se)
    y = conv_norm(tape, y, out, 1, act="", name="project")
    return tape.add(y) if stride == 1 and x.channels == out else y


def classifier(tape: Tape, x: Map | Rows, classes: int = 1000, bias: bool = True) -> Rows:
    """The mean over positions and the projection to the classes."""
    with tape.scope("head"):
        return tape.linear(tape.global_pool(x), classes, bias, "classifier")


def concatenate(tape: Tape, x: Map, channels: Num, name: str = "concat") -> Map:
    """``x`` beside other maps: ``channels`` in all."""
    return tape.move(replace(x, channels=float(channels) if isinstance(channels, int) else channels), name=name)


def stages(tape: Tape, x: Map, depth: int, first: Callable[[Map], Map], rest: Callable[[Map], Map]) -> Map:
    """A block that changes the shape, then ``depth`` − 1 blocks that keep it."""
    return tape.repeat(depth - 1, rest, first(x))
