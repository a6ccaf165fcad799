"""Filling the columns of a sweep, block by block.

A block without an answer is split until it is known which of its points lack one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise, product
from typing import Any

import numpy as np

from ridgepoint.cautions import cautions
from ridgepoint.citations import Reliance
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.machines.machine import Machine
from ridgepoint.models.networks.network import Network
from ridgepoint.request import PLAN_KEYS
from ridgepoint.scenario import Scenario
from ridgepoint.search.axes import DEGREES, Axis, unknown_axis
from ridgepoint.search.columns import SHARE, Column, columns_of, empty
from ridgepoint.techniques.registry import applied

MOST_TRIALS = 20_000
"""Estimates that finding the points without an answer may take before the first error is raised."""
MOST_CORNERS, FEW_DEGREES = 32, 8
"""Points of a block that are asked what they rest on, and values of a degree that are all among them."""
Ranges = Mapping[str, range]
Point = tuple[int, ...]
"""Indices into the values of the axes."""
Remarks = dict[str, list[Point]]
"""What was said, and the points that it was said of."""


@dataclass(frozen=True)
class _Block:
    """A scenario before anything vectorised varies, the techniques to apply after, the indices of the other axes."""

    given: Scenario
    techniques: tuple[str, ...]
    fixed: Ranges

    def estimate(self, values: Mapping[str, Any]) -> Estimate:
        return Estimate(applied(_with(self.given, values), self.techniques))


@dataclass
class Filler:
    """Columns as they are filled, and what is said about them on the way."""

    axes: tuple[Axis, ...]
    columns: dict[str, Column] = field(init=False)
    assumptions: Remarks = field(default_factory=dict)
    warnings: Remarks = field(default_factory=dict)
    asked: list[Point] = field(default_factory=list)
    machines: dict[str, Machine] = field(default_factory=dict)
    reliance: Reliance = field(default_factory=Reliance)
    first_error: RidgepointError | None = None
    trials: int = 0

    def __post_init__(self) -> None:
        self.columns = empty(tuple(len(a.values) for a in self.axes))

    @property
    def fast(self) -> list[Axis]:
        """The axes that one estimate takes at once."""
        return [a for a in self.axes if a.vectorised]

    def fill(self, fixed: Ranges, make: Callable[[], Scenario], techniques: Sequence[str]) -> None:
        """The points where the axes that are not vectorised have the indices ``fixed``: of the scenario that ``make`` gives,
        with the values of the vectorised axes, and then with ``techniques``, which may change just these.
        """
        everywhere = {a.name: range(len(a.values)) for a in self.fast}
        try:
            given = make()
        except RidgepointError as error:
            self._refused({**fixed, **everywhere}, error)
            return
        if given.shape:
            raise RidgepointError(
                "bad_vary", "task or plan holds arrays", "give one value there and name the axis in vary"
            )
        _check_known(given, self.fast)
        self._solve(_Block(given, tuple(techniques), fixed), everywhere)

    def _solve(self, block: _Block, ranges: Ranges) -> None:
        self.trials += 1
        if self.trials > MOST_TRIALS and self.first_error is not None:
            raise self.first_error
        try:
            est = block.estimate(_arrays(self.fast, ranges))
        except RidgepointError as error:
            parts = _split(ranges)
            if not parts:
                self._refused({**block.fixed, **ranges}, error)
            for part in parts:
                self._solve(block, part)
            return
        self._answer(est, {**block.fixed, **ranges})
        for at in _corners(self.fast, ranges):
            place = {**{name: r[0] for name, r in block.fixed.items()}, **at}
            values = {a.name: a.values[at[a.name]] for a in self.fast}
            self._remark(block.estimate(values), tuple(place[a.name] for a in self.axes))

    def _place(self, ranges: Ranges) -> tuple[slice, ...]:
        return tuple(slice(ranges[a.name].start, ranges[a.name].stop) for a in self.axes)

    def _refused(self, ranges: Ranges, error: RidgepointError) -> None:
        self.first_error = self.first_error or error
        self.columns["error"][self._place(ranges)] = str(error)

    def _answer(self, est: Estimate, ranges: Ranges) -> None:
        place = self._place(ranges)
        shape = tuple(s.stop - s.start for s in place)
        for name, values in columns_of(est).items():
            if values is None:
                continue
            if name not in self.columns:
                self.columns[name] = np.zeros(self.columns["time_s"].shape)
            # The vectorised axes keep their order among all axes, so that a reshape puts them in place.
            self.columns[name][place] = np.broadcast_to(values, est.shape).reshape(shape) if est.shape else values
        for resource in est.shares:
            self.machines.setdefault(resource, est.scenario.machine)

    def _remark(self, one: Estimate, point: Point) -> None:
        """What a corner of a block rests on; which points fit is a column of its own."""
        said = cautions(one.scenario, one.memory, one.built.layout, None)
        self.asked.append(point)
        for text in one.assumptions:
            self.assumptions.setdefault(text, []).append(point)
        self.reliance |= one.reliance
        for text in said:
            if not text.startswith("does not fit"):
                self.warnings.setdefault(text, []).append(point)

    def told(self, remarks: Remarks) -> tuple[str, ...]:
        """Remarks, each after the values of the axes that it was made at, where it does not hold at all that were asked.

        >>> tuples = Filler((Axis("weights", ("bf16", "int4")), Axis("batch", (1.0, 2.0))))
        >>> tuples.asked = [(0, 0), (0, 1), (1, 0), (1, 1)]
        >>> tuples.told({"everywhere": tuples.asked, "once": [(1, 0), (1, 1)]})
        ('everywhere', 'weights int4: once')
        """
        return tuple(f"{where}: {text}" if (where := self._where(points)) else text for text, points in remarks.items())

    def _where(self, points: Sequence[Point]) -> str:
        words = []
        for i, a in enumerate(self.axes):
            here, all_asked = ({p[i] for p in some} for some in (points, self.asked))
            if here != all_asked:
                words.append(f"{a.words} {' or '.join(a.texts[n] for n in sorted(here))}")
        return ", ".join(words)

    def finished(self) -> dict[str, Column]:
        """The columns that hold something; shares by size, NaN where there is no answer.

        Errors: the first one where no point has an answer.
        """
        refused = self.columns["error"] != ""
        if self.first_error is not None and np.all(refused):
            raise self.first_error
        shares = {n: np.where(refused, np.nan, c) for n, c in self.columns.items() if n.startswith(SHARE)}
        order = sorted(shares, key=lambda n: -float(np.nanmean(shares[n])))
        told = {n: c for n, c in self.columns.items() if n not in shares and n != "error"}
        told = {n: c for n, c in told.items() if c.dtype != np.float64 or not np.all(np.isnan(c))}
        return {**told, **{n: shares[n] for n in order}, "error": self.columns["error"]}


def _corners(fast: Sequence[Axis], ranges: Ranges) -> list[dict[str, int]]:
    """Where it is asked what a block rests on: the ends of every axis, and each of a few parallel degrees; the first and
    the last point alone where these are many.
    """
    ends = [tuple(dict.fromkeys((r[0], r[-1]))) for a in fast for r in [ranges[a.name]]]
    wanted = [
        tuple(ranges[a.name]) if a.name in DEGREES and len(ranges[a.name]) <= FEW_DEGREES else both
        for a, both in zip(fast, ends, strict=True)
    ]
    chosen = (
        product(*wanted)
        if math.prod(map(len, wanted)) <= MOST_CORNERS
        else zip(*((e[0], e[-1]) for e in ends), strict=True)
    )
    return [dict(zip((a.name for a in fast), at, strict=True)) for at in chosen]


def _check_known(given: Scenario, fast: list[Axis]) -> None:
    """Every vectorised axis must be a size of the task, an input of the network, or of the plan."""
    own = [f.name for f in fields(given.task) if f.name != "inputs"]
    if isinstance(given.model, Network):
        inputs = dict(given.model.inputs)
        own = [name for name in own if name in ("batch", "steps", *inputs)] + [n for n in inputs if n not in own]
    for a in fast:
        if a.name not in (*own, *PLAN_KEYS):
            raise unknown_axis(a.name, own)


def _split(ranges: Ranges) -> list[dict[str, range]]:
    """Parts of a block: a parallel degree value by value, since most errors are theirs; else halves of the longest axis."""
    long = [name for name, r in ranges.items() if len(r) > 1]
    if not long:
        return []
    name = next((n for n in long if n in DEGREES), max(long, key=lambda n: len(ranges[n])))
    r = ranges[name]
    cuts = range(1, len(r)) if name in DEGREES and len(r) <= 64 else (len(r) // 2,)
    edges = [0, *cuts, len(r)]
    return [{**ranges, name: r[a:b]} for a, b in pairwise(edges)]


def _arrays(fast: list[Axis], ranges: Ranges) -> dict[str, Any]:
    """Every vectorised axis as an array that has a dimension of its own."""
    arrays = {}
    for a, unit in zip(fast, np.eye(len(fast), dtype=int), strict=True):
        values = a.array()[ranges[a.name].start : ranges[a.name].stop]
        arrays[a.name] = values.reshape([len(values) if one else 1 for one in unit])
    return arrays


def _with(given: Scenario, values: Mapping[str, Any]) -> Scenario:
    own = {f.name for f in fields(given.task)}
    plan = {n: v for n, v in values.items() if n in PLAN_KEYS}
    task = {n: v for n, v in values.items() if n in own}
    inputs = {n: v for n, v in values.items() if n not in plan and n not in task}
    if inputs:
        task["inputs"] = {**getattr(given.task, "inputs", {}), **inputs}
    return replace(given, task=replace(given.task, **task), plan=replace(given.plan, **plan))
