"""Small transformers with convolutions: LeViT, MobileViT and its second version, PiT."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.convolutions import classifier, conv_norm, inverted_residual, rounded
from ridgepoint.models.networks.families.tokens import feed_forward, transformer_layer
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape


@family("levit")
def levit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """LeViT (Graham et al. 2021): attention with batch norms, values wider than keys, and shrinking maps.

    Options: ``dims``, ``key_dim``, ``heads``, ``depths``, ``stem`` (strided convolutions: 4 or 3), ``distilled`` (a
    second classifier), ``classes``.
    """
    dims, key = net.option("dims"), net.option("key_dim")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    count = net.option("stem", 4)
    for index in range(count):
        act = "hard_swish" if index + 1 < count else ""
        x = conv_norm(tape, x, dims[0] // 2 ** (count - 1 - index), 3, 2, act=act, name=f"stem{index}")
    for stage, (dim, heads, depth) in enumerate(zip(dims, net.option("heads"), net.option("depths"), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                x = _attend_down(tape, x, dim, dims[stage - 1] // key, key)
            x = tape.repeat(depth, lambda y, h=heads: _levit_layer(tape, y, h, key), x)  # type: ignore[misc]
    with tape.scope("head"):
        rows = tape.norm(tape.norm(tape.global_pool(x), "batch", name="norm1"), "batch", name="norm2")
        tape.linear(rows, net.option("classes", 1000), name="classifier")
        if net.option("distilled", True):
            tape.linear(rows, net.option("classes", 1000), name="classifier_distilled")


def _normed(tape: Tape, x: Rows, out: float, name: str) -> Rows:
    return tape.norm(tape.linear(x, out, False, name), "batch", name=f"{name}_norm")


def _products(tape: Tape, q: Rows, keys: Rows, heads: int, key: int, value: int) -> Rows:
    """Attention as separate products: biases of positions are added to the scores."""
    pairs = q.batch * heads
    tape.matmul(q.length, keys.length, float(key), pairs, "scores")
    tape.softmax(pairs * q.length, keys.length)
    tape.matmul(q.length, float(value), keys.length, pairs, "values")
    return replace(q, channels=float(heads * value))


def _side(x: Map) -> float:
    import numpy as np

    return float(np.max(x.positions))


def _levit_layer(tape: Tape, x: Map, heads: int, key: int) -> Map:
    dim = float(x.channels)
    rows = tape.to_rows(x)
    with tape.scope("attention"):
        _normed(tape, rows, heads * 4.0 * key, "qkv")
        tape.count("biases", heads * _side(x))
        y = tape.activate(_products(tape, rows, rows, heads, key, 2 * key), flop=4.0)
        _normed(tape, y, dim, "output")
    return _levit_feed(tape, tape.add(x))


def _levit_feed(tape: Tape, x: Map) -> Map:
    dim = float(x.channels)
    with tape.scope("feed"):
        y = tape.activate(_normed(tape, tape.to_rows(x), 2.0 * dim, "up"), flop=4.0)
        _normed(tape, y, dim, "down")
        return tape.add(x)


def _attend_down(tape: Tape, x: Map, out: int, heads: int, key: int) -> Map:
    """Every second position of every second line asks all positions."""
    import numpy as np

    down = Map(x.batch, x.channels, np.ceil(x.height / 2.0), np.ceil(x.width / 2.0))
    rows, fewer = tape.to_rows(x), tape.to_rows(down)
    with tape.scope("shrink"):
        _normed(tape, rows, heads * 5.0 * key, "key_value")
        _normed(tape, fewer, heads * float(key), "query")
        tape.count("biases", heads * _side(x))
        y = tape.activate(_products(tape, fewer, rows, heads, key, 4 * key), flop=4.0)
        _normed(tape, y, float(out), "output")
        return _levit_feed(tape, replace(down, channels=float(out)))


@family("mobilevit")
def mobilevit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """MobileViT (Mehta and Rastegari 2022), MobileViT V2 (2023: one context vector instead of attention).

    Options: ``stem``, ``widths`` of five stages, ``depths`` of the first two, ``expand``, ``dims`` and ``layers`` of the
    transformers in the last three, ``version``, ``se_ratio`` of channel attention, ``features`` of the last
    convolution, ``classes``.
    """
    widths, expand, depths = net.option("widths"), net.option("expand", 4), net.option("depths")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = conv_norm(tape, x, net.option("stem"), 3, 2, act="silu", name="stem")
    for stage, width in enumerate(widths):
        with tape.scope(f"stage{stage + 1}"):
            for index in range(depths[stage] if stage < 2 else 1):
                se = rounded(float(x.channels) * expand) * net.option("se_ratio", 0.0)
                x = inverted_residual(tape, x, width, 3, 1 if index or not stage else 2, expand, se=se, act="silu")
            if stage > 1:
                x = _local_and_global(tape, net, x, stage - 2)
    if net.option("features", 0):
        x = conv_norm(tape, x, net.option("features"), 1, act="silu", name="last")
    classifier(tape, x, net.option("classes", 1000))


def _local_and_global(tape: Tape, net: Network, x: Map, index: int) -> Map:
    """A convolution sees neighbours, then rows of positions attend to one another."""
    second = net.option("version", 1) == 2
    channels, layers = int(x.channels), net.option("layers")[index]
    dim = rounded(channels / 2) if second else net.option("dims")[index]
    with tape.scope("transformer"):
        y = conv_norm(tape, x, channels, 3, 1, channels if second else 1, "silu", name="local")
        y = tape.conv(y, dim, 1, name="widen")
        rows = tape.to_rows(tape.move(y, name="unfold"))
        rows = Rows(rows.batch * 4.0, rows.length / 4.0, rows.channels)
        if second:
            rows = tape.repeat(layers, lambda r: _separable_layer(tape, r), rows)
            tape.norm(y, "group")
            return conv_norm(tape, y, channels, 1, act="", name="project")
        rows = tape.norm(tape.repeat(layers, lambda r: transformer_layer(tape, r, 4, 2 * dim), rows), "layer")
        y = conv_norm(tape, tape.move(y, name="fold"), channels, 1, act="silu", name="project")
        both = replace(tape.move(y, name="concat"), channels=2.0 * channels)
        return conv_norm(tape, both, channels, 3, act="silu", name="fuse")


def _separable_layer(tape: Tape, x: Rows) -> Rows:
    """One score per position makes one context vector, which scales every position's value."""
    dim = float(x.channels)
    as_map = tape.to_map(x, x.length, 1.0)
    tape.norm(as_map, "group", name="norm1")
    tape.linear(x, 1.0 + 2.0 * dim, name="qkv")
    tape.softmax(x.batch, x.length)
    tape.multiply(x, "context")
    tape.activate(tape.scale(x))
    x = tape.add(tape.linear(x, dim, name="output"))
    tape.norm(as_map, "group", name="norm2")
    return tape.add(feed_forward(tape, x, 2.0 * dim))


