"""One-stage detectors: YOLOv5, YOLOv8, YOLOv10, YOLO11."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from ridgepoint.models.networks.families.convolutions import concatenate, conv_norm, depthwise
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


@family("yolo")
def yolo(tape: Tape, net: Network, sizes: Sizes) -> None:
    """YOLOv5 (Jocher 2020), YOLOv8 (Jocher et al. 2023), YOLOv10 (Wang et al. 2024), YOLO11 (Jocher and Qiu 2024).

    Options: ``version`` (5, 8, 10, 11), ``depth`` and ``width`` factors, ``most`` channels before the width factor, ``deep``
    (YOLO11's larger sizes nest a block), ``compact`` parts of YOLOv10 (``b2``, ``b3`` of the backbone, ``up1``, ``out1``,
    ``out2`` of the neck) and their ``large`` kernels, ``classes``.
    """
    version = net.option("version")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    with tape.scope("backbone"):
        levels = _backbone(tape, net, x, version)
    with tape.scope("neck"):
        levels = _neck(tape, net, levels, version)
    with tape.scope("head"):
        for index, level in enumerate(levels):
            with tape.scope(f"level{index}"):
                (_old_head if version == 5 else head)(tape, net, level, levels[0])


def _width(net: Network, channels: int) -> int:
    return ceil(min(channels, int(net.option("most", 1024))) * float(net.option("width")) / 8) * 8


def _depth(net: Network, count: int) -> int:
    return max(round(count * float(net.option("depth"))), 1)


def _conv(tape: Tape, x: Map, out: int, kernel: int = 1, stride: int = 1, name: str = "conv") -> Map:
    return conv_norm(tape, x, out, kernel, stride, act="silu", pad=2 if kernel == 6 else None, name=name)


def _part(
    tape: Tape, net: Network, x: Map, out: int, count: int, shortcut: bool, nested: bool | None = False,
    ratio: float = 0.5, compact: bool = False, name: str = "part",
) -> Map:  # fmt: skip
    """The stage's block: C3 in YOLOv5, C2f in YOLOv8, C3k2 in YOLO11."""
    out = _width(net, out)
    with tape.scope(name):
        if net.option("version") == 5:
            return _cross3(tape, x, out, _depth(net, count), shortcut)
        return _split2(tape, x, out, _depth(net, count), shortcut, nested, ratio, compact, net.option("large", False))


def _bottleneck(tape: Tape, x: Map, shortcut: bool, kernel: int, ratio: float = 1.0) -> Map:
    channels = int(x.channels)
    y = _conv(tape, _conv(tape, x, int(channels * ratio), kernel, name="conv1"), channels, 3, name="conv2")
    return tape.add(y) if shortcut else y


def _cross3(tape: Tape, x: Map, out: int, count: int, shortcut: bool, kernel: int = 1) -> Map:
    half = out // 2
    y = _conv(tape, x, half, name="left")
    _conv(tape, x, half, name="right")
    y = tape.repeat(count, lambda z: _bottleneck(tape, z, shortcut, kernel), y)
    return _conv(tape, concatenate(tape, y, 2.0 * half), out, name="join")


def _split2(tape: Tape, x: Map, out: int, count: int, shortcut: bool, nested: bool | None, ratio: float,
            compact: bool = False, large: bool = False) -> Map:  # fmt: skip
    """Both halves and every block's output meet at the end. ``nested``: a block is a C3 of two bottlenecks; ``compact``:
    of depthwise and pointwise convolutions.
    """
    half = int(out * ratio)
    _conv(tape, x, 2 * half, name="split")
    part = replace(x, channels=float(half))
    for _ in range(count):
        if compact:
            part = _compact(tape, part, large)
        elif nested:
            part = _cross3(tape, part, half, 2, shortcut, kernel=3)
        else:
            part = _bottleneck(tape, part, shortcut, 3, 0.5 if nested is False else 1.0)
    return _conv(tape, concatenate(tape, part, float((2 + count) * half)), out, name="join")


def _compact(tape: Tape, x: Map, large: bool) -> Map:
    """YOLOv10's inverted block; ``large`` kernels of 7 in its middle."""
    channels = int(x.channels)
    y = _conv(tape, depthwise(tape, x, 3, act="silu", name="depthwise1"), 2 * channels, name="conv1")
    y = depthwise(tape, y, 7 if large else 3, act="silu", name="depthwise2")
    y = depthwise(tape, _conv(tape, y, channels, name="conv2"), 3, act="silu", name="depthwise3")
    return tape.add(y)


def _shrink(tape: Tape, net: Network, x: Map, channels: int, name: str) -> Map:
    """Halves a map: one convolution, or in YOLOv10 a pointwise and a depthwise one."""
    if net.option("version") == 10 and channels >= 512:
        y = _conv(tape, x, _width(net, channels), name=name)
        return depthwise(tape, y, 3, 2, act="", name=f"{name}_depthwise")
    return _conv(tape, x, _width(net, channels), 3, 2, name)


