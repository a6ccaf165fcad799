"""Networks from a design space: RegNet."""

from __future__ import annotations

from collections import Counter
from math import log

from ridgepoint.models.networks.families.convolutions import activation, classifier, conv_norm, rounded, squeeze_excite
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape


@family("regnet")
def regnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """RegNetX/Y (Radosavovic et al. 2020), RegNetZ (Dollár et al. 2021): widths grow linearly, then are quantised.

    Options: ``depth``, ``start`` width, ``slope``, ``factor`` between stages, ``group`` width, ``least``
    share of a width that rounding to groups may leave, ``se`` ratio, ``ratio`` of
    the inner width, ``preact`` (norms before convolutions), ``pooled`` (pooled shortcuts), ``linear`` (no shortcut
    projection and no activation after a block), ``features`` of a last convolution, ``act``, ``norm``, ``classes``.
    """
    act, norm = net.option("act", "relu"), net.option("norm", "batch")
    preact, features = net.option("preact", False), net.option("features", 0)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    with tape.scope("stem"):
        x = tape.conv(x, 32, 3, 2) if preact else conv_norm(tape, x, 32, 3, 2, act=act, norm=norm)
    for index, (width, depth) in enumerate(stage_widths(net)):
        with tape.scope(f"stage{index + 1}"):
            x = _block(tape, net, x, width, 2)
            x = tape.repeat(depth - 1, lambda y, width=width: _block(tape, net, y, width, 1), x)  # type: ignore[misc]
    if features:
        x = conv_norm(tape, x, features, 1, act=act, name="last")
    elif preact or net.option("linear", False):
        x = activation(tape, x, act)
    classifier(tape, x, net.option("classes", 1000))


def stage_widths(net: Network) -> list[tuple[int, int]]:
    """(width, depth) of every stage from the linear rule, widths rounded to whole groups."""
    start, factor = net.option("start"), net.option("factor")
    exponents = [
        round(log((start + net.option("slope") * i) / start) / log(factor)) for i in range(net.option("depth"))
    ]
    counted = Counter(round(start * factor**e / 8) * 8 for e in exponents)
    ratio = net.option("ratio", 1)
    result = []
    for width, depth in sorted(counted.items()):
        inner = int(width * ratio)
        group = min(net.option("group"), inner)
        least = net.option("least", 0.0)
        whole = rounded(inner, group, limit=least) if least else round(inner / group) * group
        result.append((int(whole / ratio), depth))
    return result


def _block(tape: Tape, net: Network, x: Map, width: int, stride: int) -> Map:
    act, norm, preact = net.option("act", "relu"), net.option("norm", "batch"), net.option("preact", False)
    linear = net.option("linear", False)
    inner = round(width * net.option("ratio", 1))
    groups = inner // min(net.option("group"), inner)
    if preact:
        x = activation(tape, tape.norm(x, norm), act)
    y = conv_norm(tape, x, inner, 1, act=act, norm=norm, name="conv1")
    y = conv_norm(tape, y, inner, 3, stride, groups, act=act, norm=norm, name="conv2")
    if net.option("se", 0.0):
        y = squeeze_excite(tape, y, round(float(x.channels) * net.option("se")))
    y = tape.conv(y, width, 1, name="conv3")
    y = y if preact else tape.norm(y, norm, name="norm3")
    changes = stride != 1 or x.channels != width
    if changes and linear:
        return y
    if changes:
        pooled = net.option("pooled", False) and stride > 1
        short = tape.pool(x, 2, 2) if pooled else x
        short = tape.conv(short, width, 1, 1 if pooled else stride, name="shortcut")
        short = short if preact else tape.norm(short, norm, name="shortcut_norm")
    y = tape.add(y)
    return y if preact or linear else activation(tape, y, act)
