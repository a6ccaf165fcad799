"""Autoencoders between pixels and latents: those of Stable Diffusion, FLUX and the video models, and DC-AE."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ridgepoint.models.networks.families.diffusion_transformers import mix_feed
from ridgepoint.models.networks.families.tokens import attention
from ridgepoint.models.networks.families.unet import latent
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


@dataclass(frozen=True)
class _Coder:
    tape: Tape
    net: Network

    @property
    def volume(self) -> bool:
        return bool(self.net.option("volume", False))

    def conv(self, x: Map, out: Num, kernel: int, name: str) -> Map:
        if self.volume and kernel > 1 and self.net.option("separable") and name.startswith("conv"):
            y = self.tape.conv3d(x, x.channels, (kernel, kernel, kernel), groups=x.channels, name=f"{name}_depthwise")
            return self.tape.conv3d(y, out, (1, 1, 1), name=f"{name}_pointwise")
        if self.volume:
            return self.tape.conv3d(x, out, (kernel, kernel, kernel), name=name)
        return self.tape.conv(x, out, kernel, bias=True, name=name)

    def norm(self, x: Map, name: str) -> None:
        """A norm and its activation; CogVideoX scales and shifts by the latents at every position."""
        tape, kind = self.tape, self.net.option("norm", "group")
        tape.norm(x, kind, name=name)
        if self.net.option("latent_norm"):
            latents = replace(x, channels=float(self.net.option("latent_channels")))
            for what in ("scale", "shift"):
                tape.conv3d(latents, x.channels, (1, 1, 1), name=f"{name}_{what}")
            tape.multiply(x)
        tape.activate(x, special=1.0)

    def resnet(self, x: Map, out: int) -> Map:
        tape = self.tape
        with tape.scope("resnet"):
            self.norm(x, "norm1")
            y = self.conv(x, out, 3, "conv1")
            self.norm(y, "norm2")
            y = self.conv(y, out, 3, "conv2")
            if x.channels != out:
                self.conv(x, out, 1, "shortcut")
            y = tape.add(y)
            if self.net.option("temporal"):
                for index in (1, 2):
                    tape.activate(tape.norm(y, "group", name=f"time_norm{index}"), special=1.0)
                    tape.conv3d(y, out, (3, 1, 1), name=f"time_conv{index}")
                tape.count("mix", 1.0)
                tape.add(y)
        return y

    def middle(self, x: Map) -> Map:
        c = int(x.channels)
        with self.tape.scope("middle"):
            x = self.resnet(x, c)
            if self.net.option("attention", "frame") != "none":
                self.tape.norm(x, self.net.option("norm", "group"), name="attention_norm")
                joint = self.net.option("attention", "frame") == "joint"
                rows = self.tape.to_rows(x)
                if not joint:
                    rows = Rows(x.batch * x.depth, x.height * x.width, x.channels)
                self.tape.add(attention(self.tape, rows, 1))
            for _ in range(self.net.option("middle", 2) - 1):
                x = self.resnet(x, c)
            return x

    def enlarge(self, x: Map, level: int) -> Map:
        """Twice as large, in time too at ``time_levels`` (the first frame stays one)."""
        tape, net = self.tape, self.net
        halves = bool(net.option("halving"))
        if level in net.option("time_levels", ()):
            if halves:
                tape.conv3d(x, 2.0 * x.channels, (3, 1, 1), name="time_conv")
            x = replace(x, depth=2.0 * x.depth - 1.0)
        x = replace(x, height=2.0 * x.height, width=2.0 * x.width)
        tape.move(x, name="upsample")
        out = x.channels / 2.0 if halves else x.channels
        if net.option("upsample", "own") == "image":
            return tape.conv(x, out, 3, bias=True, name="upsample_conv")
        return self.conv(x, out, 3, "upsample_conv")


@family("autoencoder")
def autoencoder(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Convolutional autoencoders (Rombach et al. 2022) and their 3-D forms (CogVideoX, HunyuanVideo, Wan).

    Options: ``parts`` (``decoder``, ``encoder``), ``channels`` per level, ``layers`` per level of the encoder (one more in
    the decoder), ``latent_channels``, ``quant`` (1 × 1 convolutions at the latents), ``volume`` (3-D convolutions),
    ``time_levels`` that double the frames, ``attention`` of the middle (``frame``, ``joint`` over frames, ``none``),
    ``norm``, ``latent_norm``, ``upsample`` (``image``: 2-D), ``halving`` (upsampling halves the channels), ``temporal``,
    ``separable`` (3-D convolutions as depthwise and pointwise ones: Turbo-VAED, Zou et al. 2025), ``wavelet`` (the last
    doubling of all three sides is an inverse Haar transform: WF-VAE, Li et al. 2025).
    """
    coder, parts = _Coder(tape, net), net.option("parts", ("decoder",))
    if "encoder" in parts:
        with tape.scope("encoder"):
            _encode(coder, sizes)
    if "decoder" in parts:
        with tape.scope("decoder"):
            _decode(coder, sizes)


