"""Step times of a deployment, tabulated once from the cost engine so that a simulated step costs a look-up.

A step in which ``sequences`` decode at a mean context, prompts are read and ``T`` tokens pass in all takes

    device = shared(T) + decoding(sequences, context) + Σ reading(n, past) + choosing(sequences that get a token)
    step   = max(device, launches) + step_s + sequence_s · sequences + token_s · prompt tokens

(serving/passes.py, serving/engines.py). ``shared`` and ``choosing`` are tabulated at every count, ``decoding`` at every
count and a grid of contexts, ``reading`` on a grid of both, dense where tiles are; between grid points it is linear. Prompts
that are read in one step are one kernel: each further one saves what those of ``LIKE_IT`` equal ones do in the mean.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.cost.energy import ON_CHIP
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.kernels.demand import Timing
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array
from ridgepoint.serving.engines import Engine, speeds
from ridgepoint.serving.passes import Passes
from ridgepoint.tasks.inference import has_host, kernel_count
from ridgepoint.work import Work

DENSE, STRIDE = 1024, 8
"""Tokens up to which every count is evaluated; above, both sides of every multiple of the stride."""
PIECES = 512, 16
"""The same for the tokens of a piece of a prompt, whose tables are two-dimensional."""
COARSER = 16
"""How much further points may lie apart where counts are that many times as large: a tile is a small part of them."""
SAVED = 48, 8
"""Points over tokens and earlier tokens at which it is known what a further prompt of a step saves."""
LIKE_IT = 4.0
"""Prompts of a step that it is taken from: the second alone may just fill what the first leaves idle."""
RISE = 0.01
"""Part by which the times of neighbouring points may differ before all counts between them are evaluated."""
GROWTH = 1.04
"""Ratio of neighbouring contexts of the grid."""


@dataclass(frozen=True)
class Grid:
    """Seconds at the points of a grid, in all and by resource: ``critical`` (of the time) and ``busy``."""

    time_s: Array
    critical_s: Mapping[str, Array]
    busy_s: Mapping[str, Array]


@dataclass(frozen=True)
class Limits:
    """How far the tables reach, per lane: tokens of a step, sequences, context; tokens of one prompt in a step (all, where
    it is not said).
    """

    tokens: int
    sequences: int
    context: int
    piece: int | None = None


class StepTables:
    """The tables of one replica's passes; all counts are those of a lane.

    ``drafted`` tokens are verified beside each decode token (speculative decoding). ``frequency``: the device's clock over
    its usual one; engines and on-chip memories follow it, main memory and links do not.
    """

    def __init__(
        self, passes: Passes, engine: Engine, limits: Limits, drafted: int = 0, frequency: float = 1.0
    ) -> None:
        self.passes, self.engine, self.limits, self.drafted = passes, engine, limits, drafted
        self.machine: Machine = passes.machine
        self._speed = speeds(self.machine, engine)
        if frequency != 1.0:
            self._speed |= {name: frequency * self._speed.get(name, 1.0) for name in clocked(self.machine)}
        self.contexts = contexts(limits.context)
        self.pieces = counts(min(limits.piece or limits.tokens, limits.tokens), *PIECES)
        self.shared = self._every_count(limits.tokens, passes.shared)
        self.choosing = self._every_count(limits.sequences * (1 + drafted), passes.choosing)
        self.shared_s: list[float] = self.shared.time_s.tolist()
        self.choosing_s: list[float] = self.choosing.time_s.tolist()
        self.contexts_list: list[float] = self.contexts.tolist()
        self._rows: dict[int, list[float]] = {}
        self._reading_rows: dict[int, list[float]] = {}

    def grid(self, work: Work, shape: tuple[int, ...]) -> Grid:
        """``work`` at the points of a grid of that shape."""
        timing: Timing = evaluate(work, self.machine, strict=True).timing_at(self._speed)
        full = timing.everywhere()

        def spread(table: Mapping[str, Any]) -> dict[str, Array]:
            return {r: np.ascontiguousarray(np.broadcast_to(t, shape)) for r, t in table.items() if np.any(t)}

        return Grid(
            np.ascontiguousarray(np.broadcast_to(full.time_s, shape)), spread(full.critical_s), spread(full.busy_s)
        )

    def _every_count(self, largest: int, build: Callable[[Array], Work]) -> Grid:
        """A table over 0 … ``largest``: evaluated where ``counts`` says and at every count between two of those whose times
        differ by more than ``RISE`` (a tile more), linear between the others. Nothing takes no time.
        """
        points = counts(largest)
        found = self.grid(build(points), points.shape)
        steep = np.flatnonzero(np.abs(np.diff(found.time_s)) > RISE * found.time_s[:-1])
        between = [np.arange(points[i] + 1.0, points[i + 1]) for i in steep]
        more = np.concatenate([*between, np.zeros(0)])
        if more.size:
            points = np.concatenate([points, more])
            order = np.argsort(points)
            points, found = points[order], _joined(found, self.grid(build(more), more.shape), order)
        every = np.arange(largest + 1.0)

        def fill(values: Array) -> Array:
            spread: Array = np.interp(every, points, values)
            spread[0] = 0.0
            return spread

        return Grid(
            fill(found.time_s),
            {r: fill(t) for r, t in found.critical_s.items()},
            {r: fill(t) for r, t in found.busy_s.items()},
        )

    @cached_property
    def decoding(self) -> Grid:
        """Seconds over (sequences from 1, contexts of the grid)."""
        sequences = np.arange(1.0, self.limits.sequences + 1.0)
        work = self.passes.decoding(sequences[:, None], self.contexts[None, :], 1.0 + self.drafted)
        return self.grid(work, (sequences.size, self.contexts.size))

    @cached_property
    def reading(self) -> Grid:
        """Seconds over (tokens read of ``pieces``, tokens before them: 0 and ``contexts``)."""
        past = np.concatenate([[0.0], self.contexts])
        return self.grid(self.passes.reading(self.pieces[:, None], past[None, :]), (self.pieces.size, past.size))

    def row(self, sequences: int) -> list[float]:
        """Seconds of ``sequences`` that decode, by context of the grid."""
        row = self._rows.get(sequences)
        if row is None:
            row = self._rows[sequences] = self.decoding.time_s[sequences - 1].tolist()
        return row

    def decode_line(self, sequences: int, context: float) -> tuple[float, float, float]:
        """(seconds at ``context``, their slope per token of context, context where the slope ends)."""
        grid = self.contexts_list
        cell = bisect_right(grid, context) - 1
        cell = 0 if cell < 0 else min(cell, len(grid) - 2)
        row = self.row(sequences)
        low, high = grid[cell], grid[cell + 1]
        slope = (row[cell + 1] - row[cell]) / (high - low)
        return row[cell] + (context - low) * slope, slope, high

    def read_s(self, tokens: float, past: float) -> float:
        """Seconds of ``tokens`` of one prompt after ``past`` earlier ones, beyond what is shared."""
        i, f = self._piece(tokens)
        j, g = self._past(past)
        low, high = self._reading_row(i), self._reading_row(i + 1)
        below = low[j] + g * (low[j + 1] - low[j])
        return below + f * (high[j] + g * (high[j + 1] - high[j]) - below)

    def _reading_row(self, i: int) -> list[float]:
        row = self._reading_rows.get(i)
        if row is None:
            row = self._reading_rows[i] = self.reading.time_s[i].tolist()
        return row

    def _piece(self, tokens: float) -> tuple[int, float]:
        return _cell(self._pieces_list, tokens)

    def _past(self, past: float) -> tuple[int, float]:
        return _cell(self._past_list, past)

    @cached_property
    def pieces_grid(self) -> Array:
        """``pieces`` with a point more where there is only one, so that there is a cell."""
        return np.append(self.pieces, self.pieces[-1] + 1.0) if self.pieces.size == 1 else self.pieces

    @cached_property
    def _pieces_list(self) -> list[float]:
        return [float(tokens) for tokens in self.pieces_grid]

    @cached_property
    def _past_list(self) -> list[float]:
        return [0.0, *self.contexts_list]

    def saved_s(self, tokens: float, past: float) -> float:
        """Seconds by which a prompt takes less in a step that reads others like it, too."""
        sizes, pasts, table = self._saved
        i, f = _cell(sizes, tokens)
        j, g = _cell(pasts, past)
        low, high = table[i], table[i + 1]
        below = low[j] + g * (low[j + 1] - low[j])
        return below + f * (high[j] + g * (high[j + 1] - high[j]) - below)

    @cached_property
    def _saved(self) -> tuple[list[float], list[float], list[list[float]]]:
        """(tokens, past, seconds saved at both)."""
        sizes = _thinned(self.pieces_grid, SAVED[0])
        past = _thinned(np.concatenate([[0.0], self.contexts]), SAVED[1])
        one, several = (
            self.grid(self.passes.reading(sizes[:, None], past[None, :], prompts), (sizes.size, past.size)).time_s
            for prompts in (1.0, LIKE_IT)
        )
        saved = np.maximum(LIKE_IT * one - several, 0.0) / (LIKE_IT - 1.0)
        return sizes.tolist(), past.tolist(), saved.tolist()

    @cached_property
    def launches_s(self) -> tuple[float, float]:
        """Host seconds that launch a pure decode step and one that reads prompts."""
        return launches(self.passes, self.engine)


def _joined(first: Grid, second: Grid, order: NDArray[np.int64]) -> Grid:
    """The points of two tables, in an ``order``; a resource that one of them does not use takes no time there."""

    def join(one: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, Array]:
        names = {**one, **other}
        sides = ((one, np.zeros_like(first.time_s)), (other, np.zeros_like(second.time_s)))
        return {r: np.concatenate([table.get(r, none) for table, none in sides])[order] for r in names}

    time_s = np.concatenate([first.time_s, second.time_s])[order]
    return Grid(time_s, join(first.critical_s, second.critical_s), join(first.busy_s, second.busy_s))


def clocked(machine: Machine) -> tuple[str, ...]:
    """Resources whose rate goes with the device's clock.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> clocked(find_machine("h100-sxm"))
    ('matrix', 'vector', 'special', 'l2', 'shared', 'wave')
    """
    device = machine.device
    on_chip = (name for name, level in device.memory.items() if level.role in ON_CHIP)
    return (*device.engines, *on_chip, "wave")


def launches(found: Passes, engine: Engine) -> tuple[float, float]:
    """Host seconds that launch a pure decode step and one that reads prompts."""
    if not has_host(found.machine):
        return 0.0, 0.0
    host = found.machine.coefficients.host
    each = engine.dispatch_s or host.dispatch_s
    both = kernel_count(found.shared(1.0)) + kernel_count(found.choosing(1.0))
    eager = both + kernel_count(found.decoding(1.0, 16.0))
    mixed = eager + kernel_count(found.reading(1.0, 0.0))
    return float(host.graph_launch_s if engine.captured else eager * each), float(mixed * each)


def _cell(grid: list[float], value: float) -> tuple[int, float]:
    cell = bisect_right(grid, value) - 1
    cell = 0 if cell < 0 else min(cell, len(grid) - 2)
    return cell, (value - grid[cell]) / (grid[cell + 1] - grid[cell])


def _thinned(grid: Array, most: int) -> Array:
    """At most about so many points of a grid, its ends among them, equally many to each factor."""
    wanted = np.geomspace(1.0, float(grid.size), most)
    return grid[np.unique(np.rint(wanted).astype(np.int64) - 1)]


def counts(largest: int, dense: int = DENSE, stride: int = STRIDE) -> Array:
    """The counts that are evaluated: all up to ``dense``, then both sides of every multiple of ``stride``, from ``COARSER``
    times ``dense`` on of one as many times as large, and the largest.

    >>> counts(3)
    array([1., 2., 3.])
    """
    every = [np.arange(1, min(dense, largest) + 1)]
    while dense < largest:
        above = np.arange(dense, min(dense * COARSER, largest) + 1, stride)
        every += [above, above + 1]
        dense, stride = dense * COARSER, stride * COARSER
    return np.unique(np.concatenate([*every, [largest]]).clip(1, largest)).astype(float)


def contexts(largest: int) -> Array:
    """Contexts of the grid: multiples of 16 in steps of ``GROWTH``, from 16 on to beyond ``largest``."""
    found = [1.0, 16.0]
    while found[-1] <= largest:
        found.append(16.0 * np.ceil(max(found[-1] * GROWTH, found[-1] + 16.0) / 16.0))
    return np.array(found)
