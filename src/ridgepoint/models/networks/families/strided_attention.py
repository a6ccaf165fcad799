"""EfficientFormer V2: attention on a smaller map beside depthwise convolutions."""

from __future__ import annotations

import numpy as np

from ridgepoint.models.networks.families.convolutions import activation
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num

HEADS, RATIO = 8, 4
"""Heads of every attention, and how much wider its values are than its keys."""


@family("efficientformer_v2")
def efficientformer_v2(tape: Tape, net: Network, sizes: Sizes) -> None:
    """EfficientFormer V2 (Li et al. 2023), with both heads of its distillation.

    Options: ``dims``, ``depths``, ``attentive`` last layers of the last two stages, ``narrow``: the feed-forward parts of
    these stages that are 3 times as wide as the map, not 4, as (first, last) by stage, ``classes``.
    """
    dims = net.option("dims")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = _normed(
        tape, _normed(tape, x, dims[0] // 2, 3, 2, act=True, name="stem1"), dims[0], 3, 2, act=True, name="stem2"
    )
    for stage, (dim, depth) in enumerate(zip(dims, net.option("depths"), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                y = _normed(tape, x, dim, 3, 2, name="down")
                if stage == 3:
                    _attend_down(tape, x, dim)
                    y = tape.add(y)
                x = y
            first, last = net.option("narrow")[stage - 2] if stage > 1 else (0, -1)
            for index in range(depth):
                attentive = stage > 1 and index >= depth - net.option("attentive")
                feed = 3 if first <= index <= last else 4
                with tape.scope(f"layer{index}"):
                    x = _layer(tape, x, feed, (2 if stage == 2 else 1) if attentive else 0)
    pooled = tape.global_pool(tape.norm(x, name="last_norm"))
    with tape.scope("head"):
        for name in ("classifier", "distilled"):
            tape.linear(pooled, net.option("classes", 1000), name=name)


def _normed(tape: Tape, x: Map, out: Num, kernel: int = 1, stride: int = 1, *, groups: Num = 1.0, act: bool = False,
            name: str) -> Map:  # fmt: skip
    y = tape.norm(tape.conv(x, out, kernel, stride, groups, bias=True, name=name), name=f"{name}_norm")
    return activation(tape, y, "gelu" if act else "", f"{name}_act")


def _layer(tape: Tape, x: Map, feed: int, stride: int) -> Map:
    """``stride`` 0: no attention."""
    if stride:
        _attend(tape, x, stride)
        tape.count("layer_scale1", float(x.channels))
        x = tape.add(tape.scale(x))
    wide = feed * x.channels
    y = _normed(tape, _normed(tape, x, wide, act=True, name="up"), wide, 3, groups=wide, act=True, name="middle")
    y = _normed(tape, y, x.channels, name="down")
    tape.count("layer_scale2", float(x.channels))
    return tape.add(tape.scale(y))


def _local_values(tape: Tape, x: Map, key: int, stride: int) -> tuple[Map, Map]:
    values = _normed(tape, x, HEADS * key * RATIO, name="value")
    return values, _normed(tape, values, values.channels, 3, stride, groups=values.channels, name="local")


def _attend(tape: Tape, x: Map, stride: int) -> None:
    """Heads talk to each other before and after the softmax, so that nothing fuses the products."""
    key = 32
    with tape.scope("attention"):
        small = _normed(tape, x, x.channels, 3, stride, groups=x.channels, name="shrink") if stride > 1 else x
        for name in ("query", "key"):
            _normed(tape, small, HEADS * key, name=name)
        values, _ = _local_values(tape, small, key, 1)
        many, pairs = small.positions, small.batch * HEADS
        scores = Map(small.batch, float(HEADS), many, many)
        tape.matmul(many, many, float(key), pairs, "scores")
        tape.conv(scores, HEADS, 1, bias=True, name="talk1")
        tape.softmax(pairs * many, many)
        tape.conv(scores, HEADS, 1, bias=True, name="talk2")
        tape.matmul(many, float(key * RATIO), many, pairs, "values")
        tape.count("biases", float(np.max(HEADS * many)))
        y = tape.add(values)
        if stride > 1:
            tape.move(y, y.values * stride**2, "enlarge")
        _normed(tape, tape.activate(Map(x.batch, y.channels, x.height, x.width), 1.0), x.channels, name="output")


def _attend_down(tape: Tape, x: Map, out: int) -> None:
    """Queries of every second position attend to all."""
    key = 16
    with tape.scope("attention"):
        query = tape.conv(x, x.channels, 3, 2, x.channels, bias=True, name="local_query")
        query = _normed(tape, tape.add(query), HEADS * key, name="query")
        _normed(tape, x, HEADS * key, name="key")
        values, local = _local_values(tape, x, key, 2)
        tape.count("biases", float(np.max(HEADS * x.positions)))
        pairs, many, few = x.batch * HEADS, x.positions, query.positions
        tape.matmul(few, many, float(key), pairs, "scores")
        tape.softmax(pairs * few, many)
        tape.matmul(few, values.channels / HEADS, many, pairs, "values")
        _normed(tape, tape.activate(tape.add(local), 1.0), out, name="output")
