"""U-Nets that denoise latents: Stable Diffusion 1, 2 and XL, with temporal layers for video."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ridgepoint.models.networks.families.tokens import attention, feed_forward, mlp, one_row
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


def latent(sizes: Sizes, factor: float = 8.0) -> tuple[Num, Num]:
    """Height and width of the latents; ``aspect`` is the picture's width over its height."""
    height = sizes["image_px"] / factor
    return height, np.round(height * sizes.get("aspect", 1.0))


@dataclass(frozen=True)
class _Unet:
    tape: Tape
    net: Network
    text: Rows
    temporal: str
    embedding: float

    def resnet(self, x: Map, out: int) -> Map:
        """Two convolutions with the timestep's embedding between them; in space-time nets also along the frames."""
        tape = self.tape
        with tape.scope("resnet"):
            tape.activate(tape.norm(x, "group", name="norm1"), special=1.0)
            y = tape.conv(x, out, 3, bias=True, name="conv1")
            tape.linear(one_row(tape, self.embedding), out, name="time")
            tape.activate(tape.norm(tape.add(y), "group", name="norm2"), special=1.0)
            y = tape.conv(y, out, 3, bias=True, name="conv2")
            if x.channels != out:
                tape.conv(x, out, 1, bias=True, name="shortcut")
            y = tape.add(y)
        if self.temporal == "space_time":
            with tape.scope("temporal_resnet"):
                tape.activate(tape.norm(y, "group", name="norm1"), special=1.0)
                tape.conv3d(y, out, (3, 1, 1), name="conv1")
                tape.linear(Rows(tape.batch, x.depth, self.embedding), out, name="time")
                tape.activate(tape.norm(tape.add(y), "group", name="norm2"), special=1.0)
                tape.conv3d(y, out, (3, 1, 1), name="conv2")
                tape.count("mix", 1.0)
                y = tape.add(y)
        return y

    def transformer(self, x: Map, depth: int) -> Map:
        """``depth`` layers over the positions of each frame, then (for video) over the frames of each position."""
        tape, c = self.tape, int(x.channels)
        heads = self.net.option("heads") or c // self.net.option("head_dim")
        rows = Rows(x.batch * x.depth, x.height * x.width, x.channels)
        with tape.scope("transformer"):
            tape.norm(x, "group")
            rows = tape.linear(rows, c, name="proj_in")
            rows = tape.repeat(depth, lambda r: _layer(tape, r, heads, self.context(r.batch)), rows)
            if self.temporal == "space_time":
                self.over_time(x, heads, depth)
            tape.linear(rows, c, name="proj_out")
            tape.add(x)
        return x

    def context(self, batch: Num) -> Rows:
        return replace(self.text, batch=batch)

    def over_time(self, x: Map, heads: int, depth: int) -> None:
        """Stable Video Diffusion: layers along the frames, with a frame embedding and a learned mix."""
        tape, c = self.tape, int(x.channels)
        rows = Rows(x.batch * x.height * x.width, x.depth, x.channels)
        with tape.scope("temporal"):
            mlp(tape, Rows(x.batch, x.depth, x.channels), 4 * c, c, name="frame_embedding")
            tape.count("mix", 1.0)
            tape.move(x, name="transpose")

            def layer(r: Rows) -> Rows:
                tape.add(feed_forward_geglu(tape, tape.norm(r, "layer", name="norm_in"), "feed_in"))
                return _layer(tape, r, heads, self.context(r.batch))

            tape.repeat(depth, layer, rows)

    def motion(self, x: Map) -> Map:
        """AnimateDiff's module: one layer with two attentions along the frames."""
        if self.temporal != "motion":
            return x
        tape, c = self.tape, int(x.channels)
        rows = Rows(x.batch * x.height * x.width, x.depth, x.channels)
        with tape.scope("motion"):
            tape.norm(x, "group")
            tape.move(x, name="transpose")
            rows = tape.linear(rows, c, name="proj_in")
            for index in (1, 2):
                y = attention(tape, tape.norm(rows, "layer", name="norm"), 8, bias=False, name=f"attention{index}")
                rows = tape.add(y)
            rows = tape.add(feed_forward_geglu(tape, tape.norm(rows, "layer", name="norm")))
            tape.linear(rows, c, name="proj_out")
        return tape.add(x)

    def stage(self, x: Map, out: int, depth: int) -> Map:
        x = self.resnet(x, out)
        if depth:
            x = self.transformer(x, depth)
        return self.motion(x)


