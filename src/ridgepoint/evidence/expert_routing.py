"""Which token rows reach the experts of the rank that a collector of fused expert layers times.

Facts about how rows were made, read off aiconfigurator's collector (its ``collector/helper.py``): a synthetic choice of experts
for every token, even or by a power law, whose busiest rank is timed. The same choice is made here, on random numbers of our
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ridgepoint.numeric import Array

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Routed:
    """What reaches the timed rank, per row of a table: expected values over a few fixed draws."""

    counts: tuple[tuple[Counts, ...], ...]
    """Rows of each of its experts, per row of the table and draw."""
    tokens: Array
    """Tokens with at least one such choice."""

    @property
    def rows(self) -> Array:
        """Choices of its experts: token rows of the grouped products."""
        return self._mean(lambda counts: counts.sum())

    @property
    def active(self) -> Array:
        """Its experts that any token chose."""
        return self._mean(lambda counts: (counts > 0).sum())

    @property
    def visited(self) -> Array:
        """Its experts that any token chose in any of the draws, which a harness runs one after the other."""
        return np.array([max(float((np.sum(draws, axis=0) > 0).sum()), 1.0) for draws in self.counts])

    def tiles(self, tile_rows: Array) -> Array:
        """Tiles of so many rows."""
        cells = zip(self.counts, np.asarray(tile_rows), strict=True)
        return np.array([np.mean([np.ceil(counts / rows).sum() for counts in draws]) for draws, rows in cells])

    def with_others(self, choices: Array) -> Routed:
        """The same where each token's choices of other ranks' experts are booked on this rank's first one."""
        moved = []
        for draws, total in zip(self.counts, choices, strict=True):
            missing = [max(round(float(total)) - int(counts.sum()), 0) for counts in draws]
            moved.append(tuple(np.r_[c[0] + more, c[1:]] for c, more in zip(draws, missing, strict=True)))
        return Routed(tuple(moved), self.tokens)

    def _mean(self, of: Callable[[Counts], float]) -> Array:
        return np.array([max(float(np.mean([of(counts) for counts in draws])), 1.0) for draws in self.counts])


def routed(
    tokens: Array, experts: Array, top_k: Array, ranks: Array, alpha: float | None, narrowed: Array | float = 1.0
) -> Routed:
    """The rank's share of ``tokens`` · ``top_k`` choices among ``experts`` on ``ranks`` ranks.

    ``alpha`` None is even routing: token i takes expert i and every (experts / top_k)-th one after it, or fewer tokens spread
    as far. Otherwise rows per expert are drawn from a power law x^−alpha between 1 and 0.8 · tokens (0.01 and 2 when
    there are no more choices than experts), scaled to the total, rounded, and made up to it within each rank. A gate that is
    ``narrowed`` to one in so many groups of experts takes those that it cannot have from the first of all, where choices tie.

    >>> one = routed(np.array([1.0]), np.array([256.0]), np.array([8.0]), np.array([1.0]), 1.2)
    >>> one.rows.item(), one.active.item(), one.tokens.item()
    (8.0, 8.0, 1.0)
    """
    cells = zip(tokens, experts, top_k, ranks, np.broadcast_to(narrowed, tokens.shape), strict=True)
    found = [_cell(*(int(value) for value in cell), alpha) for cell in cells]
    return Routed(tuple(counts for counts, _ in found), np.array([max(reached, 1.0) for _, reached in found]))


