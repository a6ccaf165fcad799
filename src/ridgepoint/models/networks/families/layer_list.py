"""Networks written down layer by layer: GoogLeNet, ShuffleNet, SSD and YOLO variants of small devices, BlazeFace."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ridgepoint.models.networks.families.convolutions import classifier, concatenate
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Map
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


@family("layer_list")
def layer_list(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Any convolutional network as a list of words; norms are merged into the convolutions, as inference runs them.

    Option ``layers``: texts of words, and (count, text) for a block that repeats and keeps its shape.

    - ``c64k3s2g4q1``: convolution to 64 channels with bias: kernel (1), stride (1), groups (1), padding (half of the
      kernel); ``d3s2``: depthwise with kernel 3; both activate unless a ``-`` follows. ``t64k4s2g64``: transposed.
    - ``p3s2``: pool, its last window cut off at the border; with padding ``q1`` the last window is whole. ``u2``: enlarge,
      ``v2``: shrink by interpolation. ``f1000``: mean over positions and projection. ``r`` activate, ``n`` normalise over
      neighbouring channels, ``x`` shuffle channels, ``/2`` take half of the channels,
      ``w28`` widen to 28 channels with zeros.
    - ``=a`` remember as a, ``@a`` go on from a, ``+a`` add a, ``&a`` append a's channels.
    """
    play = _Player(tape, {})
    x = tape.image(3, sizes["image_px"], sizes["image_px"])
    for index, part in enumerate(net.option("layers")):
        with tape.scope(f"part{index}"):
            x = play(part, x) if isinstance(part, str) else tape.repeat(part[0], partial(play, part[1]), x)


@dataclass(frozen=True)
class _Player:
    tape: Tape
    kept: dict[str, Map]

    def __call__(self, text: str, x: Map) -> Map:
        for index, word in enumerate(text.split()):
            x = self._one(word, x, f"{index}_{word}")
        return x

    def _one(self, word: str, x: Map, name: str) -> Map:
        tape, kind = self.tape, word[0]
        if kind in "=@+&":
            return self._join(kind, word[1:], x, name)
        n = numbers(word)
        if kind in "cd":
            channels, kernel = (n["c"], n.get("k", 1)) if kind == "c" else (x.channels, n["d"])
            groups: Num = n.get("g", 1) if kind == "c" else x.channels
            y = tape.conv(x, channels, kernel, n.get("s", 1), groups, bias=True, pad=n.get("q"), name=name)
            return y if word.endswith("-") else tape.activate(y, name=f"{name}_act")
        if kind == "t":
            # Every input position meets every weight once; overlapping results are summed as the map is enlarged.
            tape.conv(x, n["t"] * n["k"] ** 2, 1, groups=n.get("g", 1), name=name)
            return _resized(tape, replace(x, channels=float(n["t"])), float(n["s"]), name)
        if kind == "p":
            return _pool(tape, x, n["p"], n.get("s", 1), n.get("q"), name)
        if kind in "uv":
            return _resized(tape, x, float(n["u"]) if kind == "u" else 1.0 / n["v"], name)
        if kind == "f":
            classifier(tape, x, n["f"])
            return x
        if kind == "w":
            return concatenate(tape, x, n["w"], name)
        if kind == "/":
            return replace(x, channels=x.channels / 2.0)
        if kind == "r":
            return tape.activate(x, name=name)
        return tape.scale(x, name) if kind == "n" else tape.move(x, name=name)

    def _join(self, kind: str, name: str, x: Map, label: str) -> Map:
        if kind == "=":
            self.kept[name] = x
            return x
        other = self.kept[name]
        if kind == "@":
            return other
        return self.tape.add(x, label) if kind == "+" else concatenate(self.tape, x, x.channels + other.channels, label)


def numbers(word: str) -> dict[str, int]:
    """The numbers of a word by their letters.

    >>> numbers("c64k3s2-")
    {'c': 64, 'k': 3, 's': 2}
    """
    return {letter: int(digits) for letter, digits in re.findall(r"([a-z])(\d+)", word)}


def _pool(tape: Tape, x: Map, kernel: int, stride: int, pad: int | None, name: str) -> Map:
    y = tape.pool(x, kernel, stride, pad or 0, name)
    if pad is not None:
        return y
    height, width = (np.ceil((side - kernel) / stride) + 1.0 for side in (x.height, x.width))
    return replace(y, height=height, width=width)


def _resized(tape: Tape, x: Map, factor: float, name: str) -> Map:
    tape.move(x, x.values * factor * factor, f"{name}_resize")
    return replace(x, height=x.height * factor, width=x.width * factor)
