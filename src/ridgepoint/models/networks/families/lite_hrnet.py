"""Lite-HRNet: maps of several sizes side by side whose channels weight each other."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.convolutions import concatenate, conv_norm, depthwise, squeeze_excite
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


@family("lite_hrnet")
def lite_hrnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Lite-HRNet (Yu et al. 2021) for pose: a heat map per joint at a quarter of the picture's size.

    Inputs: ``image_px``, the height; the width is ``aspect`` times as much. Options: ``modules`` of the three stages,
    ``width`` of the largest map (40), ``aspect`` (0.75), ``joints`` (17).
    """
    width, height = net.option("width", 40), sizes["image_px"]
    x = _stem(tape, tape.image(3, height, height * net.option("aspect", 0.75)))
    maps = [_separable(tape, x, width, name="start0")]
    last = x
    for stage, count in enumerate(net.option("modules")):
        with tape.scope(f"stage{stage + 2}"):
            maps.append(_separable(tape, last, width * 2 ** (stage + 1), 2, name="start"))
            for _ in range(count):
                for _ in range(2):
                    maps = _weighted(tape, maps)
                maps = _fused(tape, maps)
            last = maps[-1]
    y = maps[-1]
    with tape.scope("head"):
        for index, level in enumerate(reversed(maps)):
            if index:
                tape.move(y, level.values, name="enlarge")
                tape.add(level)
            y = _separable(tape, level, maps[max(len(maps) - 2 - index, 0)].channels, name=f"project{index}")
        tape.conv(y, net.option("joints", 17), 1, bias=True, name="joints")


def _separable(tape: Tape, x: Map, out: Num, stride: int = 1, act: str = "relu", *, name: str) -> Map:
    """A depthwise convolution, then a pointwise one."""
    y = depthwise(tape, x, 3, stride, "", f"{name}_depthwise")
    return conv_norm(tape, y, out, 1, act=act, name=name)


def _stem(tape: Tape, x: Map) -> Map:
    with tape.scope("stem"):
        x = conv_norm(tape, x, 32, 3, 2, name="conv1")
        half = replace(x, channels=16.0)
        _separable(tape, half, 16, 2, name="left")
        y = conv_norm(tape, half, 32, 1, name="expand")
        y = _separable(tape, y, 16, 2, name="right")
        return concatenate(tape, y, 32.0)


def _weighted(tape: Tape, maps: list[Map]) -> list[Map]:
    """Half of every map's channels are weighted by all maps together, convolved, and weighted by themselves."""
    with tape.scope("weighting"):
        halves = [replace(m, channels=m.channels / 2.0) for m in maps]
        total = sum(float(half.channels) for half in halves)
        for half in halves[:-1]:
            tape.move(half, halves[-1].values / halves[-1].channels * half.channels, name="shrink")
        y = replace(halves[-1], channels=total)
        y = conv_norm(tape, y, int(total / 8), 1, name="reduce")
        conv_norm(tape, y, total, 1, act="sigmoid", name="expand")
        for index, (half, level) in enumerate(zip(halves, maps, strict=True)):
            y = depthwise(tape, tape.multiply(half), 3, act="", name=f"depthwise{index}")
            squeeze_excite(tape, y, int(float(half.channels) / 4), name=f"self{index}")
            concatenate(tape, y, level.channels, name="shuffle")
    return maps


def _fused(tape: Tape, maps: list[Map]) -> list[Map]:
    """Every map becomes the sum of all of them at its size."""
    with tape.scope("fusing"):
        for target, wanted in enumerate(maps):
            for source, y in enumerate(maps):
                if source > target:
                    y = conv_norm(tape, y, wanted.channels, 1, act="", name=f"up{source}{target}")
                    tape.move(y, wanted.values, name="enlarge")
                for step in range(target - source):
                    last = step == target - source - 1
                    out = wanted.channels if last else y.channels
                    y = _separable(tape, y, out, 2, "" if last else "relu", name=f"down{source}{target}{step}")
                if source != target:
                    tape.add(wanted)
            tape.activate(wanted)
    return maps
