"""The shapes of what flows through a network: feature maps and rows of vectors."""

from __future__ import annotations

from dataclasses import dataclass

from ridgepoint.numeric import Num


@dataclass(frozen=True)
class Map:
    """A feature map: ``batch`` × ``channels`` × ``height`` × ``width`` (× ``depth`` for volumes and frames)."""

    batch: Num
    channels: Num
    height: Num
    width: Num
    depth: Num = 1.0

    @property
    def positions(self) -> Num:
        """Positions of one sample."""
        return self.height * self.width * self.depth

    @property
    def values(self) -> Num:
        """Numbers in it."""
        return self.batch * self.channels * self.positions


@dataclass(frozen=True)
class Rows:
    """Sequences of vectors: ``batch`` × ``length`` rows of ``channels`` (tokens, nodes, edges, pixels)."""

    batch: Num
    length: Num
    channels: Num

    @property
    def rows(self) -> Num:
        """Rows of all sequences."""
        return self.batch * self.length

    @property
    def values(self) -> Num:
        """Numbers in it."""
        return self.rows * self.channels