@cache
def _cell(
    tokens: int, experts: int, top_k: int, ranks: int, narrowed: int, alpha: float | None
) -> tuple[tuple[Counts, ...], float]:
    """Rows of the rank's experts for each draw, and the mean of the tokens that reach it."""
    local = max(experts // ranks, 1)  # ranks that cannot have equally many have as many as all of them can
    told = list(_choices(tokens, local * ranks, top_k, ranks, narrowed, alpha))
    return tuple(counts[:local] for counts, _ in told), float(np.mean([reached for _, reached in told]))


def _choices(
    tokens: int, experts: int, top_k: int, ranks: int, narrowed: int, alpha: float | None
) -> Iterator[tuple[Counts, int]]:
    """Rows per expert, the busiest rank's first, and the tokens with a choice on that rank, for each draw."""
    local = experts // ranks
    if alpha is None:
        counts, reached = _even(tokens, experts, top_k, local)
        if narrowed > 1:
            counts[experts // narrowed :] = 0
            counts[: top_k - top_k // narrowed] += tokens
            reached = tokens
        yield counts, reached
        return
    for draw in _draws(experts):
        counts = _power_law(tokens, top_k, ranks, alpha, draw)
        yield counts, _reached(counts, tokens, local)


@cache
def _draws(experts: int) -> Array:
    """A number for each expert, five times, as the collector averages five draws."""
    return np.random.default_rng(20).uniform(size=(5, max(experts, 1024)))[:, :experts]


def _even(tokens: int, experts: int, top_k: int, local: int) -> tuple[Counts, int]:
    stride = -(-experts // top_k)
    cycles, rest = divmod(tokens, experts) if tokens >= stride else (0, tokens)
    apart = 1.0 if tokens >= stride else stride / tokens

    def chosen(count: int) -> Counts:
        first = np.arange(count)[:, None] * apart
        return np.asarray((first + np.arange(top_k) * stride) % experts).astype(np.int64)

    counts, reached = np.zeros(experts, dtype=np.int64), 0
    for times, part in ((cycles, chosen(experts if cycles else 0)), (1, chosen(rest))):
        counts += times * np.bincount(part.ravel(), minlength=experts)
        reached += times * int((part < local).any(axis=1).sum())
    return counts, reached


def _power_law(tokens: int, top_k: int, ranks: int, alpha: float, draw: Array) -> Counts:
    total, e = tokens * top_k, 1.0 - alpha
    low, high = (1.0, 0.8 * tokens) if total > len(draw) else (0.01, 2.0)
    drawn = ((high**e - low**e) * draw + low**e) ** (1.0 / e) if high > low else np.ones_like(draw)
    wanted = np.rint(drawn / drawn.sum() * total).astype(np.int64)
    counts = np.minimum(wanted, tokens).reshape(ranks, -1)  # a token chooses an expert once
    missing = total - int(counts.sum())
    each = np.sign(missing) * (abs(missing) // ranks + (np.arange(ranks) < abs(missing) % ranks))
    counts = np.stack([_levelled(row, int(more), tokens) for row, more in zip(counts, each, strict=True)])
    busiest = int(counts.sum(axis=1).argmax())
    counts[[0, busiest]] = counts[[busiest, 0]]
    return np.asarray(counts.ravel())


def _levelled(counts: Counts, more: int, most: int) -> Counts:
    """``more`` rows added one by one to the expert with fewest, or taken from that with most, between 0 and ``most``."""
    if more == 0:
        return counts
    if more < 0:
        return -_levelled(-counts, -more, 0)
    low, high = int(counts.min()), most
    while low < high:  # the highest level that they fill
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.maximum(middle - counts, 0).sum() <= more else (low, middle - 1)
    filled = np.maximum(counts, low)
    if low < most:
        filled[np.flatnonzero(filled == low)[: more - int((filled - counts).sum())]] += 1
    return np.asarray(filled)


def _reached(counts: Counts, tokens: int, local: int) -> int:
    """Tokens with a choice among the first ``local`` experts, where the experts, those with most rows first, fill one choice of
    all tokens after the other."""
    order = np.argsort(-counts, kind="stable")
    starts = np.cumsum(counts[order]) - counts[order]
    mine = (order < local) & (counts[order] > 0)
    first, last = starts[mine] % tokens, starts[mine] % tokens + counts[order][mine]
    over = last > tokens  # an expert's rows go on with the next choice of the first tokens
    begin = np.concatenate([first, np.zeros(int(over.sum()), dtype=np.int64)])
    end = np.concatenate([np.minimum(last, tokens), last[over] - tokens])
    place = np.argsort(begin)
    begin, end = begin[place], end[place]
    covered = np.concatenate([np.zeros(1, dtype=np.int64), np.maximum.accumulate(end)[:-1]])
    return int(np.maximum(end - np.maximum(begin, covered), 0).sum())
