"""Convolution blocks followed by attention: CoAtNet, MaxViT, MaxxViT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.models.networks.families.convolutions import classifier, squeeze_excite
from ridgepoint.models.networks.families.tokens import feed_forward
from ridgepoint.models.networks.families.window_transformers import windows
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


@family("maxvit")
def maxvit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """CoAtNet (Dai et al. 2021), MaxViT (Tu et al. 2022) and their form with ConvNeXt blocks (timm).

    Options: ``dims``, ``depths``, ``blocks`` (kinds in each stage: ``C`` convolution, ``T`` attention over the map, ``M``
    convolution, window attention, grid attention), ``stem`` widths, ``stem_bias``, ``hidden`` width before the classifier,
    ``convnext`` blocks, ``wide`` (expansion of the output's channels), ``stride`` (``dw``: the depthwise convolution
    strides; ``pool``), ``output_bias``, ``se`` ratio, ``norm`` of attention parts, ``expand_first`` (the attention works at
    the output's width), ``shortcut_bias``, ``positions`` (``bias``, ``mlp``, ``bias_tf``), ``position_dim``,
    ``layer_scale``, ``grid_only``, ``window``, ``classes``.
    """
    image = sizes["image_px"]
    stem = net.option("stem")
    x = tape.image(3, image, image)
    with tape.scope("stem"):
        x = tape.conv(x, stem[0], 3, 2, bias=net.option("stem_bias", True), name="conv1")
        x = tape.activate(_conv_norm_of(tape, net, x, "norm1"), 1.0)
        x = tape.conv(x, stem[1], 3, bias=net.option("stem_bias", True), name="conv2")
    part = net.option("window", 0) or image / 32.0
    kinds = net.option("blocks")
    for stage, (dim, depth) in enumerate(zip(net.option("dims"), net.option("depths"), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            for index in range(depth):
                kind = kinds[stage][min(index, len(kinds[stage]) - 1)]
                x = _play(tape, net, x, kind, dim, 1 if index else 2, part)
    _head(tape, net, x)


def _head(tape: Tape, net: Network, x: Map) -> None:
    hidden, norm = net.option("hidden", 0), net.option("norm", "layer")
    if not hidden:
        classifier(tape, tape.norm(x, norm, name="last_norm"), net.option("classes", 1000))
        return
    with tape.scope("head"):
        y = tape.norm(tape.global_pool(x), norm)
        y = tape.activate(tape.linear(y, hidden, name="hidden"), 1.0)
        tape.linear(y, net.option("classes", 1000), name="classifier")


def _conv_norm_of(tape: Tape, net: Network, x: Map, name: str) -> Map:
    return tape.norm(x, "layer" if net.option("convnext", False) else "batch", name=name)


def _play(tape: Tape, net: Network, x: Map, kind: str, dim: int, stride: int, part: Num) -> Map:
    if kind == "T":
        return _attention_block(tape, net, x, dim, stride)
    with tape.scope("convolution"):
        convolution = _convnext_block if net.option("convnext", False) else _inverted_block
        x = convolution(tape, net, x, dim, stride)
    if kind == "M":
        for where in ("grid",) if net.option("grid_only", False) else ("window", "grid"):
            with tape.scope(where):
                rows = windows(tape, x, part)
                attended = _attend(
                    tape, net, tape.norm(rows, net.option("norm", "layer"), name="norm1"), dim, dim, part, part
                )
                _feed(tape, net, tape.move(tape.add(_scaled(tape, net, attended))))
    return x


def _scaled(tape: Tape, net: Network, x: Rows) -> Rows:
    if net.option("layer_scale", False):
        tape.count("layer_scale", float(x.channels))
        return tape.scale(x)
    return x


def _feed(tape: Tape, net: Network, x: Rows) -> Rows:
    tape.norm(x, net.option("norm", "layer"), name="norm2")
    return tape.add(_scaled(tape, net, feed_forward(tape, x, 4.0 * x.channels)))


def _shortcut(tape: Tape, x: Map, dim: int, stride: int, bias: bool) -> None:
    if stride > 1:
        y = tape.pool(x, 2, 2, name="shortcut_pool")
        if y.channels != dim:
            tape.conv(y, dim, 1, bias=bias, name="shortcut")


def _inverted_block(tape: Tape, net: Network, x: Map, dim: int, stride: int) -> Map:
    bias, wide = net.option("output_bias", True), net.option("wide", True)
    _shortcut(tape, x, dim, stride, bias)
    mid = 4 * (dim if wide else int(x.channels))
    y = tape.norm(x, name="norm0")
    pooled = stride > 1 and net.option("stride", "dw") == "pool"
    y = tape.pool(y, 2, 2) if pooled else y
    y = tape.activate(tape.norm(tape.conv(y, mid, 1, name="expand"), name="norm1"), 1.0)
    y = tape.conv(y, mid, 3, 1 if pooled else stride, mid, name="depthwise")
    y = tape.activate(tape.norm(y, name="norm2"), 1.0)
    y = squeeze_excite(tape, y, int(net.option("se", 0.25) * (dim if wide else mid)))
    return tape.add(tape.conv(y, dim, 1, bias=bias, name="project"))


def _convnext_block(tape: Tape, net: Network, x: Map, dim: int, stride: int) -> Map:
    _shortcut(tape, x, dim, stride, True)
    pooled = stride > 1 and net.option("stride", "dw") == "pool"
    y = tape.pool(x, 2, 2) if pooled else x
    y = tape.norm(tape.conv(y, dim, 7, 1 if pooled else stride, x.channels, bias=True, name="depthwise"), "layer")
    rows = feed_forward(tape, tape.to_rows(y), 4 * dim)
    tape.count("layer_scale", float(dim))
    return tape.add(tape.to_map(tape.scale(rows), y.height, y.width))


def _attention_block(tape: Tape, net: Network, x: Map, dim: int, stride: int) -> Map:
    """Attention over the whole map; a strided one pools its input."""
    with tape.scope("transformer"):
        _shortcut(tape, x, dim, stride, net.option("shortcut_bias", True))
        y = tape.norm(x, net.option("norm", "layer"), name="norm1")
        y = tape.pool(y, 2, 2) if stride > 1 else y
        rows = _attend(tape, net, tape.to_rows(y), int(x.channels), dim, y.height, y.width)
        rows = _feed(tape, net, tape.add(_scaled(tape, net, rows)))
        return replace(tape.to_map(rows, y.height, y.width), channels=float(dim))


def _attend(tape: Tape, net: Network, x: Rows, dim: int, out: int, height: Num, width: Num) -> Rows:
    inner = out if net.option("expand_first", True) and out > dim else dim
    heads = inner // 32
    with tape.scope("attention"):
        qkv = tape.linear(x, 3.0 * inner, name="qkv")
        _positions(tape, net, heads, height, width)
        y = tape.attend(replace(qkv, channels=float(inner)), x, heads, 32)
        return tape.linear(y, out, name="output")


def _positions(tape: Tape, net: Network, heads: int, height: Num, width: Num) -> None:
    down, across = 2.0 * height - 1.0, 2.0 * width - 1.0
    kind, hidden = net.option("positions", "bias"), net.option("position_dim", 512)
    if kind == "mlp":
        offsets = Rows(1.0, down * across, 2.0)
        tape.linear(tape.activate(tape.linear(offsets, hidden, name="offsets")), heads, name="biases")
        return
    tape.count("relative_positions", float(np.max(down * across)) * heads)
    if kind == "bias_tf":
        tape.matmul(height * height, heads * across, down, 1.0, "rows_of_biases")
        tape.matmul(width * width, heads * height * height, across, 1.0, "biases")
