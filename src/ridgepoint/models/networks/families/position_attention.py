"""Attention between positions inside residual blocks: BoTNet, HaloNet, LambdaNetworks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.models.networks.families.convolutions import rounded
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


@dataclass(frozen=True)
class Heads:
    """Heads of one attention: how many, and the widths of a query and of a value."""

    count: int
    key: int
    value: int


def position_attention(tape: Tape, net: Network, x: Map, kind: str, stride: int) -> Map:
    """One of ``ATTENTIONS`` on a map, whose channels it keeps and whose sides it divides by ``stride``.

    Options: ``head_dim`` of queries and keys (an equal part of the channels by default, 16 for lambdas), ``query_share`` (of
    the channels), ``block`` (8) and ``halo`` (3) positions, ``radius`` of lambdas (9; 0: an embedding for every offset).
    """
    channels, count = int(x.channels), 8 if kind == "halo" else 4
    wide = rounded(channels * net.option("query_share", 1.0), 8) // count
    heads = Heads(count, net.option("head_dim", 16 if kind == "lambda" else wide), channels // count)
    with tape.scope(kind):
        return ATTENTIONS[kind](tape, net, x, heads, stride)


def _relative(tape: Tape, rows: Num, side: Num, heads: Heads) -> None:
    """Every query against an embedding for each offset along both axes."""
    offsets = 2.0 * side - 1.0
    tape.count("relative_positions", float(np.max(2.0 * offsets * heads.key)))
    for axis in ("height", "width"):
        tape.matmul(rows, offsets, float(heads.key), name=f"{axis}_biases")


def _attend(tape: Tape, batch: Num, queries: Num, keys: Num, heads: Heads) -> None:
    """Products and softmax apart: the biases depend on the queries, and keys are narrower than values."""
    pairs = batch * heads.count
    tape.matmul(queries, keys, float(heads.key), pairs, "scores")
    tape.softmax(pairs * queries, keys)
    tape.matmul(queries, float(heads.value), keys, pairs, "values")


def _whole(tape: Tape, net: Network, x: Map, heads: Heads, stride: int) -> Map:
    """BoTNet (Srinivas et al. 2021): every position attends to all, with relative positions."""
    tape.conv(x, heads.count * (2 * heads.key + heads.value), 1, name="qkv")
    _relative(tape, x.batch * heads.count * x.positions, x.height, heads)
    _attend(tape, x.batch, x.positions, x.positions, heads)
    return tape.pool(x, 2, 2) if stride == 2 else x


def _haloed(tape: Tape, net: Network, x: Map, heads: Heads, stride: int) -> Map:
    """HaloNet (Vaswani et al. 2021): blocks of queries attend to their block and a halo around it."""
    block, window = net.option("block", 8), net.option("block", 8) + 2 * net.option("halo", 3)
    pooled = block % stride != 0
    step = 1 if pooled else stride
    queries = tape.conv(x, heads.count * heads.key, 1, step, name="query")
    tape.conv(x, heads.count * (heads.key + heads.value), 1, name="key_value")
    blocks = x.positions / block**2
    tape.move(x, x.values * (window / block) ** 2, "windows")
    _relative(tape, x.batch * heads.count * queries.positions, float(window), heads)
    _attend(tape, x.batch * blocks, float((block // step) ** 2), float(window**2), heads)
    y = Map(x.batch, x.channels, queries.height, queries.width)
    return tape.pool(y, 2, 2) if pooled and stride == 2 else y


def _lambda(tape: Tape, net: Network, x: Map, heads: Heads, stride: int) -> Map:
    """LambdaNetworks (Bello 2021): keys and values of all positions, or around each, become a linear map for its queries."""
    radius, count, many = net.option("radius", 9), heads.count, x.positions
    tape.conv(x, count * heads.key + heads.key + heads.value, 1, name="qkv")
    tape.norm(Map(x.batch, float(count * heads.key), x.height, x.width), name="query_norm")
    tape.norm(Map(x.batch, float(heads.value), x.height, x.width), name="value_norm")
    tape.softmax(x.batch * heads.key, many)
    tape.matmul(float(heads.key), float(heads.value), many, x.batch, "content")
    tape.matmul(count * many, float(heads.value), float(heads.key), x.batch, "content_out")
    if radius:
        frames = Map(x.batch * heads.value, 1.0, x.height, x.width)
        tape.conv(frames, heads.key, radius, bias=True, name="positions")
    else:
        tape.count("positions", float(np.max((2.0 * x.height - 1.0) * (2.0 * x.width - 1.0) * heads.key)))
        tape.matmul(many * heads.key, float(heads.value), many, x.batch, "positions")
    tape.matmul(float(count), float(heads.value), float(heads.key), x.batch * many, "positions_out")
    tape.add(Rows(x.batch, many, x.channels))
    return tape.pool(x, 2, 2) if stride == 2 else x


ATTENTIONS = {"bot": _whole, "halo": _haloed, "lambda": _lambda}
