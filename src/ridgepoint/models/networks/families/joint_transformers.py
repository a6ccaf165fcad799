"""Diffusion transformers in which text and picture attend to each other: SD3, FLUX, HunyuanVideo, CogVideoX, Mochi."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ridgepoint.models.networks.families.diffusion_transformers import modulate, patchify, timestep, unpatchify
from ridgepoint.models.networks.families.tokens import attention, feed_forward, head_norm, mlp, one_row
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape


@dataclass(frozen=True)
class _Joint:
    """Layers over two streams, each with weights of its own, that attend to the pieces of both."""

    tape: Tape
    net: Network
    picture: Rows
    text: Rows

    @property
    def heads(self) -> int:
        return int(self.net.option("heads"))

    @property
    def head_dim(self) -> int:
        return int(self.net.option("head_dim", 64))

    @property
    def inner(self) -> float:
        return float(self.heads * self.head_dim)

    def stream(self, x: Rows, modulations: int, name: str) -> None:
        """Modulation, norm, projections to queries, keys and values."""
        tape, bias = self.tape, bool(self.net.option("bias", True))
        with tape.scope(name):
            tape.linear(one_row(tape, self.inner), modulations * x.channels, name="modulation")
            modulate(tape, x)
            tape.linear(x, 3.0 * self.inner, bias, "qkv")
            if self.net.option("qk_norm"):
                for what in ("query_norm", "key_norm"):
                    head_norm(tape, x, self.heads, self.head_dim, self.net.option("qk_norm"), what)
            if self.net.option("rope"):
                tape.scale(replace(x, channels=2.0 * self.inner), name="rotary")

    def leave(self, x: Rows, name: str, feed: float) -> None:
        """Output projection and feed-forward part of one stream."""
        tape = self.tape
        with tape.scope(name):
            tape.linear(replace(x, channels=self.inner), x.channels, name="output")
            tape.add(tape.scale(x, name="gate"))
            gated = bool(self.net.option("gated", False))
            feed_forward(tape, modulate(tape, x), feed, gated=gated, bias=not gated)
            tape.add(tape.scale(x, name="gate"))

    def attend(self) -> None:
        whole = replace(self.picture, length=self.picture.length + self.text.length, channels=self.inner)
        self.tape.attend(whole, whole, self.heads, self.head_dim)

    def double(self, x: Rows, dual: bool = False, last: bool = False) -> Rows:
        """A layer with two streams; ``dual``: the picture also attends to itself; ``last``: the text ends here."""
        tape, net = self.tape, self.net
        every = 4 if gated_norms(net) else 6
        with tape.scope("double"):
            self.stream(self.picture, 9 if dual else every, "picture")
            self.stream(self.text, (1 if gated_norms(net) else 2) if last else every, "text")
            self.attend()
            if dual:
                y = attention(tape, self.picture, self.heads, qk_norm=net.option("qk_norm", ""), name="own")
                tape.add(tape.scale(y))
            self.leave(self.picture, "picture", net.option("feed", 4.0 * self.picture.channels))
            if not last:
                self.leave(self.text, "text", net.option("text_feed", 4.0 * self.text.channels))
        return x

    def single(self, x: Rows) -> Rows:
        """A layer over the joined stream: attention and feed-forward part side by side from one norm."""
        tape, width = self.tape, self.inner
        with tape.scope("single"):
            self.stream(x, 3, "joined")
            feed = float(self.net.option("feed", 4.0 * width))
            tape.activate(tape.linear(x, feed, name="up"), special=1.0)
            self.tape.attend(x, x, self.heads, self.head_dim)
            tape.linear(replace(x, channels=width + feed), width, name="down")
            return tape.add(tape.scale(x, name="gate"))


def gated_norms(net: Network) -> bool:
    """Mochi modulates by scales and gates alone, without shifts."""
    return bool(net.option("modulation", "shift") == "gate")


def _finish(tape: Tape, net: Network, x: Rows, affine: bool = False) -> None:
    with tape.scope("final"):
        tape.linear(one_row(tape, x.channels), 2.0 * x.channels, name="modulation")
        unpatchify(tape, net, modulate(tape, x, affine=affine))


def _text(tape: Tape, net: Network, sizes: Sizes, width: float) -> Rows:
    return tape.linear(tape.rows(sizes["text_tokens"], net.option("text_dim", 4096)), width, name="text_embedding")


@family("mmdit")
def mmdit(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Stable Diffusion 3's MMDiT (Esser et al. 2024).

    Options: those of the patches; ``depth``, ``heads``, ``head_dim``, ``dual`` (first layers in which the picture also
    attends to itself, SD3.5 medium), ``qk_norm``, ``text_dim``, ``pooled`` (width of the pooled text).
    """
    width = net.option("heads") * net.option("head_dim", 64)
    x, _ = patchify(tape, net, sizes, width)
    with tape.scope("condition"):
        timestep(tape, width)
        if net.option("pooled"):
            mlp(tape, one_row(tape, net.option("pooled")), width, width, name="pooled")
        if net.option("text_input_norm"):
            tape.norm(tape.rows(sizes["text_tokens"], net.option("text_dim")), "rms", name="text_norm")
        text = _text(tape, net, sizes, width)
    joint, dual = _Joint(tape, net, x, text), net.option("dual", 0)
    last = int(net.option("text_ends", True))
    x = tape.repeat(dual, lambda y: joint.double(y, dual=True), x)
    x = tape.repeat(net.option("depth") - dual - last, joint.double, x)
    if last:
        x = joint.double(x, last=True)
    _finish(tape, net, x)


