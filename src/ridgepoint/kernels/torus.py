"""Groups of ranks on a torus: how many ports they have, and what they can move over them (for ``groups.py``).

Devices fill a slice of the most equal sides, ranks run along its first side first. Ranks with a stride lie along the sides
that their span covers: m_j of them along side j, with g_j groups side by side on the same ring. A device has two ports along
each of the k dimensions, each 1/2k of its bandwidth; both serve a group that goes round a whole ring, one serves a piece of
it or a side that is too short to be closed.

With r_j = ports/(2k·g_j), the part of the bandwidth along side j:

    all_gather, reduce_scatter   b/n · max over sets S of sides of (Π_S m − 1) / Σ_S r
    all_reduce                   twice that
    all_to_all                   b · max_j ⌊m²/4⌋/m / r_j     the mean hops on a ring; what crosses the middle of a line
    send_recv                    b over one port

The first is exact: a buffer cut into parts that go through the sides in different orders loads side j with any amounts whose
sums over a set S are at least (Π_S m − 1)·b/n; of these the best fill all sides for equally long.

Sources: Sack and Gropp 2015 (collectives on tori), Dally and Towles 2004, ch. 3 (loads of uniform traffic), Jouppi et al. 2023
(slices of TPU v4), Austin et al. 2025 (which sides of a slice are closed).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import prod

import numpy as np

from ridgepoint.machines.description import Link
from ridgepoint.numeric import Num, plain

DIMENSIONS = 2
"""Of a torus whose sheet does not say."""


@cache
def sides(devices: int, dimensions: int) -> tuple[int, ...]:
    """The slice of so many devices whose sides are most equal, longest first.

    >>> sides(256, 2), sides(128, 3), sides(64, 3), sides(8, 2), sides(6, 1)
    ((16, 16), (8, 4, 4), (4, 4, 4), (4, 2), (6,))
    """
    if dimensions == 1:
        return (devices,)
    found = (
        tuple(sorted((side, *sides(devices // side, dimensions - 1)), reverse=True))
        for side in range(1, devices + 1)
        if devices % side == 0
    )
    return min(found, key=lambda one: (max(one), sum(one)))


@dataclass(frozen=True)
class Torus:
    """A group on a torus, one value per side: ``ranks`` along it, ``ports`` that serve it, groups ``beside`` it."""

    ranks: tuple[Num, ...]
    ports: tuple[Num, ...]
    beside: tuple[Num, ...]

    @property
    def _rates(self) -> list[Num]:
        """The part of a device's bandwidth along each side."""
        both = 2.0 * len(self.ranks)
        return [ports / (both * beside) for ports, beside in zip(self.ports, self.beside, strict=True)]

    @property
    def ring_share(self) -> Num:
        """The bandwidth that gathers over (n − 1)/n of the bytes see, over the device's.

        >>> link = Link(label="", scope="node", bandwidth="1 GB/s", topology="torus", dimensions=3)
        >>> group_on(link, 64, 64.0, 1.0).ring_share, group_on(link, 64, 4.0, 4.0).ring_share
        (1.0, 0.3333333333333333)
        """
        rates = self._rates
        longest: Num = 0.0
        for some in _subsets(range(len(rates))):
            moved = prod((self.ranks[j] for j in some), start=1.0) - 1.0
            rate = sum((rates[j] for j in some), 0.0)
            longest = np.maximum(longest, moved / np.maximum(rate, _TINY))
        return _over(prod(self.ranks, start=1.0) - 1.0, longest)

    @property
    def exchange_share(self) -> Num:
        """The bandwidth that exchanges of (n − 1)/n of the bytes see: every message takes some of each hop."""
        longest: Num = 0.0
        for m, rate in zip(self.ranks, self._rates, strict=True):
            longest = np.maximum(longest, np.floor(m * m / 4.0) / m / np.maximum(rate, _TINY))
        n = prod(self.ranks, start=1.0)
        return _over((n - 1.0) / n, longest)

    @property
    def pair_share(self) -> Num:
        """The bandwidth of one message to the next rank: one port, shared with the groups that lie between."""
        between: Num = 1.0
        for m, beside in zip(self.ranks, self.beside, strict=True):
            between = np.maximum(between, np.where(np.asarray(m) > 1.0, beside, 1.0))
        return plain(1.0 / (2.0 * len(self.ranks) * between))

    @property
    def hops(self) -> Num:
        """Steps of one pass through all sides, one after the other."""
        return sum((m - 1.0 for m in self.ranks), 0.0)


_TINY = 1e-30


def _over(moved: Num, longest: Num) -> Num:
    """Bytes over the seconds that they take; 1 where nothing moves."""
    return plain(np.where(np.asarray(longest) > 0.0, moved / np.maximum(longest, _TINY), 1.0))


def _subsets(of: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return (some for size in range(1, len(of) + 1) for some in combinations(of, size))


def group_on(link: Link, devices: int, ranks: Num, stride: Num) -> Torus:
    """The group of ``ranks`` with ``stride`` on a slice of ``devices``."""
    inner = 1.0
    along: list[Num] = []
    ports: list[Num] = []
    beside: list[Num] = []
    for side in sides(devices, link.dimensions or DIMENSIONS):
        start, end = np.maximum(stride, inner), np.minimum(stride * ranks, inner * side)
        here = np.maximum(end / start, 1.0)
        closed = side > 2 and side % (link.closes or 1) == 0
        round_it = closed & (here * start / inner >= side)
        along.append(plain(here))
        ports.append(plain(np.where(here > 1.0, np.where(round_it, 2.0, 1.0), 0.0)))
        # Of groups with a stride within a side, those between its ranks send over the same links.
        beside.append(plain(np.where(here > 1.0, start / inner, 1.0)))
        inner *= side
    return Torus(tuple(along), tuple(ports), tuple(beside))
