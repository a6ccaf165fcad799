"""Detection transformers with deformable attention over maps of several scales: DINO."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.detectors import sum_of_levels
from ridgepoint.models.networks.families.region_proposals import backbone_maps
from ridgepoint.models.networks.families.tokens import attention, feed_forward, mlp
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape

LEVELS, POINTS, HEADS = 4, 4, 8


@family("dino")
def dino(tape: Tape, net: Network, sizes: Sizes) -> None:
    """DINO (Zhang et al. 2023) with four scales: six encoder layers over all positions, six decoder layers of queries.

    Options: ``backbone`` (options of a ResNet), ``layers`` (6), ``feed`` (2048), ``queries`` (900), ``classes`` (91).
    """
    layers, classes = net.option("layers", 6), net.option("classes", 91)
    maps = backbone_maps(tape, net, sizes)[1:]
    with tape.scope("project"):
        levels = [
            tape.norm(tape.conv(x, 256, 1, bias=True, name=f"conv{i}"), "group", name=f"norm{i}")
            for i, x in enumerate(maps)
        ]
        last = tape.conv(maps[-1], 256, 3, 2, bias=True, name="conv3")
        levels.append(tape.norm(last, "group", name="norm3"))
        tape.count("levels", LEVELS * 256.0)
    memory = sum_of_levels(tape, levels)
    with tape.scope("encoder"):
        memory = tape.repeat(layers, lambda x: _encoder_layer(tape, net, x), memory)
    with tape.scope("selection"):
        y = tape.norm(tape.linear(memory, 256, name="project"), "layer")
        tape.linear(y, classes, name="class")
        mlp(tape, y, 256, 256, 4, special=0.0, name="box")
    with tape.scope("decoder"):
        queries = Rows(memory.batch, float(net.option("queries", 900)), 256.0)
        tape.count("queries", net.option("queries", 900) * 256.0)
        mlp(tape, replace(queries, channels=512.0), 256, 256, special=0.0, name="positions")
        tape.repeat(layers, lambda x: _decoder_layer(tape, net, x, memory), queries)


def _sampled(tape: Tape, x: Rows, memory: Rows, name: str) -> Rows:
    """Each row reads ``POINTS`` places of every scale and head, at offsets that it computes (Zhu et al. 2021)."""
    places = HEADS * LEVELS * POINTS
    with tape.scope(name):
        tape.linear(memory, 256, name="values")
        tape.linear(x, 2 * places, name="offsets")
        tape.softmax(tape.linear(x, places, name="weights").values / (LEVELS * POINTS), LEVELS * POINTS)
        tape.gather(x.rows * places * 4.0, 256.0 / HEADS)  # four neighbours of each place, interpolated
        return tape.linear(x, 256, name="output")


def _encoder_layer(tape: Tape, net: Network, x: Rows) -> Rows:
    x = tape.norm(tape.add(_sampled(tape, x, x, "attention")), "layer", name="norm1")
    return tape.norm(tape.add(feed_forward(tape, x, net.option("feed", 2048))), "layer", name="norm2")


def _decoder_layer(tape: Tape, net: Network, x: Rows, memory: Rows) -> Rows:
    """Boxes are refined after every layer."""
    x = tape.norm(tape.add(attention(tape, x, HEADS, name="self")), "layer", name="norm1")
    x = tape.norm(tape.add(_sampled(tape, x, memory, "cross")), "layer", name="norm2")
    x = tape.norm(tape.add(feed_forward(tape, x, net.option("feed", 2048))), "layer", name="norm3")
    tape.linear(x, net.option("classes", 91), name="class")
    mlp(tape, x, 256, 256, 4, special=0.0, name="box")
    return x
