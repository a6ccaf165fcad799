"""Diffusion transformers whose text comes by cross-attention or not at all: DiT, U-ViT, PixArt, Sana, Wan, LTX, STDiT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ridgepoint.models.networks.families.tokens import (
    attention,
    feed_forward,
    linear_attention,
    mlp,
    one_row,
    transformer_layer,
)
from ridgepoint.models.networks.families.unet import latent
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


def patchify(tape: Tape, net: Network, sizes: Sizes, width: int) -> tuple[Rows, Map]:
    """Latents cut into ``patch`` × ``patch`` (× ``frame_patch``) pieces, each projected to ``width``; also their grid.

    Options: ``patch`` (2), ``frame_patch`` (1), ``in_channels`` (4), ``compression`` of the
    autoencoder in space (8), ``frame_compression`` in time (4; the first frame stays).
    """
    height, wide = latent(sizes, net.option("compression", 8))
    frames = (sizes.get("frames", 1.0) - 1.0) / net.option("frame_compression", 4) + 1.0
    patch, deep = net.option("patch", 2), net.option("frame_patch", 1)
    channels = net.option("in_channels", 4) * patch * patch * deep
    grid = Map(tape.batch, float(width), height / patch, wide / patch, frames / deep)
    pieces = Rows(tape.batch, grid.positions, float(channels))
    bias = net.option("patch_bias", True)
    return tape.linear(tape.move(pieces, name="patchify"), width, bias, "patch_embedding"), grid


def unpatchify(tape: Tape, net: Network, x: Rows) -> None:
    """The prediction for every patch: noise (and, in DiT, variance)."""
    patch, deep = net.option("patch", 2), net.option("frame_patch", 1)
    out = net.option("out_channels", net.option("in_channels", 4)) * patch * patch * deep
    tape.move(tape.linear(x, out, name="output"), name="unpatchify")


def timestep(tape: Tape, width: int, inputs: int = 256, name: str = "time") -> None:
    """The sinusoid of a timestep through two projections."""
    mlp(tape, one_row(tape, inputs), width, width, name=name)


def modulate(tape: Tape, x: Rows, kind: str = "layer", affine: bool = False, name: str = "norm") -> Rows:
    """A norm followed by a scale and a shift per sample."""
    return tape.scale(tape.norm(x, kind, affine, name), name=f"{name}_modulate")


@family("dit")
def dit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """DiT with adaLN-Zero (Peebles and Xie 2023).

    Options: ``depth``, ``width``, ``heads``, ``patch``, ``out_channels`` (8: noise and variance), ``classes``.
    """
    width, heads = net.option("width"), net.option("heads")
    x, _ = patchify(tape, net, sizes, width)
    with tape.scope("condition"):
        timestep(tape, width)
        tape.gather(tape.batch, width, "label", (net.option("classes", 1000) + 1) * width)

    def block(y: Rows) -> Rows:
        with tape.scope("block"):
            tape.linear(one_row(tape, width), 6 * width, name="modulation")
            y = tape.add(tape.scale(attention(tape, modulate(tape, y), heads)))
            return tape.add(tape.scale(feed_forward(tape, modulate(tape, y), 4 * width)))

    x = tape.repeat(net.option("depth"), block, x)
    with tape.scope("final"):
        tape.linear(one_row(tape, width), 2 * width, name="modulation")
        unpatchify(tape, net, modulate(tape, x))


@family("uvit")
def uvit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """U-ViT (Bao et al. 2023): a ViT with long skips, time and class as tokens, a convolution at the end.

    Options: ``depth`` (odd), ``width``, ``heads``, ``patch``, ``classes``, ``pixels`` (positions that are learned),
    ``final_conv``.
    """
    width, heads, half = net.option("width"), net.option("heads"), net.option("depth") // 2
    x, grid = patchify(tape, net, sizes, width)
    tape.gather(tape.batch, width, "label", (net.option("classes", 1000) + 1) * width)
    tape.count("positions", (net.option("learned_positions", 256) + 2) * width)
    x = replace(x, length=x.length + 2.0)

    def layer(y: Rows) -> Rows:
        return transformer_layer(tape, y, heads, 4 * width, qkv_bias=False, bias=True)

    def up(y: Rows) -> Rows:
        joined = tape.move(replace(y, channels=2.0 * width), name="concat")
        return layer(tape.linear(joined, width, name="skip"))

    with tape.scope("block"):
        x = tape.repeat(half, layer, x)
        x = layer(x)
        x = tape.repeat(half, up, x)
    channels, patch = net.option("in_channels", 4), net.option("patch", 2)
    tape.linear(tape.norm(x, "layer"), channels * patch * patch, name="output")
    picture = Map(tape.batch, float(channels), grid.height * patch, grid.width * patch)
    tape.conv(picture, channels, 3, bias=True, name="final_conv")


@dataclass(frozen=True)
class _CrossLayer:
    """One layer: self-attention, attention to the text, feed-forward part, modulated by one shared projection."""

    tape: Tape
    net: Network
    grid: Map
    text: Rows

    def __call__(self, x: Rows) -> Rows:
        tape, net = self.tape, self.net
        with tape.scope("block"):
            tape.count("modulation", 6.0 * x.channels)
            x = tape.add(tape.scale(self.attend(modulate(tape, x, net.option("norm", "layer")))))
            x = tape.add(self.cross(x))
            return tape.add(tape.scale(self.feed(modulate(tape, x, net.option("norm", "layer")))))

    def attend(self, x: Rows) -> Rows:
        net, tape = self.net, self.tape
        heads = net.option("heads")
        if net.option("attention", "softmax") == "linear":
            return linear_attention(tape, x, heads, int(x.channels) // heads)
        return attention(
            tape, x, heads, qk_norm=net.option("qk_norm", ""), full_norm=True, rope=bool(net.option("rope", False))
        )

    def cross(self, x: Rows) -> Rows:
        net = self.net
        y = self.tape.norm(x, "layer", name="cross_norm") if net.option("cross_norm", False) else x
        heads = net.option("cross_heads", net.option("heads"))
        return attention(
            self.tape, y, heads, context=self.text, qk_norm=net.option("qk_norm", ""), full_norm=True, name="cross"
        )

    def feed(self, x: Rows) -> Rows:
        width = self.net.option("feed", 4.0 * x.channels)
        if self.net.option("conv_feed"):
            return mix_feed(self.tape, x, self.grid, width)
        return feed_forward(self.tape, x, width)


def mix_feed(tape: Tape, x: Rows, grid: Map, width: Num) -> Rows:
    """Sana's feed-forward part: a gated one with a depthwise convolution between its projections."""
    with tape.scope("feed"):
        y = tape.activate(tape.linear(x, 2.0 * width, name="up"), special=1.0)
        shaped = tape.to_map(y, grid.height, grid.width, grid.depth)
        tape.conv(shaped, 2.0 * width, 3, groups=2.0 * width, bias=True, name="depthwise")
        gated = tape.multiply(tape.activate(replace(y, channels=width), special=1.0), "gate")
        return tape.linear(gated, x.channels, False, "down")