def feed_forward_geglu(tape: Tape, x: Rows, name: str = "feed") -> Rows:
    """The gated feed-forward part of latent diffusion, four times as wide as its input."""
    return feed_forward(tape, x, 4.0 * x.channels, gated=True, name=name)


def _layer(tape: Tape, x: Rows, heads: int, text: Rows) -> Rows:
    x = tape.add(attention(tape, tape.norm(x, "layer", name="norm1"), heads, bias=False, name="self"))
    if not text.channels:
        return tape.add(feed_forward_geglu(tape, tape.norm(x, "layer", name="norm3")))
    x = tape.add(attention(tape, tape.norm(x, "layer", name="norm2"), heads, context=text, bias=False, name="cross"))
    return tape.add(feed_forward_geglu(tape, tape.norm(x, "layer", name="norm3")))


@family("unet_diffusion")
def unet_diffusion(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Latent diffusion's U-Net (Rombach et al. 2022; SDXL: Podell et al. 2023).

    Options: ``channels`` per level, ``layers`` resnets per level, ``transformers`` layers at each level, ``middle`` layers
    in the middle, ``heads`` or ``head_dim``, ``text_dim`` (0: no attention to text), ``in_channels``, ``added`` width of
    pooled conditions (SDXL), ``temporal``: ``space_time`` (Stable Video Diffusion, Blattmann et al. 2023) or ``motion``
    (AnimateDiff, Guo et al. 2023), ``motion_middle``.
    """
    height, width = latent(sizes)
    channels, layers = net.option("channels"), net.option("layers", 2)
    embedding = 4.0 * channels[0]
    text = tape.rows(sizes.get("text_tokens", 77.0), net.option("text_dim"))
    unet = _Unet(tape, net, text, net.option("temporal", ""), embedding)
    x = tape.image(net.option("in_channels", 4), height, width, sizes.get("frames", 1.0))
    with tape.scope("embed"):
        mlp(tape, one_row(tape, channels[0]), embedding, embedding, name="time")
        if net.option("added"):
            mlp(tape, one_row(tape, net.option("added")), embedding, embedding, name="added")
    x = tape.conv(x, channels[0], 3, bias=True, name="conv_in")
    x, skips = _down(unet, x, channels, layers)
    with tape.scope("middle"):
        x = unet.resnet(x, channels[-1])
        x = unet.transformer(x, net.option("middle", 1))
        if net.option("motion_middle"):
            x = unet.motion(x)
        x = unet.resnet(x, channels[-1])
    x = _up(unet, x, skips, channels, layers)
    tape.activate(tape.norm(x, "group", name="norm_out"), special=1.0)
    tape.conv(x, net.option("out_channels", 4), 3, bias=True, name="conv_out")


def _down(unet: _Unet, x: Map, channels: tuple[int, ...], layers: int) -> tuple[Map, list[Map]]:
    skips = [x]
    for level, out in enumerate(channels):
        with unet.tape.scope(f"down{level}"):
            for _ in range(layers):
                x = unet.stage(x, out, unet.net.option("transformers")[level])
                skips.append(x)
            if level + 1 < len(channels):
                x = unet.tape.conv(x, out, 3, 2, bias=True, name="downsample")
                skips.append(x)
    return x, skips


def _up(unet: _Unet, x: Map, skips: list[Map], channels: tuple[int, ...], layers: int) -> Map:
    tape = unet.tape
    for level in reversed(range(len(channels))):
        with tape.scope(f"up{level}"):
            for _ in range(layers + 1):
                joined = replace(x, channels=x.channels + skips.pop().channels)
                x = unet.stage(
                    tape.move(joined, name="concat"), channels[level], unet.net.option("transformers")[level]
                )
            if level:
                above = replace(x, height=skips[-1].height, width=skips[-1].width)
                tape.move(x, above.values, "upsample")
                x = tape.conv(above, channels[level], 3, bias=True, name="upsample_conv")
    return x