@family("pit")
def pit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """PiT (Heo et al. 2021): a ViT whose map shrinks between stages.

    Options: ``base`` (head width), ``heads``, ``depths``, ``patch``, ``stride``, ``tokens``, ``classes``.
    """
    base, heads, tokens = net.option("base"), net.option("heads"), net.option("tokens", 1)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.conv(x, base * heads[0], net.option("patch"), net.option("stride"), bias=True, pad=0, name="patches")
    tape.count("positions", _side(x) * base * heads[0])
    tape.count("tokens", float(tokens * base * heads[0]))
    x = tape.add(x, "positions")
    for stage, (count, depth) in enumerate(zip(heads, net.option("depths"), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                token = Rows(x.batch, float(tokens), x.channels)
                tape.linear(token, base * count, name="widen_token")
                x = tape.conv(x, base * count, 3, 2, x.channels, bias=True, name="shrink")
            rows = replace(tape.to_rows(x), length=x.positions + tokens)
            tape.repeat(depth, lambda y, h=count: transformer_layer(tape, y, h, 4 * base * h), rows)  # type: ignore[misc]
    with tape.scope("head"):
        rows = tape.norm(Rows(x.batch, float(tokens), x.channels), "layer")
        for index in range(tokens):
            tape.linear(replace(rows, length=1.0), net.option("classes", 1000), name=f"classifier{index}")
