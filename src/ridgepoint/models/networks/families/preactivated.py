"""Residual networks with norms before convolutions, or with no norms: ResNet v2, Big Transfer, NFNet."""

from __future__ import annotations

from ridgepoint.models.networks.families.convolutions import (
    activation,
    classifier,
    conv_norm,
    efficient_channel,
    rounded,
    squeeze_excite,
)
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


@family("resnet_v2")
def resnet_v2(tape: Tape, net: Network, sizes: Sizes) -> None:
    """ResNet v2 (He et al. 2016) and Big Transfer (Kolesnikov et al. 2020).

    Options: ``depths``, ``width`` factor, ``stem`` (widths of its 3 × 3 convolutions; one 7 × 7 without), ``avg_down``,
    ``norm`` (``group`` in Big Transfer), ``classes``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    feature_map(tape, net, x)
    out = Map(x.batch, 2048.0 * net.option("width", 1), 1.0, 1.0)
    with tape.scope("head"):
        tape.linear(tape.to_rows(out), net.option("classes", 1000), name="classifier")


def feature_map(tape: Tape, net: Network, x: Map) -> Map:
    """Stem, stages, last norm, and the mean over positions."""
    norm, factor = net.option("norm", "batch"), net.option("width", 1)
    stem = net.option("stem", ())
    with tape.scope("stem"):
        for index, width in enumerate(stem):
            x = tape.conv(x, width, 3, 1 if index else 2, name=f"conv{index + 1}")
            if index + 1 < len(stem):
                x = tape.activate(tape.norm(x, norm, name=f"norm{index + 1}"))
        x = x if stem else tape.conv(x, 64 * factor, 7, 2)
        x = tape.pool(x, 3, 2, pad=1)
    for stage, depth in enumerate(net.option("depths")):
        out = 256 * 2**stage * factor
        with tape.scope(f"layer{stage + 1}"):
            x = _block(tape, net, x, out, 1 if stage == 0 else 2)
            x = tape.repeat(depth - 1, lambda y, out=out: _block(tape, net, y, out, 1), x)  # type: ignore[misc]
    x = tape.activate(tape.norm(x, norm, name="last_norm"))
    tape.global_pool(x)
    return x


def _block(tape: Tape, net: Network, x: Map, out: int, stride: int) -> Map:
    norm = net.option("norm", "batch")
    x = tape.activate(tape.norm(x, norm, name="norm1"))
    if stride != 1 or x.channels != out:
        pooled = net.option("avg_down", False) and stride > 1
        short = tape.pool(x, 2, 2) if pooled else x
        tape.conv(short, out, 1, 1 if pooled else stride, name="shortcut")
    y = conv_norm(tape, x, out // 4, 1, norm=norm, name="conv1")
    y = conv_norm(tape, y, out // 4, 3, stride, norm=norm, name="conv2")
    return tape.add(tape.conv(y, out, 1, name="conv3"))


@family("nfnet")
def nfnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Normaliser-free networks (Brock et al. 2021): convolutions with standardised weights, a gain and a bias per channel.

    Options: ``depths``, ``group`` width, ``ratio`` of the inner width, ``features`` of the last convolution,
    ``attention`` (``se``, ``eca``), ``se_ratio``, ``act``, ``classes``.
    """
    act = net.option("act", "gelu")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    with tape.scope("stem"):
        for index, width in enumerate((16, 32, 64, 128)):
            x = _scaled(tape, x, width, 3, 2 if index in (0, 3) else 1, name=f"conv{index + 1}")
            x = activation(tape, x, act) if index < 3 else x
    for stage, (width, depth) in enumerate(zip((256, 512, 1536, 1536), net.option("depths"), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            x = _free_block(tape, net, x, width, 2 if stage else 1, first=True)
            x = tape.repeat(depth - 1, lambda y, width=width: _free_block(tape, net, y, width, 1), x)  # type: ignore[misc]
    x = activation(tape, _scaled(tape, x, net.option("features"), 1, name="last"), act)
    classifier(tape, x, net.option("classes", 1000))


def _scaled(tape: Tape, x: Map, out: Num, kernel: int, stride: int = 1, groups: int = 1, name: str = "conv") -> Map:
    """A convolution whose weights are standardised and scaled by a gain per channel."""
    y = tape.conv(x, out, kernel, stride, groups, bias=True, name=name)
    tape.count(f"{name}.gain", float(y.channels))
    return y


def _free_block(tape: Tape, net: Network, x: Map, out: int, stride: int, first: bool = False) -> Map:
    act, group = net.option("act", "gelu"), net.option("group", 128)
    inner = rounded(out * net.option("ratio", 0.5), 8) // group * group
    x = tape.scale(_gamma_act(tape, x, act), "beta")
    if first:
        _scaled(tape, tape.pool(x, 2, 2) if stride > 1 else x, out, 1, name="shortcut")
    y = _gamma_act(tape, _scaled(tape, x, inner, 1, name="conv1"), act)
    for index in (2, 3):
        y = _scaled(tape, y, inner, 3, stride if index == 2 else 1, inner // group, name=f"conv{index}")
        y = _gamma_act(tape, y, act)
    y = _scaled(tape, y, out, 1, name="conv4")
    if net.option("attention", "se") == "eca":
        y = efficient_channel(tape, y)
    else:
        y = squeeze_excite(tape, y, rounded(out * net.option("se_ratio", 0.5), 8, limit=0.0))
    tape.count("gain", 1.0)
    for factor in ("attention_gain", "skip_gain", "alpha"):
        y = tape.scale(y, factor)
    return tape.add(y)


def _gamma_act(tape: Tape, x: Map, act: str) -> Map:
    """An activation and the factor that keeps its variance."""
    return tape.scale(activation(tape, x, act), "gamma")
