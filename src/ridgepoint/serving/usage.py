"""Where the time of simulated steps went: actions of replicas folded back into the tables that timed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgepoint.serving.clock import Clock
from ridgepoint.serving.replica import LOG, READ, Replica
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

    def within(self, start_s: float, end_s: float) -> Actions:
        """The actions that began in [start, end)."""
        chosen = (self.log["start_s"] >= start_s) & (self.log["start_s"] < end_s)
        kept = chosen[self.reads["row"].astype(np.int64)]
        return Actions(
            {name: column[chosen] for name, column in self.log.items()},
            {name: column[kept] for name, column in self.reads.items()},
        )


def actions(replica: Replica) -> Actions:
    """The actions that ``replica`` completed."""
    log = np.frombuffer(replica.log, dtype=np.float64).reshape(-1, len(LOG))
    reads = np.frombuffer(replica.reads, dtype=np.float64).reshape(-1, len(READ))
    return Actions({name: log[:, i] for i, name in enumerate(LOG)}, {name: reads[:, i] for i, name in enumerate(READ)})


@dataclass(frozen=True)
class Usage:
    """Seconds of the actions by resource: of the time (they sum to it), and busy."""

    critical_s: Mapping[str, float]
    busy_s: Mapping[str, float]


def usage(done: Actions, clock: Clock) -> Usage:
    """The resources behind ``done``, by the weights that each point of the tables had in them."""
    totals: tuple[dict[str, float], dict[str, float]] = ({}, {})
    tables, log = clock.tables, done.log
    runs = log["sequences"] > 0
    lanes = np.ceil(log["sequences"] / clock.lanes)
    _add(totals, tables.shared, _counted(log["tokens"], log["steps"], len(tables.shared.time_s)))
    _add(totals, tables.choosing, _counted(log["chosen"], log["steps"], len(tables.choosing.time_s)))
    for each, factor in _decoding_tables(clock):
        weights = _on_grid(each, lanes[runs], log["context"][runs], log["steps"][runs] * factor)
        _add(totals, each.decoding, weights)
        if each is not tables:
            _add(totals, each.shared, _counted(lanes[runs], log["steps"][runs] * factor, len(each.shared.time_s)))
            _add(totals, each.choosing, _counted(lanes[runs], log["steps"][runs] * factor, len(each.choosing.time_s)))
    if len(done.reads["tokens"]):
        _add(totals, tables.reading, _read(tables, done.reads))
    critical, busy = ({r: t * clock.slowdown for r, t in table.items()} for table in totals)
    host = float((log["host_s"] * log["steps"]).sum())
    for table in (critical, busy):
        table["host"] = table.get("host", 0.0) + host
    return Usage(dict(sorted(critical.items(), key=lambda item: -item[1])), busy)


def _decoding_tables(clock: Clock) -> list[tuple[StepTables, float]]:
    found = [(clock.tables, 1.0)]
    return found if clock.draft is None else [*found, (clock.draft, float(clock.tables.drafted))]


def _add(totals: tuple[dict[str, float], dict[str, float]], grid: Grid, weights: Floats) -> None:
    for total, table in zip(totals, (grid.critical_s, grid.busy_s), strict=True):
        for resource, seconds in table.items():
            total[resource] = total.get(resource, 0.0) + float(np.vdot(weights, seconds.ravel()))


def _counted(counts: Floats, weights: Floats, size: int) -> Floats:
    return np.bincount(counts.astype(np.int64), weights, minlength=size)[:size].astype(np.float64)


def _cells(grid: Floats, values: Floats) -> tuple[NDArray[np.int64], Floats]:
    cell = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    return cell, (values - grid[cell]) / (grid[cell + 1] - grid[cell])


def _on_grid(tables: StepTables, lanes: Floats, context: Floats, weights: Floats) -> Floats:
    cell, part = _cells(tables.contexts, context)
    flat = (lanes.astype(np.int64) - 1) * len(tables.contexts) + cell
    size = tables.decoding.time_s.size
    below = np.bincount(flat, weights * (1.0 - part), minlength=size)
    return (below + np.bincount(flat + 1, weights * part, minlength=size)).astype(np.float64)


def _read(tables: StepTables, reads: Mapping[str, Floats]) -> Floats:
    past = np.concatenate([[0.0], tables.contexts])
    i, f = _cells(tables.pieces, reads["tokens"])
    j, g = _cells(past, reads["past"])
    size, part = tables.reading.time_s.size, reads["part"]
    total = np.zeros(size)
    for row, of_row in ((i, 1.0 - f), (i + 1, f)):
        for column, of_column in ((j, 1.0 - g), (j + 1, g)):
            total += np.bincount(row * len(past) + column, part * of_row * of_column, minlength=size)
    return total


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
