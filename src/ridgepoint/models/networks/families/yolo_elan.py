"""One-stage detectors whose stages are aggregated paths of different depth: YOLOv9."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.convolutions import concatenate, conv_norm
from ridgepoint.models.networks.families.yolo import head
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


def _conv(tape: Tape, x: Map, out: float, kernel: int = 1, stride: int = 1, name: str = "conv") -> Map:
    return conv_norm(tape, x, int(out), kernel, stride, act="silu", name=name)


@family("yolo_elan")
def yolo_elan(tape: Tape, net: Network, sizes: Sizes) -> None:
    """YOLOv9 (Wang et al. 2024), its re-parametrised convolutions merged, without the branch that training adds.

    Options: ``width`` of the first convolution, ``paths`` (bottlenecks of a path), ``classes``; ``stages``, of each of the
    four its channels and those of its paths (otherwise both follow from the width, and the first stage's paths are plain);
    ``halved``, downsampling that pools half of the channels and convolves the other half.
    """
    w, n, halved = net.option("width"), net.option("paths", 3), net.option("halved", False)
    stages = net.option("stages") or [[factor * w, factor * w] for factor in (2, 4, 6, 8)]
    (_, _), (_, small), (_, middle), (large, deep) = stages
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    levels = []
    with tape.scope("backbone"):
        x = _conv(tape, _conv(tape, x, w, 3, 2, "stem1"), 2 * w, 3, 2, "stem2")
        for index, (out, inner) in enumerate(stages):
            if index:
                x = _shrink(tape, x, out, halved, f"down{index - 1}")
            if index or net.option("stages"):
                x = _paths(tape, x, out, inner, n, f"stage{index + 1}")
            else:
                x = _plain_paths(tape, x, out, w)
            levels.append(x)
        y = _conv(tape, x, large / 2, name="narrow")
        for _ in range(3):
            tape.pool(y, 5, 1, pad=2)
        top = _conv(tape, concatenate(tape, y, 2.0 * large), large, name="join")
    with tape.scope("neck"):
        mid = _paths(tape, _beside(tape, top, levels[2]), middle, middle, n, "up1")
        first = _paths(tape, _beside(tape, mid, levels[1]), small, small, n, "up2")
        y = _shrink(tape, first, middle / 2, halved, "down1")
        second = _paths(tape, concatenate(tape, y, y.channels + mid.channels), middle, middle, n, "out1")
        y = _shrink(tape, second, deep / 2, halved, "down2")
        third = _paths(tape, concatenate(tape, y, y.channels + top.channels), deep, deep, n, "out2")
    for index, level in enumerate((first, second, third)):
        with tape.scope(f"head{index}"):
            head(tape, net, level, first)


def _shrink(tape: Tape, x: Map, out: float, halved: bool, name: str) -> Map:
    x = tape.pool(x, 2, 1, name=f"{name}_pool")
    if not halved:
        return _conv(tape, x, out, 3, 2, name)
    half = replace(x, channels=x.channels / 2.0)
    y = _conv(tape, half, float(half.channels), 3, 2, name)
    _conv(tape, tape.pool(half, 3, 2, pad=1, name=f"{name}_pooled"), float(half.channels), name=f"{name}_narrow")
    return concatenate(tape, y, x.channels)


def _beside(tape: Tape, small: Map, large: Map) -> Map:
    tape.move(small, written=4.0 * small.values, name="enlarge")
    return concatenate(tape, large, small.channels + large.channels)


def _plain_paths(tape: Tape, x: Map, out: float, inner: float) -> Map:
    with tape.scope("stage1"):
        y = _conv(tape, x, out, name="split")
        y = _conv(tape, replace(y, channels=y.channels / 2.0), inner, 3, name="path1")
        y = _conv(tape, y, inner, 3, name="path2")
        return _conv(tape, concatenate(tape, y, out + 2.0 * inner), out, name="join")


def _paths(tape: Tape, x: Map, out: float, width: float, count: int, name: str) -> Map:
    """Half of ``width`` channels go through two blocks, one after the other; every stop on the way meets at the end."""
    inner = width / 2.0
    with tape.scope(name):
        y = replace(_conv(tape, x, width, name="split"), channels=inner)
        for index in (1, 2):
            with tape.scope(f"path{index}"):
                half = inner / 2.0
                z = _conv(tape, y, half, name="left")
                _conv(tape, y, half, name="right")
                z = tape.repeat(count, lambda v: _bottleneck(tape, v), z)
                y = _conv(tape, concatenate(tape, z, inner), inner, name="join")
                y = _conv(tape, y, inner, 3)
        return _conv(tape, concatenate(tape, y, width + 2.0 * inner), out, name="join")


def _bottleneck(tape: Tape, x: Map) -> Map:
    return tape.add(_conv(tape, _conv(tape, x, float(x.channels), 3, name="conv1"), float(x.channels), 3, name="conv2"))
