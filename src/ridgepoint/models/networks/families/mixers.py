"""Networks that mix positions without attention or with a simple mixer: MLP-Mixer, ResMLP, gMLP, PoolFormer, CAFormer,
Sequencer.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ridgepoint.models.networks.families.convolutions import classifier
from ridgepoint.models.networks.families.recurrent import recurrent
from ridgepoint.models.networks.families.tokens import feed_forward
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Data, Tape


@family("mixer")
def mixer(tape: Tape, net: Network, sizes: Sizes) -> None:
    """MLP-Mixer (Tolstikhin et al. 2021), ResMLP (Touvron et al. 2021), gMLP (Liu et al. 2021).

    The weights that mix positions belong to one image size. Options: ``kind`` (``mixer``, ``affine``: ResMLP, ``gated``:
    gMLP), ``dim``, ``depth``, ``patch``, ``token_feed`` (hidden width over positions), ``glu`` (gated feed-forward parts),
    ``classes``.
    """
    dim, patch = net.option("dim"), net.option("patch", 16)
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    rows = tape.to_rows(tape.conv(x, dim, patch, patch, bias=True, pad=0, name="patches"))
    block = {"mixer": _mix, "affine": _affine_mix, "gated": _gate}[net.option("kind", "mixer")]
    rows = tape.repeat(net.option("depth"), lambda y: block(tape, net, y), rows)
    with tape.scope("head"):
        affine = net.option("kind") == "affine"
        rows = _affine(tape, rows, "norm") if affine else tape.norm(rows, "layer")
        tape.linear(tape.global_pool(rows), net.option("classes", 1000), name="classifier")


def _turned(x: Rows) -> Rows:
    """Channels as rows, positions as their values."""
    return replace(x, length=x.channels, channels=x.length)


def _mix(tape: Tape, net: Network, x: Rows) -> Rows:
    glu, feed = net.option("glu", False), net.option("token_feed", net.option("dim") // 2)
    y = _turned(tape.move(tape.norm(x, "layer", name="norm1"), name="transpose"))
    feed_forward(tape, y, feed / 2 if glu else feed, gated=glu, name="tokens")
    x = tape.norm(tape.add(x), "layer", name="norm2")
    wide = 4.0 * x.channels
    return tape.add(feed_forward(tape, x, wide / 2.0 if glu else wide, gated=glu, name="channels"))


def _affine(tape: Tape, x: Rows, name: str) -> Rows:
    tape.count(name, 2.0 * float(x.channels))
    return tape.scale(x, name)


def _affine_mix(tape: Tape, net: Network, x: Rows) -> Rows:
    y = _turned(tape.move(_affine(tape, x, "norm1"), name="transpose"))
    tape.linear(y, y.channels, name="tokens")
    tape.count("scale1", float(x.channels))
    x = _affine(tape, tape.add(tape.scale(x)), "norm2")
    y = feed_forward(tape, x, 4.0 * x.channels, name="channels")
    tape.count("scale2", float(x.channels))
    return tape.add(tape.scale(y))


def _gate(tape: Tape, net: Network, x: Rows) -> Rows:
    """Half of a widened row gates the other half after mixing positions."""
    dim = x.channels
    y = tape.activate(tape.linear(tape.norm(x, "layer", name="norm1"), 6.0 * dim, name="up"), 1.0)
    y = tape.norm(replace(y, channels=3.0 * dim), "layer", name="gate_norm")
    turned = _turned(tape.move(y, name="transpose"))
    tape.linear(turned, turned.channels, name="positions")
    return tape.add(tape.linear(tape.multiply(y), dim, name="down"))


@family("metaformer")
def metaformer(tape: Tape, net: Network, sizes: Sizes) -> None:
    """PoolFormer (Yu et al. 2022), ConvFormer and CAFormer (Yu et al. 2024).

    Options: ``depths``, ``dims``, ``mixers`` per stage (``pool``, ``conv``, ``attention``), ``second`` (star ReLU, no
    biases, scaled shortcuts in the last two stages), ``hidden_head``, ``classes``.
    """
    dims, mixers, second = net.option("dims"), net.option("mixers"), net.option("second", True)
    kind = "layer" if "pool" not in mixers else "group"
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    x = tape.conv(x, dims[0], 7, 4, bias=True, pad=2, name="stem")
    x = _norm(tape, x, kind, second, "stem_norm") if second else x
    for stage, depth in enumerate(net.option("depths")):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                x = _norm(tape, x, kind, second, "down_norm") if second else x
                x = tape.conv(x, dims[stage], 3, 2, bias=True, pad=1, name="down")
            scaled = stage > 1 and second
            x = tape.repeat(depth, lambda y, m=mixers[stage], s=scaled: _layer(tape, y, m, kind, second, s), x)  # type: ignore[misc]
    with tape.scope("head"):
        y = tape.norm(tape.global_pool(x), "layer")
        if net.option("hidden_head", False):
            y = tape.norm(tape.activate(tape.linear(y, 4 * dims[-1], name="hidden")), "layer", name="hidden_norm")
        tape.linear(y, net.option("classes", 1000), name="classifier")


def _norm(tape: Tape, x: Map, kind: str, second: bool, name: str) -> Map:
    """A norm without offset in the second version's stages of convolution and attention."""
    if second and kind == "layer":
        tape.count(name, -float(x.channels))
    return tape.norm(x, kind, name=name)


