"""What a sweep answers: axes, columns over them, and what to know before using the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.citations import Reliance
from ridgepoint.machines.machine import Machine
from ridgepoint.search.axes import Axis, Value
from ridgepoint.search.columns import Column, better, find_column
from ridgepoint.search.pareto import front


@dataclass(frozen=True, eq=False)
class Sweep:
    """Answers over all combinations of the axes. Each column is an array with one dimension per axis, in their order.

    Points without an answer (a degree that does not divide, a format that no engine computes) have NaN, no bottleneck, and
    the reason in the column ``error``.
    """

    axes: tuple[Axis, ...]
    columns: Mapping[str, Column]
    base: Mapping[str, Any] = field(default_factory=dict)
    """Model, machine, task and plan as they were said, before anything varied."""
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """Both at the ends of what varies in one estimate; what holds at some values only begins with them."""
    machines: Mapping[str, Machine] = field(default_factory=dict)
    """Resource → a machine that has it, which knows its label."""
    reliance: Reliance = field(default_factory=Reliance)

    @property
    def shape(self) -> tuple[int, ...]:
        """Values per axis."""
        return tuple(len(a.values) for a in self.axes)

    @property
    def size(self) -> int:
        """All points."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, column: str) -> Column:
        return self.columns[column if column in ("bottleneck", "error") else find_column(column, self.columns)]

    @cached_property
    def answered(self) -> NDArray[np.bool_]:
        """Where there is an answer."""
        return np.asarray(self.columns["error"] == "")

    @property
    def failed(self) -> int:
        """Points without an answer."""
        return int(self.size - np.count_nonzero(self.answered))

    @property
    def reasons(self) -> dict[str, int]:
        """Why points have no answer, and how many, most first."""
        found, counts = np.unique(self.columns["error"][~self.answered].astype(str), return_counts=True)
        return dict(sorted(zip(map(str, found), map(int, counts), strict=True), key=lambda item: -item[1]))

    def at(self, index: Sequence[int]) -> dict[str, Value]:
        """The axes' values at a point."""
        return {a.name: a.values[i] for a, i in zip(self.axes, index, strict=True)}

    def best(self, column: str) -> tuple[int, ...] | None:
        """The point that fits with the best value of a column; None where nothing fits or nothing has a value."""
        name = find_column(column, self.columns)
        values = np.where(self.columns["fits"], self.columns[name] * better(name), np.nan)
        if np.all(np.isnan(values)):
            return None
        return tuple(map(int, np.unravel_index(int(np.nanargmax(values)), self.shape)))

    def pareto(self, *columns: str) -> NDArray[np.bool_]:
        """Where no other point that fits is at least as good in every column and better in one.

        Errors: ``bad_column``.
        """
        names = [find_column(name, self.columns) for name in columns]
        goals = np.stack([np.ravel(self.columns[n]).astype(float) * better(n) for n in names], axis=1)
        usable = np.ravel(self.columns["fits"]) & ~np.any(np.isnan(goals), axis=1)
        on = np.zeros(self.size, dtype=bool)
        on[np.flatnonzero(usable)[front(goals[usable])]] = True
        return on.reshape(self.shape)

    @property
    def citations(self) -> tuple[str, ...]:
        """What the sweep relied on."""
        return self.reliance.lines

    def label(self, resource: str) -> str:
        """How reports name a resource."""
        machine = self.machines.get(resource)
        return resource if machine is None else machine.resource_label(resource)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document: axes, one object per point, what to know."""
        from ridgepoint.search.table import document

        return document(self)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        from ridgepoint.report.notebook import sweep_html

        return sweep_html(self)
