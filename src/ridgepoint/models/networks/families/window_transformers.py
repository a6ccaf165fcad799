"""Transformers whose attention stays inside windows: Swin, Swin V2."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.models.networks.families.convolutions import classifier
from ridgepoint.models.networks.families.tokens import feed_forward
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


def windows(tape: Tape, x: Map, size: Num) -> Rows:
    """Square windows of a map as sequences; maps that do not divide are padded."""
    across, down = np.ceil(x.width / size), np.ceil(x.height / size)
    tape.move(x, name="windows")
    return Rows(x.batch * across * down, size * size, x.channels)


def window_size(x: Map, size: Num) -> Num:
    """The window, or the whole map where that is smaller."""
    return np.minimum(size, np.minimum(x.height, x.width))


@family("swin")
def swin(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Swin (Liu et al. 2021) and Swin V2 (Liu et al. 2022).

    Options: ``dim`` of the first stage, ``depths``, ``heads``, ``window`` (one size, or one per stage), ``window_share``
    (a window is this part of the image instead), ``version`` (1, 2, or ``cr``: V2 from its paper alone), ``norm_period``
    (an extra norm every so many blocks), ``norm_stage`` (one at the end of each stage), ``classes``.
    """
    image = sizes["image_px"]
    version, depths = net.option("version", 1), net.option("depths")
    x = tape.conv(tape.image(3, image, image), net.option("dim"), 4, 4, bias=True, pad=0, name="patches")
    x = tape.norm(x, "layer", name="patch_norm")
    for stage, depth in enumerate(depths):
        with tape.scope(f"stage{stage + 1}"):
            if stage:
                x = merge(tape, x, after=version == 2)
            size = _size(net, stage, image)
            heads = net.option("heads")[stage]
            x = tape.repeat(depth, lambda y, size=size, heads=heads: _block(tape, net, y, heads, size), x)  # type: ignore[misc]
            _extra_norms(tape, net, x, stage, depth)
    classifier(tape, tape.norm(x, "layer", name="last_norm"), net.option("classes", 1000))


def _extra_norms(tape: Tape, net: Network, x: Map, stage: int, depth: int) -> None:
    """Norms that keep large networks stable."""
    period = net.option("norm_period", 0)
    last = stage == len(net.option("depths")) - 1
    count = (depth // period if period else 0) or (1 if net.option("norm_stage", False) and not last else 0)
    for index in range(count):
        tape.norm(x, "layer", name=f"extra_norm{index}")


def _size(net: Network, stage: int, image: Num) -> Num:
    share = net.option("window_share", 0)
    if share:
        return image / float(share)
    size = net.option("window")
    return float(size[stage] if isinstance(size, tuple) else size)


def merge(tape: Tape, x: Map, after: bool = False) -> Map:
    """Patch merging: four neighbours become one position of twice the channels."""
    with tape.scope("merge"):
        y = Map(x.batch, x.channels * 4.0, np.ceil(x.height / 2.0), np.ceil(x.width / 2.0))
        tape.move(y)
        if not after:
            y = tape.norm(y, "layer")
        rows = tape.linear(tape.to_rows(y), x.channels * 2.0, False)
        rows = tape.norm(rows, "layer") if after else rows
        return tape.to_map(rows, y.height, y.width)


def _block(tape: Tape, net: Network, x: Map, heads: int, size: Num) -> Map:
    """Window attention and a feed-forward part; V2 puts the norms after them."""
    version, dim = net.option("version", 1), x.channels
    width = window_size(x, size)
    early = version == 1
    if early:
        tape.norm(x, "layer", name="norm1")
    rows = windows(tape, x, width)
    with tape.scope("attention"):
        tape.linear(rows, 3.0 * dim, version != 2, "qkv")
        _bias(tape, version, heads, size, width)
        if version == 2:
            tape.count("qkv", 2.0 * float(dim))
        _shift_masks(tape, rows, heads)
        y = tape.linear(tape.attend(rows, rows, heads, dim / heads), dim, name="output")
    tape.move(replace(x, channels=y.channels), name="unwindow")
    if not early:
        tape.norm(x, "layer", name="norm1")
    x = tape.add(x)
    if early:
        tape.norm(x, "layer", name="norm2")
    feed_forward(tape, tape.to_rows(x), 4.0 * dim)
    if not early:
        tape.norm(x, "layer", name="norm2")
    return tape.add(x)


def _shift_masks(tape: Tape, x: Rows, heads: int) -> None:
    """Every second layer shifts its map there and back and adds masks to the biases: frameworks lay out one matrix per
    window and head for that, eagerly in three passes.
    """
    shifted = replace(x, batch=x.batch / 2.0)
    tape.move(replace(shifted, channels=2.0 * x.channels), name="shift")
    for index in range(1 if tape.fused else 3):
        tape.move(Rows(shifted.batch * heads, x.length, x.length), name=f"masks{index}")


def _bias(tape: Tape, version: object, heads: int, size: Num, width: Num) -> None:
    """Biases of relative positions: a table, or a small network over the offsets."""
    span = (2.0 * width - 1.0) ** 2
    if version == 1:
        tape.count("relative_positions", float(np.max((2.0 * np.asarray(size) - 1.0) ** 2)) * heads)
        return
    tape.count("scale", float(heads))
    offsets = Rows(1.0, width**4 if version == "cr" else span, 2.0)
    y = tape.activate(tape.linear(offsets, 384 if version == "cr" else 512, name="offsets"))
    tape.linear(y, heads, version == "cr", "biases")
