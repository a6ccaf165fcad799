"""One-stage detectors whose stages are aggregated paths of different depth: YOLOv9, small sizes."""

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

    Options: ``width`` of the first convolution (all others follow from it), ``paths`` (bottlenecks of a path), ``classes``.
    """
    w, n = net.option("width"), net.option("paths", 3)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    levels = []
    with tape.scope("backbone"):
        x = _conv(tape, _conv(tape, x, w, 3, 2, "stem1"), 2 * w, 3, 2, "stem2")
        x = _plain_paths(tape, x, 2 * w, w)
        for index, factor in enumerate((4, 6, 8)):
            x = _paths(tape, _shrink(tape, x, factor * w, f"down{index}"), factor * w, n, f"stage{index + 2}")
            levels.append(x)
        y = _conv(tape, x, 4 * w, name="narrow")
        for _ in range(3):
            tape.pool(y, 5, 1, pad=2)
        top = _conv(tape, concatenate(tape, y, 16.0 * w), 8 * w, name="join")
    with tape.scope("neck"):
        mid = _paths(tape, _beside(tape, top, levels[1]), 6 * w, n, "up1")
        first = _paths(tape, _beside(tape, mid, levels[0]), 4 * w, n, "up2")
        y = _shrink(tape, first, 3 * w, "down1")
        second = _paths(tape, concatenate(tape, y, y.channels + mid.channels), 6 * w, n, "out1")
        y = _shrink(tape, second, 4 * w, "down2")
        third = _paths(tape, concatenate(tape, y, y.channels + top.channels), 8 * w, n, "out2")
    for index, level in enumerate((first, second, third)):
        with tape.scope(f"head{index}"):
            head(tape, net, level, first)


def _shrink(tape: Tape, x: Map, out: float, name: str) -> Map:
    return _conv(tape, tape.pool(x, 2, 1, name=f"{name}_pool"), out, 3, 2, name)


def _beside(tape: Tape, small: Map, large: Map) -> Map:
    tape.move(small, written=4.0 * small.values, name="enlarge")
    return concatenate(tape, large, small.channels + large.channels)


def _plain_paths(tape: Tape, x: Map, out: float, inner: float) -> Map:
    with tape.scope("stage1"):
        y = _conv(tape, x, out, name="split")
        y = _conv(tape, replace(y, channels=y.channels / 2.0), inner, 3, name="path1")
        y = _conv(tape, y, inner, 3, name="path2")
        return _conv(tape, concatenate(tape, y, out + 2.0 * inner), out, name="join")


def _paths(tape: Tape, x: Map, out: float, count: int, name: str) -> Map:
    """Half of the channels go through two blocks, one after the other; every stop on the way meets at the end."""
    inner = out / 2.0
    with tape.scope(name):
        y = replace(_conv(tape, x, out, name="split"), channels=inner)
        for index in (1, 2):
            with tape.scope(f"path{index}"):
                half = inner / 2.0
                z = _conv(tape, y, half, name="left")
                _conv(tape, y, half, name="right")
                z = tape.repeat(count, lambda v: _bottleneck(tape, v), z)
                y = _conv(tape, concatenate(tape, z, inner), inner, name="join")
                y = _conv(tape, y, inner, 3)
        return _conv(tape, concatenate(tape, y, out + 2.0 * inner), out, name="join")


def _bottleneck(tape: Tape, x: Map) -> Map:
    return tape.add(_conv(tape, _conv(tape, x, float(x.channels), 3, name="conv1"), float(x.channels), 3, name="conv2"))