def _layer(tape: Tape, x: Map, mixer_kind: str, kind: str, second: bool, scaled: bool) -> Map:
    dim = float(x.channels)
    _norm(tape, x, kind, second, "norm1")
    if mixer_kind == "pool":
        tape.pool(x, 3, 1, pad=1)
    elif mixer_kind == "conv":
        y = _star(tape, tape.conv(x, 2.0 * dim, 1, name="up"))
        tape.conv(tape.conv(y, 2.0 * dim, 7, groups=2.0 * dim, name="depthwise"), dim, 1, name="down")
    else:
        rows = tape.to_rows(x)
        tape.linear(rows, 3.0 * dim, False, "qkv")
        tape.linear(tape.attend(rows, rows, dim / 32.0, 32.0), dim, False, "output")
    if scaled or not second:
        tape.count("scales", 2.0 * dim)
        tape.scale(x)
    x = _norm(tape, tape.add(x), kind, second, "norm2")
    if second:
        with tape.scope("feed"):
            rows = _star(tape, tape.linear(tape.to_rows(x), 4.0 * dim, False, "up"))
            tape.linear(rows, dim, False, "down")
    else:
        feed_forward(tape, tape.to_rows(x), 4.0 * dim)
    return tape.add(x)


def _star(tape: Tape, x: Data) -> Data:
    """Star ReLU: a squared ReLU with one trained factor and offset, four passes when run eagerly."""
    tape.count("star", 2.0)
    x = tape.activate(x)
    for step in ("square", "factor", "offset"):
        x = tape.scale(x, f"star_{step}")
    return x


@family("sequencer")
def sequencer(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Sequencer2D (Tatsunami and Taki 2022): LSTMs along rows and columns, in both directions, instead of attention.

    Options: ``depths``, ``dims``, ``hidden`` of a direction, ``classes``.
    """
    dims = net.option("dims")
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    for stage, (depth, patch) in enumerate(zip(net.option("depths"), (7, 2, 1, 1), strict=True)):
        with tape.scope(f"stage{stage + 1}"):
            x = tape.conv(x, dims[stage], patch, patch, bias=True, pad=0, name="patches")
            x = tape.repeat(depth, partial(_sequenced, tape, net.option("hidden")[stage]), x)
    classifier(tape, tape.norm(x, "layer", name="last_norm"), net.option("classes", 1000))


def _sequenced(tape: Tape, hidden: int, x: Map) -> Map:
    tape.norm(x, "layer", name="norm1")
    for name, length, lines in (("vertical", x.height, x.width), ("horizontal", x.width, x.height)):
        recurrent(tape, Rows(x.batch * lines, length, x.channels), hidden, both=True, name=name)
    tape.linear(replace(tape.to_rows(x), channels=4.0 * hidden), x.channels, name="join")
    x = tape.norm(tape.add(x), "layer", name="norm2")
    feed_forward(tape, tape.to_rows(x), 3.0 * x.channels)
    return tape.add(x)
