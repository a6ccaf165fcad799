"""Residual networks listed stage by stage: GENet, RegNetZ variants, ResNets with other stems, RepVGG, MobileOne."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.convolutions import (
    activation,
    classifier,
    conv_norm,
    efficient_channel,
    rounded,
    squeeze_excite,
)
from ridgepoint.models.networks.families.position_attention import ATTENTIONS, position_attention
from ridgepoint.models.networks.families.tokens import mlp
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape

Stage = tuple[str, int, int, int, int, float]
"""Kind of block, how many, channels, stride of the first, group width (0: no groups, 1: depthwise), inner ratio."""


@family("bespoke")
def bespoke(tape: Tape, net: Network, sizes: Sizes) -> None:
    """GENet (Lin et al. 2020), GCNet's attention (Cao et al. 2019), CLIP's ResNets (Radford et al. 2021), RepVGG (Ding et
    al. 2021) and MobileOne (Vasu et al. 2023) as they train, with all branches.

    Options: ``stages`` (see ``Stage``; kinds ``basic``, ``bottle``, ``edge``, ``dark``, and those of
    :func:`~ridgepoint.models.networks.families.position_attention.position_attention`), ``stem`` widths, ``stem_strides``,
    ``stem_plain`` (its first convolutions without norm), ``stem_pool`` (``max``, ``avg``), ``features`` of the last
    convolution, ``act``, ``norm``, ``attention`` (``se``, ``eca``, ``context``), ``se_ratio``, ``extra`` (a second 3 × 3 in a
    block), ``inner_of_input``, ``linear``, ``pooled`` (pooling halves maps), ``attention_pool`` (its output width),
    ``hidden`` (width of a layer before the classifier), ``classes``.
    """
    act, norm = net.option("act", "relu"), net.option("norm", "batch")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    with tape.scope("stem"):
        x = _stem(tape, net, x)
    for index, stage in enumerate(net.option("stages")):
        with tape.scope(f"stage{index + 1}"):
            x = _block(tape, net, x, stage, stage[3])
            x = tape.repeat(stage[1] - 1, lambda y, stage=stage: _block(tape, net, y, stage, 1), x)  # type: ignore[misc]
    if net.option("features", 0):
        x = conv_norm(tape, x, net.option("features"), 1, act=act, norm=norm, name="last")
    if net.option("attention_pool", 0):
        _attention_pool(tape, net, x)
    elif net.option("hidden", 0):
        mlp(tape, tape.global_pool(x), net.option("hidden"), net.option("classes", 1000), name="head")
    elif net.option("classes", 1000):
        classifier(tape, x, net.option("classes", 1000))


def _stem(tape: Tape, net: Network, x: Map) -> Map:
    act, widths = net.option("act", "relu"), net.option("stem")
    strides = net.option("stem_strides", (2, *(1 for _ in widths[1:])))
    for index, (width, stride) in enumerate(zip(widths, strides, strict=True)):
        if index < net.option("stem_plain", 0):
            x = tape.conv(x, width, 3, stride, name=f"conv{index + 1}")
        else:
            x = conv_norm(tape, x, width, 3, stride, act=act, norm=net.option("norm", "batch"), name=f"conv{index + 1}")
    pool = net.option("stem_pool", "")
    if not pool:
        return x
    return tape.pool(x, 3, 2, pad=1) if pool == "max" else tape.pool(x, 2, 2)


def _groups(width: int, group: int) -> int:
    return width // group if group else 1


def _block(tape: Tape, net: Network, x: Map, stage: Stage, stride: int) -> Map:
    kind, _, out, _, group, ratio = stage
    act, norm = net.option("act", "relu"), net.option("norm", "batch")
    inner = rounded((float(x.channels) if net.option("inner_of_input", False) else out) * ratio)
    y = x
    if kind in ("bottle", "dark", *ATTENTIONS):
        y = conv_norm(tape, y, inner, 1, act=act, norm=norm, name="conv1")
    if kind in ATTENTIONS:
        y = tape.norm(position_attention(tape, net, y, kind, stride), norm, name="attended_norm")
        y = conv_norm(tape, activation(tape, y, act), out, 1, act="", norm=norm, name="conv3")
    elif kind == "dark":
        y = _attend(tape, net, y)
        y = _strided(tape, net, y, out, stride, _groups(inner, group), act)
    else:
        y = _strided(tape, net, y, inner, stride, _groups(inner, group) if kind != "edge" or group else 1, act)
        if net.option("extra", False) and kind == "bottle":
            y = conv_norm(tape, y, inner, 3, 1, _groups(inner, group), act, norm=norm, name="conv2b")
        y = _attend(tape, net, y) if kind != "basic" else y
        kernel, groups = (3, _groups(inner, group)) if kind == "basic" else (1, 1)
        y = conv_norm(tape, y, out, kernel, 1, groups, "", norm=norm, name="conv3")
        y = _attend(tape, net, y) if kind == "basic" else y
    changes = stride != 1 or x.channels != out
    if changes and net.option("linear", False):
        return y
    if changes:
        pooled = net.option("pooled", False) and stride > 1
        short = tape.pool(x, 2, 2) if pooled else x
        tape.norm(tape.conv(short, out, 1, 1 if pooled else stride, name="shortcut"), norm, name="shortcut_norm")
    y = tape.add(y)
    return y if net.option("linear", False) else activation(tape, y, act)


def _strided(tape: Tape, net: Network, x: Map, out: int, stride: int, groups: int, act: str) -> Map:
    norm = net.option("norm", "batch")
    if stride > 1 and net.option("pooled", False):
        return tape.pool(conv_norm(tape, x, out, 3, 1, groups, act, norm=norm, name="conv2"), 2, 2)
    return conv_norm(tape, x, out, 3, stride, groups, act, norm=norm, name="conv2")


def _attend(tape: Tape, net: Network, x: Map) -> Map:
    kind, channels = net.option("attention", ""), float(x.channels)
    if kind == "se":
        return squeeze_excite(tape, x, rounded(channels * net.option("se_ratio", 1 / 16), 8, limit=0.0))
    if kind == "eca":
        return efficient_channel(tape, x)
    return global_context(tape, x, int(channels / 8)) if kind == "context" else x


def global_context(tape: Tape, x: Map, hidden: int) -> Map:
    """One attention map for all positions sums them up; two projections of the sum are added to every position."""
    with tape.scope("context"):
        tape.conv(x, 1, 1, bias=True, name="weights")
        tape.softmax(x.batch, x.positions)
        tape.matmul(1.0, x.channels, x.positions, x.batch, "sum")
        y = tape.linear(Rows(x.batch, 1.0, x.channels), hidden, name="reduce")
        tape.linear(tape.activate(tape.norm(y, "layer")), x.channels, name="expand")
        return tape.scale(x)


def _attention_pool(tape: Tape, net: Network, x: Map) -> None:
    """CLIP: the mean position attends to all; its row is projected."""
    dim = float(x.channels)
    with tape.scope("head"):
        rows = tape.to_rows(x)
        rows = replace(rows, length=rows.length + 1.0)
        tape.count("positions", ((net.size("image_px") // 32) ** 2 + 1.0) * dim)
        tape.linear(rows, 3.0 * dim, name="qkv")
        y = tape.attend(rows, rows, dim / 64.0, 64.0)
        tape.linear(y, net.option("attention_pool"), name="output")


@family("branches")
def branches(tape: Tape, net: Network, sizes: Sizes) -> None:
    """RepVGG and MobileOne with their training-time branches, or with these merged into one convolution each.

    Options: ``stages``: (blocks, channels) of each; ``stem`` width; ``groups`` of every other block (RepVGG); ``separable``
    (MobileOne: a depthwise and a pointwise convolution per block), ``copies`` of every convolution in the stages (0: all
    branches merged, as inference runs them), ``se`` (how many last blocks of each stage have channel attention), ``classes``.
    """
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    separable, copies = net.option("separable", False), net.option("copies", 1)
    with tape.scope("stem"):
        x = branched(tape, x, net.option("stem"), 3, 2, 1, min(copies, 1))
    position = 0
    attentive = net.option("se", tuple(0 for _ in net.option("stages")))
    for index, (depth, out) in enumerate(net.option("stages")):
        with tape.scope(f"stage{index + 1}"):
            for block in range(depth):
                stride = 2 if block == 0 else 1
                se = block >= depth - attentive[index]
                if separable:
                    x = branched(tape, x, int(x.channels), 3, stride, int(x.channels), copies, se)
                    x = branched(tape, x, out, 1, 1, 1, copies, se)
                else:
                    position += 1
                    groups = net.option("groups", 1) if position % 2 == 0 else 1
                    x = branched(tape, x, out, 3, stride, groups, min(copies, 1), se)
    classifier(tape, x, net.option("classes", 1000))


def branched(
    tape: Tape,
    x: Map,
    out: int,
    kernel: int,
    stride: int,
    groups: int,
    copies: int,
    se: bool = False,
    special: float = 0.0,
) -> Map:
    """The sum of equal convolutions, a pointwise one, and the input itself where shapes allow; with no ``copies`` one
    convolution that stands for them all.
    """
    y = x
    if not copies:
        y = tape.conv(x, out, kernel, stride, groups, bias=True, name="merged")
        y = squeeze_excite(tape, y, rounded(out / 16, 1, limit=0.0)) if se else y
        return tape.activate(y, special)
    for index in range(copies):
        y = conv_norm(tape, x, out, kernel, stride, groups, "", name=f"conv{index}")
    if kernel > 1:
        tape.add(conv_norm(tape, x, out, 1, stride, groups, "", name="pointwise"))
    if stride == 1 and x.channels == out:
        tape.norm(tape.add(x), name="identity")
    if se:
        squeeze_excite(tape, y, rounded(out / 16, 1, limit=0.0))
    return tape.activate(y, special)
