"""Exhaustive search over layouts: memory first, then the time of what fits, many thousand layouts at once (design §10, §11).

The step of every layout is the one that ``estimate`` evaluates; only what a ranking does not need is left out (which resource
is responsible for how much). So the best layout's estimate gives the very time that it was found by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.cost.combine import combine
from ridgepoint.cost.energy import under_load
from ridgepoint.cost.evaluate import Cost, evaluate
from ridgepoint.kernels.demand import Timing, settle
from ridgepoint.machines.machine import Machine, outbound
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Array
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.build import build
from ridgepoint.tasks.layout import complete, execution
from ridgepoint.tasks.memory import ledger
from ridgepoint.training.space import Sweep
from ridgepoint.training.staged import divisions
from ridgepoint.work import Op

CHUNK = 262144
"""Layouts that are evaluated together."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Ranked:
    """One layout: the fields of its plan, seconds of its step (by the search), bytes on its fullest device."""

    plan: dict[str, Any]
    time_s: float
    memory_bytes: float


@dataclass(frozen=True)
class Search:
    """What was found: the fastest layouts, how many were looked at, and how many of them fit."""

    best: tuple[Ranked, ...]
    searched: int
    fitting: int
    leanest: Ranked
    """The layout that needs the least memory, whether it fits or not."""


def search(
    model: Model,
    machine: Machine,
    task: Train,
    base: Plan,
    sweeps: list[Sweep],
    usable_bytes: float,
    keep: int = 100,
    progress: Progress | None = None,
) -> Search:
    """The ``keep`` fastest layouts of ``sweeps`` in at most ``usable_bytes`` of memory; other fields are those of ``base``."""
    total, seen, fitting = sum(s.size for s in sweeps), 0, 0
    best: list[Ranked] = []
    leanest: Ranked | None = None
    for sweep, points in _pieces(sweeps):
        for plan, members in divisions(model, machine, task, base, sweep, points):
            memory = _memory(model, machine, task, plan)
            leanest = _leaner(leanest, plan, sweep, members, memory)
            inside = memory <= usable_bytes
            fitting += int(np.count_nonzero(inside))
            best = sorted(
                [*best, *_fastest(model, machine, task, plan, sweep, members, inside, memory, keep)], key=_time
            )
            best = best[:keep]
        seen += points.size
        if progress is not None:
            progress(seen, total)
    assert leanest is not None
    return Search(tuple(best), total, fitting, leanest)


def _fastest(
    model: Model,
    machine: Machine,
    task: Train,
    plan: Plan,
    sweep: Sweep,
    members: NDArray[np.int64],
    inside: NDArray[np.bool_],
    memory: Array,
    keep: int,
) -> list[Ranked]:
    """The ``keep`` fastest of the layouts that are ``inside``."""
    chosen, sizes = members[inside], memory[inside]
    if not chosen.size:
        return []
    times = step_seconds(model, machine, task, replace(plan, **sweep.plan(chosen)))
    first = np.argsort(times, kind="stable")[:keep]
    return [_ranked(plan, sweep, int(chosen[i]), float(times[i]), float(sizes[i])) for i in first]


def _leaner(so_far: Ranked | None, plan: Plan, sweep: Sweep, members: NDArray[np.int64], memory: Array) -> Ranked:
    """The leanest layout so far."""
    least = int(np.argmin(memory))
    if so_far is not None and so_far.memory_bytes <= memory[least]:
        return so_far
    return _ranked(plan, sweep, int(members[least]), np.inf, float(memory[least]))


def _ranked(plan: Plan, sweep: Sweep, point: int, time_s: float, memory_bytes: float) -> Ranked:
    """One layout of a sweep, with the layers of its stages where they are told apart."""
    said = _scalars(sweep.plan(point))
    return Ranked(said if plan.stages == "uniform" else {**said, "stages": plan.stages}, time_s, memory_bytes)


def _time(one: Ranked) -> float:
    return one.time_s