@family("flux")
def flux(tape: Tape, net: Network, sizes: Sizes) -> None:
    """FLUX.1 (Black Forest Labs 2024) and HunyuanVideo (Kong et al. 2024): layers with two streams, then with one.

    Options: those of the patches; ``double``, ``single`` layers, ``heads``, ``head_dim``, ``qk_norm``, ``rope``,
    ``text_dim``, ``pooled``, ``guided`` (guidance is an input), ``refiner`` layers over the text.
    """
    width = net.option("heads") * net.option("head_dim", 128)
    x, _ = patchify(tape, net, sizes, width)
    with tape.scope("condition"):
        for name in ("time", "guidance")[: 2 if net.option("guided") else 1]:
            timestep(tape, width, name=name)
        mlp(tape, one_row(tape, net.option("pooled", 768)), width, width, name="pooled")
        text = _text(tape, net, sizes, width)
        if net.option("refiner"):
            _refine(tape, net, text)
    joint = _Joint(tape, net, x, text)
    x = tape.repeat(net.option("double"), joint.double, x)
    whole = tape.move(replace(x, length=x.length + text.length), name="concat")
    tape.repeat(net.option("single"), joint.single, whole)
    _finish(tape, net, x)


def _refine(tape: Tape, net: Network, text: Rows) -> None:
    """HunyuanVideo's token refiner: layers over the text, modulated by the timestep and the mean text."""
    width = int(text.channels)

    def layer(x: Rows) -> Rows:
        x = tape.add(attention(tape, tape.norm(x, "layer", name="norm1"), net.option("heads")))
        x = tape.add(feed_forward(tape, tape.norm(x, "layer", name="norm2"), 4 * width))
        tape.linear(one_row(tape, width), 2 * width, name="modulation")
        return tape.scale(x)

    with tape.scope("refiner"):
        timestep(tape, width)
        mlp(tape, one_row(tape, net.option("text_dim")), width, width, name="mean_text")
        tape.repeat(net.option("refiner"), layer, text)


@family("cogvideox")
def cogvideox(tape: Tape, net: Network, sizes: Sizes) -> None:
    """CogVideoX (Yang et al. 2025): one set of weights over text and video, norms modulated for each.

    Options: those of the patches; ``depth``, ``heads``, ``time_width``, ``text_dim``, ``rope``.
    """
    width, time = net.option("heads") * 64, net.option("time_width", 512)
    x, _ = patchify(tape, net, sizes, width)
    with tape.scope("condition"):
        timestep(tape, time, width)
        text = _text(tape, net, sizes, width)
    whole = replace(x, length=x.length + text.length)

    def block(y: Rows) -> Rows:
        with tape.scope("block"):
            for half in ("attention", "feed"):
                tape.linear(one_row(tape, time), 6 * width, name=f"{half}_modulation")
                modulate(tape, y, affine=True, name=f"{half}_norm")
                if half == "attention":
                    attention(tape, y, net.option("heads"), qk_norm="layer", rope=bool(net.option("rope")))
                else:
                    feed_forward(tape, y, 4 * width)
                y = tape.add(tape.scale(y, name="gate"))
            return y

    tape.repeat(net.option("depth"), block, whole)
    with tape.scope("final"):
        tape.norm(whole, "layer", name="norm")
        tape.linear(one_row(tape, time), 2 * width, name="modulation")
        unpatchify(tape, net, modulate(tape, x, affine=True))


@family("mochi")
def mochi(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Mochi 1's AsymmDiT (Genmo 2024): a narrow text stream beside a wide video stream.

    Options: those of the patches; ``depth``, ``heads``, ``head_dim``, ``text_width``, ``text_dim``, ``feed``, ``text_feed``.
    """
    width, narrow = net.option("heads") * net.option("head_dim"), net.option("text_width")
    x, _ = patchify(tape, net, sizes, width)
    with tape.scope("condition"):
        timestep(tape, width)
        caption = tape.rows(sizes["text_tokens"], net.option("text_dim"))
        _pool_text(tape, caption, width)
        text = tape.linear(caption, narrow, name="text_embedding")
    joint = _Joint(tape, net, x, text)
    x = tape.repeat(net.option("depth") - 1, joint.double, x)
    x = joint.double(x, last=True)
    _finish(tape, net, x)


def _pool_text(tape: Tape, text: Rows, out: float) -> None:
    """One vector of the whole text: attention from the mean of it."""
    with tape.scope("pool"):
        tape.linear(text, 2.0 * text.channels, name="key_value")
        query = one_row(tape, text.channels)
        tape.linear(query, text.channels, name="query")
        tape.attend(query, text, 8, text.channels / 8.0)
        tape.linear(query, out, name="output")
