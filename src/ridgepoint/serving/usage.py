"""Where the time of simulated steps went: actions of replicas folded back into the tables that timed them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgepoint.serving.adapters import AdapterTable
from ridgepoint.serving.clock import Clock
from ridgepoint.serving.log import LOG, READ, Log
from ridgepoint.serving.tables import Grid, StepTables

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Actions:
    """All actions of a replica, one array per name of ``LOG``; pieces of prompts, one per name of ``READ``."""

    log: Mapping[str, Floats]
    reads: Mapping[str, Floats]

    @property
    def seconds(self) -> float:
        """Seconds in which it did something."""
        return float(self.log["seconds"].sum())

    def where(self, chosen: NDArray[np.bool_]) -> Actions:
        """The chosen actions with their pieces."""
        number: Floats = np.cumsum(chosen).astype(np.float64) - 1.0
        rows = self.reads["row"].astype(np.int64)
        kept = chosen[rows]
        reads = {name: column[kept] for name, column in self.reads.items()}
        return Actions({name: column[chosen] for name, column in self.log.items()}, reads | {"row": number[rows[kept]]})

    def by_level(self) -> Iterator[tuple[int, Actions]]:
        """(level, actions that its clock timed)."""
        levels = np.unique(self.log["level"])
        for level in levels.tolist():
            yield int(level), self if len(levels) == 1 else self.where(self.log["level"] == level)


def actions(log: Log, since: tuple[int, int] = (0, 0)) -> Actions:
    """The actions that a replica completed since a mark."""
    first, piece = since
    rows = np.array(log.rows[first * len(LOG) :]).reshape(-1, len(LOG))
    reads = np.array(log.reads[piece * len(READ) :]).reshape(-1, len(READ))
    reads[:, 0] -= first
    return Actions({name: rows[:, i] for i, name in enumerate(LOG)}, {name: reads[:, i] for i, name in enumerate(READ)})


@dataclass(frozen=True)
class Usage:
    """Seconds of the actions by resource: of the time (they sum to it), and busy."""

    critical_s: Mapping[str, float]
    busy_s: Mapping[str, float]


def usage(done: Actions, clocks: tuple[Clock, ...]) -> Usage:
    """The resources behind ``done``, by the weights that each point of the tables had in them."""
    return total(_of_level(part, clocks[level]) for level, part in done.by_level())


def total(parts: Iterable[Usage]) -> Usage:
    """The sum of several; the resource responsible for most comes first."""
    totals: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for part in parts:
        for sums, table in zip(totals, (part.critical_s, part.busy_s), strict=True):
            for resource, seconds in table.items():
                sums[resource] = sums.get(resource, 0.0) + seconds
    return Usage(dict(sorted(totals[0].items(), key=lambda item: -item[1])), totals[1])


def _of_level(done: Actions, clock: Clock) -> Usage:
    totals: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for grid, at, weights in _weights(done, clock):
        for sums, table in zip(totals, (grid.critical_s, grid.busy_s), strict=True):
            for resource, seconds in table.items():
                sums[resource] = sums.get(resource, 0.0) + float((weights * seconds.ravel()[at]).sum())
    log = done.log
    stretch = log["stretch"]
    link = clock.tables.machine.link("host")
    extra = {"host": float((log["host_s"] * log["steps"] * stretch).sum())}
    if np.any(log["loading_s"]) and link is not None:
        extra[link[0]] = float((log["loading_s"] * log["steps"] * stretch).sum())
    for sums in totals:
        for resource, more in extra.items():
            sums[resource] = sums.get(resource, 0.0) + more
    return Usage(*totals)


def _weights(done: Actions, clock: Clock) -> Iterator[tuple[Grid, NDArray[np.int64], Floats]]:
    """(table, points of it, how often each is in ``done``)."""
    tables, log = clock.tables, done.log
    times = log["steps"] * log["stretch"]
    runs = log["sequences"] > 0
    lanes = np.ceil(log["sequences"] / clock.lanes)
    yield tables.shared, *_spread(_counted(log["tokens"]), times, tables.shared)
    yield tables.choosing, *_spread(_counted(log["chosen"]), times, tables.choosing)
    for each, factor in decoding_tables(clock):
        own = times[runs] * factor
        yield each.decoding, *_spread(decoding_corners(each, lanes[runs], log["context"][runs]), own, each.decoding)
        if each is not tables:
            yield each.shared, *_spread(_counted(lanes[runs]), own, each.shared)
            yield each.choosing, *_spread(_counted(lanes[runs]), own, each.choosing)
    if len(done.reads["tokens"]):
        own = done.reads["part"] * log["stretch"][done.reads["row"].astype(np.int64)]
        yield tables.reading, *_spread(reading_corners(tables, done.reads), own, tables.reading)
    adapters = clock.adapters
    if adapters is not None:
        some = log["adapters"] > 0
        yield adapters.grid, *_spread(adapter_corners(adapters, log, some), times[some], adapters.grid)


Corners = list[tuple[NDArray[np.int64], Floats]]
"""Points of a grid, flat, that surround values, with the part that each has in the value."""


def decoding_tables(clock: Clock) -> list[tuple[StepTables, float]]:
    """Tables of the models that decode, with how often each does per step."""
    found = [(clock.tables, 1.0)]
    return found if clock.draft is None else [*found, (clock.draft, float(clock.tables.drafted))]


def _spread(corners: Corners, weights: Floats, grid: Grid) -> tuple[NDArray[np.int64], Floats]:
    """Points and their weights; many actions are counted by point first."""
    if len(weights) * len(corners) < grid.time_s.size:
        return np.concatenate([at for at, _ in corners]), np.concatenate([weights * part for _, part in corners])
    found = np.zeros(grid.time_s.size)
    for flat, part in corners:
        found += np.bincount(flat, weights * part, minlength=found.size)
    at = np.flatnonzero(found)
    return at, found[at]


def _counted(counts: Floats) -> Corners:
    return [(counts.astype(np.int64), np.ones(len(counts)))]


def _cells(grid: Floats, values: Floats) -> tuple[NDArray[np.int64], Floats]:
    cell = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    return cell, (values - grid[cell]) / (grid[cell + 1] - grid[cell])


def decoding_corners(tables: StepTables, lanes: Floats, context: Floats) -> Corners:
    """Where ``lanes`` sequences at a mean ``context`` lie in the table of decoding."""
    cell, part = _cells(tables.contexts, context)
    flat = (lanes.astype(np.int64) - 1) * len(tables.contexts) + cell
    return [(flat, 1.0 - part), (flat + 1, part)]


def reading_corners(tables: StepTables, reads: Mapping[str, Floats]) -> Corners:
    """Where pieces of prompts lie in the table of reading."""
    past = np.concatenate([[0.0], tables.contexts])
    i, f = _cells(tables.pieces_grid, reads["tokens"])
    j, g = _cells(past, reads["past"])
    rows, columns = ((i, 1.0 - f), (i + 1, f)), ((j, 1.0 - g), (j + 1, g))
    return [(np.minimum(r, len(tables.pieces) - 1) * len(past) + c, x * y) for r, x in rows for c, y in columns]


def adapter_corners(table: AdapterTable, log: Mapping[str, Floats], some: NDArray[np.bool_]) -> Corners:
    """Where the steps ``some`` of a log, which use adapters, lie in their table."""
    cell, part = _cells(table.tokens, np.maximum(log["adapted"][some], 1.0))
    width = table.grid.time_s.shape[1]
    column = np.clip(log["adapters"][some].astype(np.int64) - 1, 0, width - 1)
    return [(cell * width + column, 1.0 - part), ((cell + 1) * width + column, part)]


def covered_s(several: Iterable[Actions]) -> float:
    """Seconds in which at least one of several did something."""
    spans = [(done.log["start_s"], done.log["seconds"]) for done in several]
    if len(spans) == 1:
        return float(spans[0][1].sum())
    start, seconds = (np.concatenate(column) for column in zip(*spans, strict=True))
    order = np.argsort(start, kind="stable")
    start, end = start[order], np.maximum.accumulate((start + seconds)[order])
    before = np.concatenate([start[:1], end[:-1]])
    return float(np.maximum(end - np.maximum(start, before), 0.0).sum())


def token_gaps(done: Actions) -> tuple[Floats, Floats]:
    """(seconds between tokens of a sequence, how many such gaps there were). Steps that only read prompts lengthen the next
    gap of those that wait meanwhile.
    """
    log = done.log
    runs = np.flatnonzero(log["sequences"] > 0)
    if not len(runs):
        return np.zeros(0), np.zeros(0)
    stalls = np.where((log["sequences"] == 0) & (log["stalled"] > 0), log["seconds"], 0.0)
    before = np.cumsum(stalls)[runs]
    pending = np.diff(before, prepend=0.0)
    gap, steps, count = (log[n][runs] for n in ("seconds", "steps", "sequences"))
    gap = gap / steps
    return np.concatenate([gap + pending, gap]), np.concatenate([count, count * (steps - 1.0)])
