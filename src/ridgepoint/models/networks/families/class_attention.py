"""Deep transformers whose class token comes late: XCiT, CaiT, ConViT."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ridgepoint.models.networks.families.tokens import attention, feed_forward, transformer_layer
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape


@family("xcit")
def xcit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """XCiT (El-Nouby et al. 2021): attention between channels, a local convolution, a feed-forward part.

    Options: ``dim``, ``depth``, ``heads``, ``patch`` (8 or 16), ``norm_all`` (the last layers' second norm covers all
    rows), ``classes``.
    """
    dim, depth = net.option("dim"), net.option("depth")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    with tape.scope("stem"):
        widths = [dim // 8, dim // 4, dim // 2, dim][0 if net.option("patch") == 16 else 1 :]
        for index, width in enumerate(widths):
            x = tape.norm(tape.conv(x, width, 3, 2, name=f"conv{index}"), name=f"norm{index}")
            x = tape.activate(x, 1.0) if index + 1 < len(widths) else x
        grid = x
        tape.conv(replace(x, batch=1.0, channels=64.0), dim, 1, bias=True, name="positions")
        x = tape.add(x)
    rows = tape.repeat(depth, lambda y: _cross_covariance_layer(tape, net, y, grid), tape.to_rows(x))
    with tape.scope("class_attention"):
        tape.count("token", float(dim))
        rows = replace(rows, length=rows.length + 1.0)
        rows = tape.repeat(2, lambda y: class_layer(tape, y, net.option("heads"), net.option("norm_all", True)), rows)
    _head(tape, net, rows)


def _head(tape: Tape, net: Network, x: Rows) -> None:
    with tape.scope("head"):
        tape.norm(x, "layer")
        tape.linear(replace(x, length=1.0), net.option("classes", 1000), name="classifier")


def _scale(tape: Tape, x: Rows, name: str) -> Rows:
    tape.count(name, float(x.channels))
    return tape.scale(x)


def _cross_covariance_layer(tape: Tape, net: Network, x: Rows, grid: Map) -> Rows:
    dim, heads = net.option("dim"), net.option("heads")
    head_dim = dim / heads
    tape.norm(x, "layer", name="norm1")
    with tape.scope("attention"):
        tape.linear(x, 3 * dim, name="qkv")
        tape.count("temperature", float(heads))
        tape.norm(replace(x, channels=2.0 * dim), "rms", affine=False, name="unit_length")
        tape.matmul(head_dim, head_dim, x.length, x.batch * heads, "channels")
        tape.softmax(x.batch * dim, head_dim)
        tape.matmul(head_dim, x.length, head_dim, x.batch * heads, "values")
        tape.linear(x, dim, name="output")
    x = tape.norm(tape.add(_scale(tape, x, "scale1")), "layer", name="norm3")
    with tape.scope("local"):
        y = tape.activate(tape.conv(grid, dim, 3, groups=dim, bias=True, name="conv1"), 1.0)
        tape.conv(tape.norm(y), dim, 3, groups=dim, bias=True, name="conv2")
    x = tape.norm(tape.add(_scale(tape, x, "scale3")), "layer", name="norm2")
    return tape.add(_scale(tape, feed_forward(tape, x, 4 * dim), "scale2"))


def class_layer(tape: Tape, x: Rows, heads: int, norm_all: bool = False) -> Rows:
    """The class token alone attends to all rows and passes the feed-forward part."""
    dim = float(x.channels)
    token = replace(x, length=1.0)
    tape.norm(x, "layer", name="norm1")
    y = attention(tape, token, heads, context=x)
    y = tape.norm(_scale(tape, tape.add(y), "scale1"), "layer", name="norm2")
    if norm_all:
        tape.norm(replace(x, length=x.length - 1.0), "layer", affine=False, name="norm_all")
    tape.add(_scale(tape, feed_forward(tape, y, 4.0 * dim), "scale2"))
    return x


@family("cait")
def cait(tape: Tape, net: Network, sizes: Sizes) -> None:
    """CaiT (Touvron et al. 2021): attention whose heads mix before and after the softmax, two class-attention layers.

    Options: ``dim``, ``depth``, ``heads``, ``patch`` (16), ``classes``.
    """
    dim, heads = net.option("dim"), net.option("heads")
    patch = net.option("patch", 16)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    rows = tape.to_rows(tape.conv(x, dim, patch, patch, bias=True, pad=0, name="patches"))
    tape.count("positions", (net.size("image_px") // patch) ** 2 * float(dim))
    rows = tape.repeat(net.option("depth"), lambda y: _talking_layer(tape, y, heads), tape.add(rows, "positions"))
    with tape.scope("class_attention"):
        tape.count("token", float(dim))
        rows = replace(rows, length=rows.length + 1.0)
        rows = tape.repeat(2, lambda y: class_layer(tape, y, heads), rows)
    _head(tape, net, rows)


def _talking_layer(tape: Tape, x: Rows, heads: int) -> Rows:
    dim = float(x.channels)
    tape.norm(x, "layer", name="norm1")
    with tape.scope("attention"):
        tape.linear(x, 3.0 * dim, name="qkv")
        tape.matmul(x.length, x.length, dim / heads, x.batch * heads, "scores")
        pairs = Rows(x.batch, x.length * x.length, float(heads))
        tape.linear(pairs, heads, name="mix_scores")
        tape.softmax(x.batch * x.length * heads, x.length)
        tape.linear(pairs, heads, name="mix_weights")
        tape.matmul(x.length, dim / heads, x.length, x.batch * heads, "values")
        tape.linear(x, dim, name="output")
    x = tape.norm(tape.add(_scale(tape, x, "scale1")), "layer", name="norm2")
    return tape.add(_scale(tape, feed_forward(tape, x, 4.0 * dim), "scale2"))


@family("convit")
def convit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """ConViT (d'Ascoli et al. 2021): ten layers whose attention is gated between content and position, then two plain ones.

    Options: ``heads`` of 48 channels, ``depth`` (12), ``local`` layers (10), ``classes``.
    """
    heads, local = net.option("heads"), net.option("local", 10)
    dim = 48 * heads
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    rows = tape.to_rows(tape.conv(x, dim, 16, 16, bias=True, pad=0, name="patches"))
    tape.count("positions", (net.size("image_px") // 16) ** 2 * dim)
    tape.count("token", float(dim))
    with tape.scope("local"):
        rows = tape.repeat(local, lambda y: _gated_layer(tape, tape.add(y, "positions"), heads), rows)
    with tape.scope("global"):
        rows = replace(rows, length=rows.length + 1.0)
        layer = partial(transformer_layer, tape, heads=heads, width=4.0 * dim, qkv_bias=False)
        rows = tape.repeat(net.option("depth", 12) - local, layer, rows)
    with tape.scope("head"):
        tape.linear(replace(tape.norm(rows, "layer"), length=1.0), net.option("classes", 1000), name="classifier")


def _gated_layer(tape: Tape, x: Rows, heads: int) -> Rows:
    """Scores of content and of position are normalised apart and mixed per head, so that nothing fuses them."""
    dim, pairs = float(x.channels), x.batch * heads
    rows = tape.norm(x, "layer", name="norm1")
    with tape.scope("attention"):
        tape.linear(rows, 3.0 * dim, False, "qkv")
        tape.matmul(x.length, x.length, dim / heads, pairs, "scores")
        tape.softmax(pairs * x.length, x.length)
        tape.linear(Rows(x.batch, x.length**2, 3.0), heads, name="positions")
        tape.softmax(pairs * x.length, x.length, "position_softmax")
        tape.count("gates", float(heads))
        tape.multiply(Rows(pairs, x.length, x.length), "mix")
        tape.matmul(x.length, dim / heads, x.length, pairs, "values")
        tape.linear(rows, dim, name="output")
    x = tape.norm(tape.add(x), "layer", name="norm2")
    return tape.add(feed_forward(tape, x, 4.0 * dim))