def _decode(coder: _Coder, sizes: Sizes) -> None:
    tape, net = coder.tape, coder.net
    height, width = latent(sizes)
    frames, wavelet = sizes.get("frames", 1.0), int(net.option("wavelet", False))
    if coder.volume:
        frames = (frames - 1.0) / 2.0 ** (len(net.option("time_levels")) + wavelet) + 1.0
    channels, resnets = net.option("channels"), net.option("layers", 2) + 1
    x = tape.image(net.option("latent_channels", 4), height, width, frames)
    if net.option("quant"):
        x = coder.conv(x, x.channels, 1, "post_quant")
    x = coder.middle(coder.conv(x, channels[-1], 3, "conv_in"))
    for index, out in enumerate(reversed(channels)):
        with tape.scope(f"up{index}"):
            for _ in range(resnets):
                x = coder.resnet(x, out)
            if index + 1 < len(channels):
                x = coder.enlarge(x, index)
    coder.norm(x, "norm_out")
    x = coder.conv(x, 24 if wavelet else 3, 3, "conv_out")
    if wavelet:
        tape.move(x, name="inverse_wavelet")
    if net.option("temporal"):
        tape.conv3d(x, 3, (3, 1, 1), name="time_conv_out")


def _encode(coder: _Coder, sizes: Sizes) -> None:
    tape, net = coder.tape, coder.net
    pixels = sizes["image_px"]
    channels = net.option("channels")
    x = coder.conv(tape.image(3, pixels, pixels * sizes.get("aspect", 1.0)), channels[0], 3, "conv_in")
    for index, out in enumerate(channels):
        with tape.scope(f"down{index}"):
            for _ in range(net.option("layers", 2)):
                x = coder.resnet(x, out)
            if index + 1 < len(channels):
                x = tape.conv(x, out, 3, 2, bias=True, name="downsample")
    x = coder.middle(x)
    coder.norm(x, "norm_out")
    x = coder.conv(x, 2 * net.option("latent_channels", 4), 3, "conv_out")
    if net.option("quant"):
        coder.conv(x, x.channels, 1, "quant")


@family("mochi_decoder")
def mochi_decoder(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Mochi 1's video decoder (Genmo 2024): 3-D residual blocks; a projection makes the new frames and pixels of a level.

    Options: ``channels`` and ``layers`` per level from the latents on, ``time`` factors of the levels, ``ends`` resnets before
    and after them.
    """
    height, width = latent(sizes)
    coder, channels, times = _Coder(tape, net), net.option("channels"), net.option("time")
    depth = (sizes["frames"] - 1.0) / 6.0 + 1.0
    x = tape.image(net.option("latent_channels", 12), height, width, depth)
    x = coder.conv(x, channels[0], 1, "conv_in")
    counts = (net.option("ends", 3), *net.option("layers"), net.option("ends", 3))
    for index, count in enumerate(counts):
        with tape.scope(f"level{index}"):
            x = tape.repeat(count, lambda y: coder.resnet(y, int(y.channels)), x)
            if not 0 < index < len(counts) - 1:
                continue
            out, time = channels[index], times[index - 1]
            tape.linear(tape.to_rows(x), out * time * 4, name="expand")
            x = Map(x.batch, float(out), 2.0 * x.height, 2.0 * x.width, x.depth * time)
            tape.move(x, name="unfold")
    tape.linear(tape.to_rows(tape.activate(x, special=1.0)), 3, name="output")


@family("dc_ae_decoder")
def dc_ae_decoder(tape: Tape, net: Network, sizes: Sizes) -> None:
    """The decoder of the deep compression autoencoder (Chen et al. 2025): EfficientViT blocks at the small levels.

    Options: ``channels`` and ``layers`` per level from the pixels, ``linear`` levels with attention, ``latent_channels``.
    """
    channels, layers, linear = net.option("channels"), net.option("layers"), net.option("linear")
    size = sizes["image_px"] / 2.0 ** (len(channels) - 1)
    x = tape.image(net.option("latent_channels", 32), size, size)
    x = tape.add(tape.conv(x, channels[-1], 3, bias=True, name="conv_in"))
    for level in reversed(range(len(channels))):
        out = channels[level]
        with tape.scope(f"level{level}"):
            if level + 1 < len(channels):
                x = replace(x, height=2.0 * x.height, width=2.0 * x.width)
                tape.move(x, name="upsample")
                x = tape.add(tape.conv(x, out, 3, bias=True, name="upsample_conv"))
            x = tape.repeat(layers[level], lambda y, deep=level in linear: _dc_block(tape, y, deep), x)  # type: ignore[misc]
    tape.activate(tape.norm(x, "rms", name="norm_out"))
    tape.count("norm_out", x.channels)
    tape.conv(x, 3, 3, bias=True, name="conv_out")


def _dc_block(tape: Tape, x: Map, deep: bool) -> Map:
    c = x.channels
    if not deep:
        y = tape.activate(tape.conv(x, c, 3, bias=True, name="conv1"), special=1.0)
        y = tape.norm(tape.conv(y, c, 3, name="conv2"), "rms")
        tape.count("norm", c)
        return tape.add(y)
    with tape.scope("attention"):
        qkv = tape.conv(x, 3.0 * c, 1, name="qkv")
        wide = tape.conv(qkv, 3.0 * c, 5, groups=3.0 * c, name="multiscale")
        tape.conv(wide, 3.0 * c, 1, groups=3.0 * c / 32.0, name="multiscale_mix")
        heads = 2.0 * c / 32.0
        tape.activate(replace(x, channels=4.0 * c), name="features")
        tape.matmul(33.0, 32.0, x.positions, x.batch * heads, "key_value")
        tape.matmul(x.positions, 33.0, 32.0, x.batch * heads, "values")
        tape.conv(tape.scale(replace(x, channels=2.0 * c), name="normalise"), c, 1, name="output")
        tape.norm(x, "rms")
        tape.count("norm", c)
    tape.add(x)
    mix_feed(tape, tape.to_rows(x), x, 4.0 * c)
    tape.norm(x, "rms", name="feed_norm")
    tape.count("feed_norm", c)
    return tape.add(x)