def _pyramid_pool(tape: Tape, x: Map, out: int) -> Map:
    with tape.scope("pyramid"):
        half = int(x.channels) // 2
        y = _conv(tape, x, half, name="narrow")
        for _ in range(3):
            tape.pool(y, 5, 1, pad=2)
        return _conv(tape, concatenate(tape, y, 4.0 * half), out, name="join")


def _backbone(tape: Tape, net: Network, x: Map, version: int) -> list[Map]:
    nine, deep = (3, 6, 9, 3) if version == 5 else (3, 6, 6, 3), net.option("deep", False)
    counts = (2, 2, 2, 2) if version == 11 else nine
    x = _conv(tape, x, _width(net, 64), 6 if version == 5 else 3, 2, "stem")
    levels = []
    for stage, (down, out) in enumerate(zip((128, 256, 512, 1024), (256, 512, 512, 1024), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            x = _shrink(tape, net, x, down, "down")
            if version == 11:
                nested = deep or stage > 1
                x = _part(tape, net, x, out, counts[stage], True, nested, 0.25 if stage < 2 else 0.5)
            else:
                x = _part(
                    tape, net, x, down, counts[stage], True, None, compact=f"b{stage}" in net.option("compact", ())
                )
            levels.append(x)
    levels[-1] = _pyramid_pool(tape, x, _width(net, 1024))
    if version >= 10:
        levels[-1] = _attention_part(tape, net, levels[-1], _depth(net, 2) if version == 11 else 1)
    return levels[1:]


def _attention_part(tape: Tape, net: Network, x: Map, count: int) -> Map:
    """C2PSA: attention and a feed-forward part on half of the channels."""
    half = int(x.channels) // 2
    with tape.scope("attention"):
        _conv(tape, x, 2 * half, name="split")
        y = replace(x, channels=float(half))
        for _ in range(count):
            heads, rows = half // 64, tape.to_rows(y)
            conv_norm(tape, y, 2 * half, 1, act="", name="qkv")
            tape.matmul(rows.length, rows.length, 32.0, rows.batch * heads, "scores")
            tape.softmax(rows.batch * heads * rows.length, rows.length)
            tape.matmul(rows.length, 64.0, rows.length, rows.batch * heads, "values")
            depthwise(tape, y, 3, act="", name="positions")
            y = tape.add(conv_norm(tape, y, half, 1, act="", name="output"))
            y = tape.add(conv_norm(tape, _conv(tape, y, 2 * half, name="up"), half, 1, act="", name="down"))
        return _conv(tape, concatenate(tape, y, 2.0 * half), int(x.channels), name="join")


def _neck(tape: Tape, net: Network, levels: list[Map], version: int) -> list[Map]:
    """Features flow up the pyramid and down again."""
    small, middle, large = levels
    kind = None if version in (8, 10) else net.option("deep", False)
    count, compact = (2 if version == 11 else 3), net.option("compact", ())

    def part(x: Map, out: int, name: str, nested: bool | None = kind) -> Map:
        return _part(
            tape, net, x, out, count, version == 10 and name in compact, nested, compact=name in compact, name=name
        )

    top = _conv(tape, large, _width(net, 512), name="lateral1") if version == 5 else large
    y = part(_up(tape, top, middle), 512, "up1")
    mid = _conv(tape, y, _width(net, 256), name="lateral2") if version == 5 else y
    first = part(_up(tape, mid, small), 256, "up2")
    y = _conv(tape, first, _width(net, 256), 3, 2, "down1")
    second = part(concatenate(tape, y, y.channels + mid.channels), 512, "out1")
    y = _shrink(tape, net, second, 512, "down2")
    third = part(concatenate(tape, y, y.channels + top.channels), 1024, "out2", True if version == 11 else kind)
    return [first, second, third]


def _up(tape: Tape, x: Map, beside: Map) -> Map:
    tape.move(x, written=4.0 * x.values, name="enlarge")
    return concatenate(tape, replace(beside, channels=x.channels + beside.channels), x.channels + beside.channels)


def _old_head(tape: Tape, net: Network, x: Map, first: Map) -> None:
    """Three anchors with a box, an objectness and the classes each."""
    tape.conv(x, 3 * (net.option("classes", 80) + 5), 1, bias=True, name="predict")


def head(tape: Tape, net: Network, x: Map, first: Map) -> None:
    """Distances to the four sides as distributions over 16 bins; classes apart."""
    classes, light = net.option("classes", 80), net.option("version", 9) >= 10
    box = max(16, int(first.channels) // 4, 64)
    y = _conv(tape, _conv(tape, x, box, 3, name="box1"), box, 3, name="box2")
    tape.conv(y, 64, 1, bias=True, name="box3")
    width = max(int(first.channels), min(classes, 100))
    y = x
    for index in (1, 2):
        if light:
            y = _conv(
                tape, depthwise(tape, y, 3, act="silu", name=f"class_depthwise{index}"), width, name=f"class{index}"
            )
        else:
            y = _conv(tape, y, width, 3, name=f"class{index}")
    tape.conv(y, classes, 1, bias=True, name="class3")
