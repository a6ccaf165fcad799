"""Cross-stage partial networks and DarkNets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ridgepoint.models.networks.families.convolutions import (
    activation,
    classifier,
    concatenate,
    conv_norm,
    rounded,
    squeeze_excite,
)
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


@family("cross_stage")
def cross_stage(tape: Tape, net: Network, sizes: Sizes) -> None:
    """CSPNet (Wang et al. 2020), its form with three convolutions (YOLOv5), DarkNet (Redmon and Farhadi 2018).

    Options: ``stem`` widths, ``stem_kernel``, ``stem_stride``, ``stem_pool``, ``depths``, ``widths``, ``strides``,
    ``kind`` of a stage (``csp``, ``cs3``, ``dark``) and of its ``block`` (``bottle``, ``dark``, ``edge``); one per stage:
    ``groups``, ``inner`` (block width per stage width), ``ratio`` (narrow width per block width), ``expand``; ``linear``
    (no activation on the split), ``grow`` (the downsampling convolution widens), ``se`` ratio, ``act``, ``classes``.
    """
    act = net.option("act", "silu")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    widths, stride = net.option("stem", (32,)), net.option("stem_stride", 2)
    with tape.scope("stem"):
        for index, width in enumerate(widths):
            last = index == len(widths) - 1 and stride > 2 and not net.option("stem_pool", False)
            step = 2 if (index == 0 and stride > 1) or last else 1
            kernel = net.option("stem_kernel", 3)
            x = conv_norm(
                tape, x, width, kernel, step, act=act, pad=2 if kernel == 6 else None, name=f"conv{index + 1}"
            )
        x = tape.pool(x, 3, 2, pad=1) if net.option("stem_pool", False) else x
    for index in range(len(net.option("depths"))):
        with tape.scope(f"stage{index + 1}"):
            x = _stage(tape, net, x, index)
    classifier(tape, x, net.option("classes", 1000))


@dataclass(frozen=True)
class _Block:
    kind: str
    width: int
    middle: int
    groups: int


def _of(net: Network, name: str, index: int, default: Any) -> Any:
    """An option that may differ between stages."""
    value = net.option(name, default)
    return value[index] if isinstance(value, tuple) else value


def _stage(tape: Tape, net: Network, x: Map, index: int) -> Map:
    act, kind = net.option("act", "silu"), net.option("kind", "csp")
    out, stride, groups = net.option("widths")[index], _of(net, "strides", index, 2), _of(net, "groups", index, 1)
    width = round(out * _of(net, "inner", index, 1.0))
    block = _Block(net.option("block", "bottle"), width, round(width * _of(net, "ratio", index, 1.0)), groups)
    if stride > 1:
        wide = kind == "dark" or net.option("grow", False)
        x = conv_norm(tape, x, out if wide else x.channels, 3, stride, groups, act, name="down")
    depth = net.option("depths")[index]
    if kind == "dark":
        return tape.repeat(depth, lambda y: _block(tape, net, y, block), x)
    split = round(out * _of(net, "expand", index, 1.0))
    x = conv_norm(tape, x, split, 1, act="" if net.option("linear", False) else act, name="split")
    y = tape.repeat(depth, lambda y: _block(tape, net, y, block), replace(x, channels=split / 2.0))
    if kind == "csp":
        y = conv_norm(tape, y, split // 2, 1, act=act, name="blocks_out")
    return conv_norm(tape, concatenate(tape, y, float(split)), out, 1, act=act, name="transition")


def _block(tape: Tape, net: Network, x: Map, block: _Block) -> Map:
    act = net.option("act", "silu")
    edge = block.kind == "edge"
    y = conv_norm(tape, x, block.middle, 3 if edge else 1, 1, block.groups if edge else 1, act, name="conv1")
    if block.kind == "bottle":
        y = conv_norm(tape, y, block.middle, 3, 1, block.groups, act, name="conv2")
    ratio = net.option("se", 0.0)
    if ratio:
        y = squeeze_excite(tape, y, rounded(float(y.channels) * ratio, 8, limit=0.0))
    if block.kind == "bottle":
        return activation(tape, tape.add(conv_norm(tape, y, block.width, 1, act="", name="conv3")), act)
    return tape.add(
        conv_norm(tape, y, block.width, 1 if edge else 3, 1, 1 if edge else block.groups, act, name="conv2")
    )