def _text(tape: Tape, net: Network, sizes: Sizes, width: int) -> Rows:
    """The encoder's states through two projections (and a norm in Sana)."""
    rows = mlp(tape, tape.rows(sizes["text_tokens"], net.option("text_dim")), width, width, name="text")
    return tape.norm(rows, "rms", name="text_norm") if net.option("text_norm") else rows


def _cross_transformer(
    tape: Tape, net: Network, sizes: Sizes, layer: Callable[[Map, Rows], Callable[[Rows], Rows]]
) -> None:
    width = net.option("width")
    x, grid = patchify(tape, net, sizes, width)
    with tape.scope("condition"):
        timestep(tape, width)
        for index in range(net.option("size_embeddings", 0)):
            mlp(tape, one_row(tape, 256), width / 3, width / 3, name=f"size{min(index, 1)}")
        tape.linear(one_row(tape, width), 6 * width, name="modulation")
        text = _text(tape, net, sizes, width)
    x = tape.repeat(net.option("depth"), layer(grid, text), x)
    with tape.scope("final"):
        tape.count("modulation", 2.0 * width)
        unpatchify(tape, net, modulate(tape, x))


@family("cross_dit")
def cross_dit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Transformers over latents that attend to text: PixArt-α (Chen et al. 2024), Sana (Xie et al. 2025: linear attention,
    convolutional feed-forward part), Wan (Wan team 2025), LTX-Video (HaCohen et al. 2024).

    Options: those of the patches; ``depth``, ``width``, ``heads``, ``feed``, ``conv_feed``, ``attention`` (``linear``),
    ``cross_heads``, ``cross_norm``, ``qk_norm`` over the whole width, ``rope``, ``text_dim``, ``text_norm``,
    ``size_embeddings`` (conditions on the picture's size).
    """
    _cross_transformer(tape, net, sizes, lambda grid, text: _CrossLayer(tape, net, grid, text))


@family("stdit")
def stdit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Open-Sora's transformer (Zheng et al. 2024): each layer is one over the positions of a frame and one over the frames
    of a position.

    Options: as ``cross_dit``.
    """

    def layer(grid: Map, text: Rows) -> Callable[[Rows], Rows]:
        def pair(x: Rows) -> Rows:
            space = replace(x, batch=x.batch * grid.depth, length=grid.height * grid.width)
            time = replace(x, batch=x.batch * grid.height * grid.width, length=grid.depth)
            for name, rows in (("spatial", space), ("temporal", time)):
                with tape.scope(name):
                    _axis_layer(tape, net, x, rows, text)
            return x

        return pair

    _cross_transformer(tape, net, sizes, layer)


def _axis_layer(tape: Tape, net: Network, x: Rows, axis: Rows, text: Rows) -> None:
    heads = net.option("heads")
    tape.count("modulation", 6.0 * x.channels)
    modulate(tape, x)
    tape.move(x, name="transpose")
    y = attention(tape, axis, heads, qk_norm=net.option("qk_norm", ""), rope=axis.length is not x.length)
    tape.add(tape.scale(y))
    tape.add(attention(tape, x, heads, context=text, name="cross"))
    tape.add(tape.scale(feed_forward(tape, modulate(tape, x), 4.0 * x.channels)))