def frontier(
    model: Model, machine: Machine, task: Train, base: Plan, sweeps: list[Sweep], usable_bytes: float
) -> list[Ranked]:
    """For every ZeRO stage the layouts of which none is both faster and leaner, fastest first; the leanest one of all where
    none fits into ``usable_bytes``.
    """
    found: list[Ranked] = []
    leanest: Ranked | None = None
    for sweep, points in _pieces(sweeps):
        for plan, members in divisions(model, machine, task, base, sweep, points):
            memory = _memory(model, machine, task, plan)
            leanest = _leaner(leanest, plan, sweep, members, memory)
            inside, sizes = members[memory <= usable_bytes], memory[memory <= usable_bytes]
            if not inside.size:
                continue
            times = step_seconds(model, machine, task, replace(plan, **sweep.plan(inside)))
            stages = sweep.axes["zero_stage"][inside]
            found += [
                _ranked(plan, sweep, int(inside[i]), float(times[i]), float(sizes[i]))
                for stage in np.unique(stages)
                for i in _front(times, sizes, stages == stage)
            ]
    assert leanest is not None
    return _overall(found) or [leanest]


def _front(times: Array, sizes: Array, among: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices of the points that no other one beats in both, fastest first."""
    places = np.flatnonzero(among)
    order = places[np.lexsort((sizes[places], times[places]))]
    least = np.minimum.accumulate(sizes[order])
    better = np.concatenate(([True], least[1:] < least[:-1]))
    return order[better]


def _overall(found: list[Ranked]) -> list[Ranked]:
    """What is left of the fronts of several sweeps."""
    kept: list[Ranked] = []
    for stage in sorted({one.plan["zero_stage"] for one in found}):
        ones = [one for one in found if one.plan["zero_stage"] == stage]
        times, sizes = (np.array([getattr(one, name) for one in ones]) for name in ("time_s", "memory_bytes"))
        kept += [ones[i] for i in _front(times, sizes, np.ones(len(ones), dtype=bool))]
    return sorted(kept, key=lambda one: one.time_s)


def least_memory(model: Model, machine: Machine, task: Train, base: Plan, sweeps: list[Sweep]) -> float:
    """Bytes on the fullest device under the leanest layout."""
    return min(
        float(np.min(_memory(model, machine, task, plan)))
        for sweep, points in _pieces(sweeps)
        for plan, _ in divisions(model, machine, task, base, sweep, points)
    )


def _pieces(sweeps: list[Sweep]) -> Iterator[tuple[Sweep, np.ndarray]]:
    for sweep in sweeps:
        for start in range(0, sweep.size, CHUNK):
            yield sweep, np.arange(start, min(start + CHUNK, sweep.size))


def _scalars(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: float(v) if isinstance(v, np.floating) else v for name, v in fields.items()}


def _memory(model: Model, machine: Machine, task: Train, plan: Plan) -> Array:
    layout = complete(model, machine, plan, True)
    run, _ = execution(model, plan, layout, True)
    found = ledger(model, machine, run, layout, task, plan)
    total = np.broadcast_to(np.asarray(found.total_bytes, dtype=float), np.shape(layout.tp))
    for tier, room in found.rooms.items():
        total = np.where(np.asarray(found.kept_in(tier)) > room, np.inf, total)
    return total


def step_seconds(model: Model, machine: Machine, task: Train, plan: Plan) -> Array:
    """Expected seconds of the step for every layout of a plan of arrays."""
    loaded = under_load(machine)
    cost = evaluate(build(model, machine, task, plan).work, loaded)
    return np.broadcast_to(np.asarray(_seconds_alone(cost, loaded), dtype=float), np.shape(plan.zero_stage))


def _seconds_alone(cost: Cost, machine: Machine) -> Any:
    """The time of a cost without the account of who is responsible: only links, and what lies behind them, are shared by works
    that run side by side here.
    """
    links = machine.device.links
    shared = {*links, *map(outbound, links), *machine.tiers, "storage", "host", "host_memory"}
    if machine.link("host") is None:
        shared.add(machine.main_memory)

    def leaf(op: Op) -> Timing:
        timing = settle(cost.demands[id(op)])
        busy = {r: t for r, t in timing.busy_s.items() if r in shared}
        return Timing(timing.time_s, busy, {}, cost.partitions.get(id(op)))

    return combine(cost.work, leaf).time_s
