"""Residual convolutional networks: ResNet, ResNeXt, Wide ResNet and the changes to their stems, shortcuts and blocks."""

from __future__ import annotations

from collections.abc import Iterable

from ridgepoint.models.networks.families.convolutions import (
    concatenate,
    conv_norm,
    efficient_channel,
    rounded,
    squeeze_excite,
)
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


@family("resnet")
def resnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """ResNet v1.5 (He et al. 2016; stride in the 3 × 3 convolution), ResNeXt (Xie et al. 2017), Wide ResNet (Zagoruyko and
    Komodakis 2016), ResNet-D (He et al. 2019), SE (Hu et al. 2018), ECA (Wang et al. 2020), ResNet-RS (Bello et al. 2021),
    Res2Net (Gao et al. 2019), ResNeSt (Zhang et al. 2020), SKNet (Li et al. 2019), anti-aliased ones (Zhang 2019).

    Options: ``depths`` blocks per stage, ``bottleneck``, ``groups`` and ``width`` of a group at the first stage (64),
    ``stem`` (widths of its 3 × 3 convolutions; one 7 × 7 without), ``stem_conv`` (a strided convolution instead of the
    pool), ``avg_down`` (pooled shortcuts), ``attention`` (``se``, ``eca``), ``se_ratio``, ``antialias`` (``blur``,
    ``avg``), ``scale`` (splits of Res2Net), ``radix`` (ResNeSt), ``selective`` (SK; ``whole``: every kernel sees
    all channels), ``narrow`` (SENet-154: half the width before the 3 × 3 convolution, 3 × 3 in shortcuts that shrink the
    map), ``strides`` of the stages, ``stride_first`` (in the first convolution of a block, as v1 and Caffe2's models have it),
    ``norm``, ``untrained`` (parts that training leaves as they are), ``classes``.
    """
    x = residual_features(tape, net, tape.image(3, sizes["image_px"], sizes["image_px"]))
    with tape.scope("head"):
        tape.linear(tape.global_pool(x), net.option("classes", 1000), name="classifier")


def residual_features(tape: Tape, net: Network, x: Map) -> Map:
    """Stem and stages with the options of :func:`resnet`: the last feature map."""
    return residual_maps(tape, net, x)[-1]


def residual_maps(tape: Tape, net: Network, x: Map) -> list[Map]:
    """The stem's map and that of every stage; ``strides`` per stage keep the size in dilated backbones. ``untrained``: how many
    of them, from the stem on, training leaves as they are.
    """
    maps: list[Map] = []

    def run(x: Map, parts: Iterable[int]) -> Map:
        for part in parts:
            x = _part(tape, net, x, part)
            maps.append(x)
        return x

    first, count = net.option("untrained", 0), len(net.option("depths")) + 1
    if first:
        x = tape.untrained(lambda y: run(y, range(first)), x)
    run(x, range(first, count))
    return maps


def _part(tape: Tape, net: Network, x: Map, number: int) -> Map:
    """The stem (0) or a stage."""
    if number == 0:
        with tape.scope("stem"):
            return _stem(tape, net, x)
    stride = net.option("strides", (1, 2, 2, 2))[number - 1]
    with tape.scope(f"layer{number}"):
        return residual_stage(tape, net, x, 64 * 2 ** (number - 1), net.option("depths")[number - 1], stride)


def residual_stage(tape: Tape, net: Network, x: Map, planes: int, depth: int, stride: int) -> Map:
    """``depth`` blocks of ``planes``, the first with the stride."""
    x = _block(tape, net, x, planes, stride, first=True)
    return tape.repeat(depth - 1, lambda y: _block(tape, net, y, planes, 1), x)


def _stem(tape: Tape, net: Network, x: Map) -> Map:
    norm, antialias = net.option("norm", "batch"), net.option("antialias", "")
    widths = net.option("stem", ())
    for index, width in enumerate(widths):
        x = conv_norm(tape, x, width, 3, 1 if index else 2, norm=norm, name=f"conv{index + 1}")
    if not widths:
        x = conv_norm(tape, x, 64, 7, 2, norm=norm, name="conv")
    if net.option("stem_conv", False):
        return conv_norm(tape, x, x.channels, 3, 2, name="down")
    if antialias == "avg":
        return tape.pool(x, 2, 2)
    if antialias == "blur":
        return blur(tape, tape.pool(x, 3, 1, pad=1))
    return tape.pool(x, 3, 2, pad=1)


def blur(tape: Tape, x: Map, stride: int = 2, name: str = "blur") -> Map:
    """A fixed 3 × 3 low-pass filter on each channel before taking every second value."""
    return tape.conv(x, x.channels, 3, stride, x.channels, name=name, counted=False)


def _shrink(tape: Tape, net: Network, x: Map) -> Map:
    """Halves a map whose convolution ran at full size."""
    return blur(tape, x) if net.option("antialias") == "blur" else tape.pool(x, 2, 2)


