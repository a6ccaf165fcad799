"""The power of simulated actions over time, by the model of ``cost/energy.py``.

    power = idle + (limit − idle) · Σ_r weight_r · busy_r / seconds · clock^2.4

The whole dynamic power follows the clock, that of memory too; a part of the multiprocessors draws its part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgepoint.machines.machine import CLOCK_EXPONENT, Machine
from ridgepoint.serving.clock import Clock
from ridgepoint.serving.tables import Grid, clocked
from ridgepoint.serving.usage import (
    Actions,
    Corners,
    adapter_corners,
    decoding_corners,
    decoding_tables,
    reading_corners,
)

Floats = NDArray[np.float64]


class Draws:
    """What the actions of a replica with these clocks draw."""

    def __init__(self, machine: Machine, clocks: tuple[Clock, ...]) -> None:
        self._levels = [_Draw(machine, clock) for clock in clocks]

    def worth_s(self, done: Actions) -> Floats:
        """Seconds at full power that each action is worth."""
        found = np.zeros(len(done.log["seconds"]))
        for level, part in done.by_level():
            found[done.log["level"] == level] = self._levels[level].worth_s(part)
        return found


class _Draw:
    """The same for one clock; tables of all resources are added up once."""

    def __init__(self, machine: Machine, clock: Clock) -> None:
        self._clock, self._weights = clock, machine.coefficients.power.weights
        self._on_chip = clocked(machine)
        self._scale = clock.frequency**CLOCK_EXPONENT
        self._known: dict[int, Floats] = {}

    def worth_s(self, done: Actions) -> Floats:
        clock, log = self._clock, done.log
        tables = clock.tables
        found = self._of(tables.shared)[log["tokens"].astype(np.int64)]
        found = found + self._of(tables.choosing)[log["chosen"].astype(np.int64)]
        runs = log["sequences"] > 0
        lanes = np.ceil(log["sequences"][runs] / clock.lanes)
        for each, factor in decoding_tables(clock):
            own = _value(self._of(each.decoding), decoding_corners(each, lanes, log["context"][runs]))
            if each is not tables:
                whole = lanes.astype(np.int64)
                own = own + self._of(each.shared)[whole] + self._of(each.choosing)[whole]
            found[runs] += factor * own
        if clock.adapters is not None:
            some = log["adapters"] > 0
            found[some] += _value(self._of(clock.adapters.grid), adapter_corners(clock.adapters, log, some))
        found = found * log["steps"]
        if len(done.reads["tokens"]):
            own = _value(self._of(tables.reading), reading_corners(tables, done.reads)) * done.reads["part"]
            found += np.bincount(done.reads["row"].astype(np.int64), own, minlength=len(found))
        worth: Floats = np.minimum(found * log["stretch"], log["seconds"]) * self._scale
        return worth

    def _of(self, grid: Grid) -> Floats:
        """Σ weight · busy seconds at every point of a table."""
        found = self._known.get(id(grid))
        if found is None:
            found = np.zeros(grid.time_s.size)
            for resource, seconds in grid.busy_s.items():
                found += self._weight(resource) * seconds.ravel()
            self._known[id(grid)] = found
        return found

    def _weight(self, resource: str) -> float:
        own = self._weights.get(resource, self._weights["default"])
        if resource == self._clock.tables.machine.main_memory:
            return own * self._clock.memory
        return own * self._clock.part if resource in self._on_chip else own


def _value(flat: Floats, corners: Corners) -> Floats:
    found = np.zeros(len(corners[0][0]))
    for at, part in corners:
        found += flat[at] * part
    return found
