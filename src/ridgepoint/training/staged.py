"""Stages of their own sizes in a search: the layouts that divide the layers alike are evaluated together.

Which layers a stage has is no number, and balanced stages are another division for every layout whose layers and head take
other times. There are few divisions, though: each becomes a sweep of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import gcd

import numpy as np
from numpy.typing import NDArray

from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Array
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.planned import balancing_seconds
from ridgepoint.tasks.stages import balanced
from ridgepoint.training.space import Sweep

Points = NDArray[np.int64]
_DECIDING = ("tp", "cp", "ep", "micro_batch", "recomputed_layers")
"""Axes that the times of a layer and of the head vary with."""


def divisions(
    model: Model, machine: Machine, task: Train, base: Plan, sweep: Sweep, points: Points
) -> Iterator[tuple[Plan, Points]]:
    """Some layouts of a sweep with the plan of arrays that says them: together where the layers of each stage are the same.
    One stage has them all. Chunks that do not divide a stage's layers are left out.
    """
    if base.stages == "uniform":
        yield replace(base, **sweep.plan(points)), points
        return
    pp = sweep.axes["pp"][points]
    alone = points[pp == 1.0]
    if alone.size:
        yield replace(base, stages="uniform", **sweep.plan(alone)), alone
    several = points[pp > 1.0]
    for layers, members in _by_layers(model, machine, task, base, sweep, several):
        whole = members[gcd(*map(int, layers)) % sweep.axes["chunks"][members] == 0.0]
        if whole.size:
            yield replace(base, stages=layers, **sweep.plan(whole)), whole


def _by_layers(
    model: Model, machine: Machine, task: Train, base: Plan, sweep: Sweep, points: Points
) -> Iterator[tuple[tuple[float, ...], Points]]:
    """The layers of each stage, and the layouts that have them."""
    if not points.size:
        return
    if isinstance(base.stages, tuple):
        yield base.stages, points
        return
    named = np.stack([sweep.axes[name][points] for name in ("pp", *_DECIDING)])
    kinds, first, member = np.unique(named, axis=1, return_index=True, return_inverse=True)
    plan = replace(base, stages="uniform", **sweep.plan(points[first]))
    seconds = [np.broadcast_to(np.asarray(t), first.shape) for t in balancing_seconds(model, machine, task, plan)]
    found: dict[tuple[float, ...], list[int]] = {}
    for kind, (pp, times) in enumerate(zip(kinds[0], _rows(seconds), strict=True)):
        found.setdefault(balanced(model.main.depth, round(float(pp)), *times), []).append(kind)
    for layers, kinds_of in found.items():
        yield layers, points[np.isin(member.ravel(), kinds_of)]


def _rows(columns: list[Array]) -> Iterator[tuple[float, float, float]]:
    for layer, first, last in zip(*columns, strict=True):
        yield float(layer), float(first), float(last)