def _attention(tape: Tape, net: Network, x: Map) -> Map:
    kind = net.option("attention", "")
    if kind == "se":
        return squeeze_excite(tape, x, rounded(float(x.channels) * net.option("se_ratio", 1 / 16), 8, limit=0.0))
    return efficient_channel(tape, x) if kind == "eca" else x


def _block(tape: Tape, net: Network, x: Map, planes: int, stride: int, first: bool = False) -> Map:
    bottleneck = net.option("bottleneck", True)
    norm = net.option("norm", "batch")
    out = planes * (4 if bottleneck else 1)
    if bottleneck:
        inner = int(planes * net.option("width", 64) / 64) * net.option("groups", 1)
        scale = net.option("scale", 1)
        first_width = inner // 2 if net.option("narrow", False) else inner * scale
        early = net.option("stride_first", False)
        y = conv_norm(tape, x, first_width, 1, stride if early else 1, norm=norm, name="conv1")
        y = _middle(tape, net, y, inner, 1 if early else stride, first)
        y = tape.norm(tape.conv(y, out, 1, name="conv3"), norm, name="norm3")
    elif net.option("selective", False):
        y = _selective(tape, net, x, out, stride)
        y = conv_norm(tape, y, out, 3, act="", name="conv2")
    else:
        late = stride > 1 and bool(net.option("antialias", ""))
        y = conv_norm(tape, x, out, 3, 1 if late else stride, norm=norm, name="conv1")
        y = _shrink(tape, net, y) if late else y
        y = tape.norm(tape.conv(y, out, 3, name="conv2"), norm, name="norm2")
    y = _attention(tape, net, y)
    if stride != 1 or x.channels != out:
        pooled = net.option("avg_down", False)
        shortcut = tape.pool(x, 2, 2) if pooled and stride > 1 else x
        kernel = 3 if net.option("narrow", False) and stride > 1 else 1
        short = tape.conv(shortcut, out, kernel, 1 if pooled else stride, name="shortcut")
        tape.norm(short, norm, name="shortcut_norm")
    return tape.activate(tape.add(y))


def _middle(tape: Tape, net: Network, x: Map, inner: int, stride: int, first: bool) -> Map:
    """The 3 × 3 part of a bottleneck."""
    groups, norm = net.option("groups", 1), net.option("norm", "batch")
    scale, radix = net.option("scale", 1), net.option("radix", 0)
    if scale > 1:
        part = Map(x.batch, float(inner), x.height, x.width)
        for index in range(scale - 1):
            y = conv_norm(tape, part, inner, 3, stride, groups, name=f"split{index}")
        if first:
            tape.pool(part, 3, stride, pad=1)
        return concatenate(tape, y, float(inner * scale))
    if radix:
        return _split_attention(tape, net, x, inner, radix, stride)
    if net.option("selective", False):
        return _selective(tape, net, x, inner, stride, groups)
    late = stride > 1 and bool(net.option("antialias", ""))
    y = conv_norm(tape, x, inner, 3, 1 if late else stride, groups, norm=norm, name="conv2")
    return _shrink(tape, net, y) if late else y


def _split_attention(tape: Tape, net: Network, x: Map, inner: int, radix: int, stride: int) -> Map:
    """ResNeSt: ``radix`` feature maps weighted by channel attention, the stride taken by an average pool."""
    groups = net.option("groups", 1)
    before = net.option("pool_first", False)
    with tape.scope("split_attention"):
        x = tape.pool(x, 3, stride, pad=1) if stride > 1 and before else x
        y = conv_norm(tape, x, inner * radix, 3, groups=groups * radix)
        pooled = tape.global_pool(Map(y.batch, float(inner), y.height, y.width))
        hidden = max(inner * radix // 4, 32)
        z = Map(pooled.batch, float(inner), 1.0, 1.0)
        z = tape.activate(tape.norm(tape.conv(z, hidden, 1, groups=groups, bias=True, name="reduce")))
        tape.conv(z, inner * radix, 1, groups=groups, bias=True, name="expand")
        tape.scale(y)
        y = Map(y.batch, float(inner), y.height, y.width)
        return tape.pool(y, 3, stride, pad=1) if stride > 1 and not before else y


def _selective(tape: Tape, net: Network, x: Map, out: int, stride: int, groups: int = 1) -> Map:
    """SK: two kernel sizes on half of the channels each (``selective`` = ``whole``: on all), weighted by attention."""
    with tape.scope("selective"):
        whole = net.option("selective") == "whole"
        half = x if whole else Map(x.batch, x.channels / 2.0, x.height, x.width)
        for index in (1, 2):
            y = conv_norm(tape, half, out, 3, stride, groups, dilation=index, name=f"path{index}")
        pooled = tape.global_pool(tape.add(y))
        hidden = rounded(out / 16, 32) if whole else rounded(out / 8, 16, limit=0.0)
        z = tape.activate(tape.norm(tape.linear(pooled, hidden, False, "reduce"), "batch"))
        tape.linear(z, 2 * out, False, "select")
        return tape.multiply(y)
