"""SGLang's guess of how much of the outputs of running requests is still to come, by which it admits others.

It begins high, decays with every decode step, and is set anew when sequences had to be put back.
"""

from __future__ import annotations

from collections.abc import Iterable

from ridgepoint.serving.sequences import Active, Decoding

START, END, STEPS = 0.7, 0.098, 600
"""Part of an output that is counted: where it starts, where it decays to, in how many decode steps."""
CLIPPED = 4096
"""Output tokens that it counts at most for a request it admits."""
BEYOND = 20.0
"""Tokens per sequence that it expects beyond those made when it sets itself anew."""


class Guess:
    """The part of outputs that is kept free."""

    __slots__ = ("ratio",)

    def __init__(self) -> None:
        self.ratio = START

    def pass_steps(self, steps: int) -> None:
        """``steps`` decode steps went by."""
        self.ratio = max(END, self.ratio - steps * (START - END) / STEPS)

    def learn(self, decoding: Decoding) -> None:
        """Sequences were put back: what the others' outputs took so far and 20 tokens each, over what they take in all."""
        tick, members = decoding.tick, decoding.members.values()
        made, left = sum(tick - one.since for one in members), sum(one.end - tick for one in members)
        self.ratio = min(1.0, (made + BEYOND * len(members)) / (made + left + 1.0))

    def promised(self, one: Active, decoding: Decoding, reading: Iterable[Active]) -> float:
        """Tokens that must stay free beside what ``one`` takes."""
        left = decoding.ends_sum - len(decoding) * decoding.tick + sum(other.left for other in reading)
        return self.ratio * left + min(one.left, CLIPPED)
