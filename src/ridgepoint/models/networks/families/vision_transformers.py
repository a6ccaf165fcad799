"""Plain vision transformers: ViT, DeiT, BEiT, DINOv2, EVA, CLIP and SigLIP image towers, hybrids with a residual stem."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.families.residual import residual_features
from ridgepoint.models.networks.families.tokens import feed_forward
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


@family("vit")
def vit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """ViT (Dosovitskiy et al. 2021), DeiT (Touvron et al. 2021, 2022), BEiT (Bao et al. 2022), DINOv2 (Oquab et al. 2024),
    EVA-02 (Fang et al. 2023), CLIP (Radford et al. 2021), SigLIP (Zhai et al. 2023).

    Options: ``dim``, ``depth``, ``heads``, ``patch``, ``feed`` (hidden width, 4 dim by default), ``tokens`` (class and
    register tokens, 1), ``position`` (``all``: an embedding for every row; ``patches``; ``relative``: a table of biases in
    every layer; ``relative_mlp``: a small network in every layer makes them; empty), ``qkv_bias`` (``all``, ``no_key``,
    empty), ``layer_scale``, ``pre_norm``, ``qk_norm``, ``norm``, ``gated`` feed-forward part, ``sub_norm`` (a norm inside
    it), ``feed_norm`` (one more before it), ``inner_norm`` (a norm of what attention gives), ``rope``, ``parallel`` (both
    parts read one norm), ``pool`` (``token``, ``mean``, ``map``: attention from a trained query), ``heads_out``
    classifiers, ``backbone`` (options of a ResNet before the patches), ``classes``.
    """
    image = tape.image(3, sizes["image_px"], sizes["image_px"])
    dim, extra = net.option("dim"), net.option("tokens", 1)
    with tape.scope("stem"):
        features = _backbone(tape, net, image)
        patch = net.option("patch", 16)
        grid = tape.conv(features, dim, patch, patch, bias=not net.option("pre_norm", False), pad=0, name="patches")
        x = tape.to_rows(grid)
        rows = replace(x, length=x.length + extra)
        tape.count("tokens", float(extra * dim))
        if net.option("position", "all") in ("all", "patches"):
            _positions(tape, rows if net.option("position", "all") == "all" else x)
        if net.option("pre_norm", False):
            rows = tape.norm(rows, net.option("norm", "layer"), name="pre_norm")
    with tape.scope("blocks"):
        rows = tape.repeat(net.option("depth"), lambda y: vit_block(tape, net, y, grid), rows)
    _head(tape, net, rows)


def _positions(tape: Tape, x: Rows) -> None:
    tape.count("positions", float(_most(x.length) * _most(x.channels)))
    tape.add(x, "positions")


def _most(value: Num) -> float:
    """The largest of a sweep."""
    import numpy as np

    return float(np.max(value))


def _backbone(tape: Tape, net: Network, x: Map) -> Map:
    options = net.option("backbone", ())
    if not options:
        return x
    with tape.scope("backbone"):
        return residual_features(tape, replace(net, config=options), x)


def vit_block(tape: Tape, net: Network, x: Rows, grid: Map) -> Rows:
    """One layer: attention and feed-forward part with the options of :func:`vit`."""
    norm, scaled = net.option("norm", "layer"), net.option("layer_scale", False)
    parallel = net.option("parallel", False)
    tape.norm(x, norm, name="norm1")
    y = _attention(tape, net, x, grid)
    if scaled:
        tape.count("layer_scale1", _most(x.channels))
        tape.scale(y)
    x = x if parallel else tape.norm(tape.add(y), norm, name="norm2")
    y = _feed(tape, net, x)
    if scaled:
        tape.count("layer_scale2", _most(x.channels))
        tape.scale(y)
    return tape.add(y)


def _attention(tape: Tape, net: Network, x: Rows, grid: Map) -> Rows:
    dim, heads = net.option("dim"), net.option("heads")
    bias = net.option("qkv_bias", "all")
    with tape.scope("attention"):
        tape.linear(x, 3 * dim, bias == "all", "qkv")
        if bias == "no_key":
            tape.count("qkv", 2.0 * dim)
        if net.option("qk_norm", False):
            for what in ("query", "key"):
                tape.norm(
                    Rows(x.batch, x.length * heads, dim / heads), net.option("norm", "layer"), name=f"{what}_norm"
                )
        if net.option("rope", False):
            tape.scale(replace(x, channels=2.0 * dim), name="rotary")
        _position_bias(tape, net, heads, grid)
        y = tape.attend(x, x, heads, dim / heads)
        if net.option("inner_norm", False):
            tape.norm(y, "layer", name="inner_norm")
        return tape.linear(y, dim, name="output")


def _position_bias(tape: Tape, net: Network, heads: int, grid: Map) -> None:
    kind = net.option("position", "all")
    if kind == "relative":
        span = (2.0 * _most(grid.height) - 1.0) * (2.0 * _most(grid.width) - 1.0)
        tape.count("relative_positions", (span + 3.0) * heads)
    if kind == "relative_mlp":
        hidden = net.option("position_width", 512)
        tape.count("relative_positions", float(hidden * (3 + heads) + heads))


def _feed(tape: Tape, net: Network, x: Rows) -> Rows:
    feed = net.option("feed", 4 * net.option("dim"))
    if net.option("feed_norm", False):
        x = tape.norm(x, "layer", name="feed_norm")
    if not net.option("sub_norm", False):
        return feed_forward(tape, x, feed, gated=net.option("gated", False))
    with tape.scope("feed"):
        tape.linear(x, feed, name="gate")
        y = tape.multiply(tape.activate(tape.linear(x, feed, name="up"), 1.0))
        return tape.linear(tape.norm(y, "layer"), x.channels, name="down")


def _head(tape: Tape, net: Network, x: Rows) -> None:
    dim, pool, classes = net.option("dim"), net.option("pool", "token"), net.option("classes", 1000)
    with tape.scope("head"):
        if pool == "mean":
            y = tape.norm(tape.global_pool(x), net.option("norm", "layer"))
        else:
            tape.norm(x, net.option("norm", "layer"))
            y = Rows(x.batch, 1.0, float(dim))
        if pool == "map":
            y = _attention_pool(tape, net, x)
        for index in range(net.option("heads_out", 1) if classes else 0):
            tape.linear(y, classes, name=f"classifier{index or ''}")


def _attention_pool(tape: Tape, net: Network, x: Rows) -> Rows:
    """A trained query attends to all rows; a feed-forward part follows."""
    dim, heads = net.option("dim"), net.option("heads")
    with tape.scope("pool"):
        tape.count("query", float(dim))
        query = tape.linear(Rows(x.batch, 1.0, float(dim)), dim, name="query")
        tape.linear(x, 2 * dim, name="key_value")
        y = tape.linear(tape.attend(query, x, heads, dim / heads), dim, name="output")
        return tape.add(feed_forward(tape, tape.norm(y, "layer"), net.option("feed", 4 * dim)))
