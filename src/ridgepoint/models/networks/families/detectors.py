"""Detectors of one stage and with transformers: RetinaNet, DETR, RT-DETR."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.convolutions import concatenate, conv_norm
from ridgepoint.models.networks.families.region_proposals import backbone_maps, pyramid
from ridgepoint.models.networks.families.tokens import attention, feed_forward, mlp, transformer_layer
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape


@family("retinanet")
def retinanet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """RetinaNet (Lin et al. 2017). Options: ``backbone``, ``classes`` (91), ``anchors`` per position (9)."""
    maps = backbone_maps(tape, net, sizes)
    levels = pyramid(tape, maps[1:])
    y = tape.conv(levels[-1], 256, 3, 2, bias=True, name="level6")
    levels += [y, tape.conv(tape.activate(y), 256, 3, 2, bias=True, name="level7")]
    anchors = net.option("anchors", 9)
    for index, level in enumerate(levels):
        for name, out in (("class", anchors * net.option("classes", 91)), ("box", anchors * 4)):
            x = level
            for depth in range(4):
                y = tape.conv(x, 256, 3, bias=True, name=f"{name}{depth}", counted=index == 0)
                x = tape.activate(y, kept=1.0 if depth or name == "box" else 2.0)
            tape.conv(x, out, 3, bias=True, name=f"{name}_predict", counted=index == 0)


@family("detr")
def detr(tape: Tape, net: Network, sizes: Sizes) -> None:
    """DETR (Carion et al. 2020). Options: ``backbone``, ``dim``, ``layers``, ``feed``, ``queries``, ``classes`` (92)."""
    dim, feed, layers = net.option("dim", 256), net.option("feed", 2048), net.option("layers", 6)
    heads = dim // 32
    x = backbone_maps(tape, net, sizes)[-1]
    rows = tape.to_rows(tape.conv(x, dim, 1, bias=True, name="project"))
    with tape.scope("encoder"):
        rows = tape.repeat(layers, lambda y: transformer_layer(tape, y, heads, feed), rows)
    with tape.scope("decoder"):
        queries = Rows(rows.batch, float(net.option("queries", 100)), float(dim))
        tape.count("queries", float(net.option("queries", 100) * dim))
        queries = tape.norm(tape.repeat(layers, lambda y: _decoder_layer(tape, y, rows, heads, feed), queries), "layer")
    with tape.scope("head"):
        tape.linear(queries, net.option("classes", 92), name="class")
        mlp(tape, queries, dim, dim, 4, special=0.0, name="box")


def _decoder_layer(tape: Tape, x: Rows, memory: Rows, heads: int, feed: int) -> Rows:
    x = tape.norm(tape.add(attention(tape, x, heads, name="self")), "layer", name="norm1")
    x = tape.norm(tape.add(attention(tape, x, heads, context=memory, name="cross")), "layer", name="norm2")
    return tape.norm(tape.add(feed_forward(tape, x, feed)), "layer", name="norm3")


@family("rt_detr")
def rt_detr(tape: Tape, net: Network, sizes: Sizes) -> None:
    """RT-DETR (Zhao et al. 2024), its re-parametrised blocks merged.

    Options: ``backbone``, ``dim`` and ``feed`` of the encoder, ``expand`` of its blocks, ``layers`` of the decoder,
    ``queries``, ``classes``.
    """
    dim = net.option("dim", 256)
    with tape.scope("encoder"):
        maps = [
            conv_norm(tape, x, dim, 1, act="", name=f"project{i}")
            for i, x in enumerate(backbone_maps(tape, net, sizes)[1:])
        ]
        rows = transformer_layer(tape, tape.to_rows(maps[2]), 8, net.option("feed", 1024))
        maps[2] = tape.to_map(rows, maps[2].height, maps[2].width)
        levels = _hybrid(tape, net, maps, dim)
    with tape.scope("decoder"):
        memory = sum_of_levels(
            tape, [conv_norm(tape, x, 256, 1, act="", name=f"project{i}") for i, x in enumerate(levels)]
        )
        _rt_decoder(tape, net, memory)


def sum_of_levels(tape: Tape, levels: list[Map]) -> Rows:
    """The positions of all maps as one sequence."""
    rows = [tape.to_rows(level) for level in levels]
    length = rows[0].length
    for other in rows[1:]:
        length = length + other.length
    return tape.move(replace(rows[0], length=length), name="flatten")


def _hybrid(tape: Tape, net: Network, maps: list[Map], dim: int) -> list[Map]:
    """The pyramid up and down: convolutions join neighbouring maps."""
    small, middle, large = maps
    top = conv_norm(tape, large, dim, 1, act="silu", name="lateral1")
    tape.move(top, written=4.0 * top.values, name="enlarge1")
    mid = _fusion(tape, net, concatenate(tape, middle, 2.0 * dim), dim, "up1")
    mid = conv_norm(tape, mid, dim, 1, act="silu", name="lateral2")
    tape.move(mid, written=4.0 * mid.values, name="enlarge2")
    first = _fusion(tape, net, concatenate(tape, small, 2.0 * dim), dim, "up2")
    y = conv_norm(tape, first, dim, 3, 2, act="silu", name="down1")
    second = _fusion(tape, net, concatenate(tape, y, 2.0 * dim), dim, "out1")
    y = conv_norm(tape, second, dim, 3, 2, act="silu", name="down2")
    return [first, second, _fusion(tape, net, concatenate(tape, y, 2.0 * dim), dim, "out2")]


def _fusion(tape: Tape, net: Network, x: Map, out: int, name: str) -> Map:
    with tape.scope(name):
        inner = int(out * net.option("expand", 1.0))
        conv_norm(tape, x, inner, 1, act="silu", name="left")
        y = conv_norm(tape, x, inner, 1, act="silu", name="right")
        y = tape.add(tape.repeat(3, lambda z: conv_norm(tape, z, inner, 3, act="silu", name="conv"), y))
        return conv_norm(tape, y, out, 1, act="silu", name="join") if inner != out else y


def _rt_decoder(tape: Tape, net: Network, memory: Rows) -> None:
    classes, count = net.option("classes", 80), float(net.option("queries", 300))
    with tape.scope("selection"):
        y = tape.norm(tape.linear(memory, 256, name="project"), "layer")
        tape.linear(y, classes, name="class")
        mlp(tape, y, 256, 256, 4, special=0.0, name="box")
    queries = Rows(memory.batch, count, 256.0)
    tape.repeat(net.option("layers", 6), lambda x: _deformable_layer(tape, x, memory, classes), queries)
    mlp(tape, replace(queries, channels=4.0), 512, 256, special=0.0, name="positions")


def _deformable_layer(tape: Tape, x: Rows, memory: Rows, classes: int) -> Rows:
    """Each query reads four points of each of three maps per head (Zhu et al. 2021)."""
    x = tape.norm(tape.add(attention(tape, x, 8, name="self")), "layer", name="norm1")
    with tape.scope("cross"):
        tape.linear(memory, 256, name="values")
        tape.linear(x, 192, name="offsets")
        tape.softmax(tape.linear(x, 96, name="weights").values / 12.0, 12.0)
        tape.gather(x.rows * 8.0 * 12.0 * 4.0, 32.0)
        x = tape.norm(tape.add(tape.linear(x, 256, name="output")), "layer", name="norm2")
    x = tape.norm(tape.add(feed_forward(tape, x, 1024)), "layer", name="norm3")
    tape.linear(x, classes, name="class")
    mlp(tape, x, 256, 256, 4, special=0.0, name="box")
    return x
