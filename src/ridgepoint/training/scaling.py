"""How a step scales with the machine: the best layout for every number of devices (strong: the same batch; weak: a batch that
grows with the devices).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.tasks import Train
from ridgepoint.tasks.memory import usable_fraction
from ridgepoint.training.search import search
from ridgepoint.training.space import base_plan, sweeps
from ridgepoint.training.when_nothing_fits import grown

LEAST, MOST = 8, 131_072
"""Devices of the smallest and the largest machine."""
STEP = 4
"""Each machine has so many times the devices of the one before."""


@dataclass(frozen=True)
class Point:
    """The best layout on some number of devices; without a time where nothing fits or divides."""

    devices: int
    batch: int
    step_time_s: float | None
    tokens_per_s_per_device: float | None
    plan: Mapping[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        degrees = {} if self.plan is None else {name: int(self.plan[name]) for name in ("tp", "pp", "dp", "ep", "cp")}
        return {
            "devices": self.devices,
            "batch": self.batch,
            "step_time_s": self.step_time_s,
            "tokens_per_s_per_device": self.tokens_per_s_per_device,
            **degrees,
        }


def scaling(
    model: Model,
    machine: Machine,
    task: Train,
    fixed: Mapping[str, Any],
    weak: bool,
    progress: Callable[[int, int], None] | None = None,
) -> list[Point]:
    """The curve from ``LEAST`` to ``MOST`` devices, in steps of ``STEP`` times the given machine's node."""
    machines = list(_sizes(machine))
    found = []
    for i, one in enumerate(machines):
        batch = int(task.batch)
        if weak:
            batch = max(batch * one.devices // machine.devices, 1)
        found.append(_point(model, one, Train(batch=batch, seq=task.seq), fixed))
        if progress is not None:
            progress(i + 1, len(machines))
    return found


def _sizes(machine: Machine) -> Iterator[Machine]:
    """One node first, then more of them."""
    per_node = machine.devices_per_node
    node = Machine(
        machine.device.name if per_node == 1 else f"{per_node}x{machine.device.name}", machine.device, per_node
    )
    factor = 1
    while node.devices * factor <= MOST:
        one = grown(node, factor)
        if one is None:
            return
        if one.devices >= LEAST:
            yield one
        factor *= STEP


def _point(model: Model, machine: Machine, task: Train, fixed: Mapping[str, Any]) -> Point:
    base = base_plan(fixed)
    usable = machine.memory_bytes * usable_fraction(base, True)
    batch = int(task.batch)
    free = {name: value for name, value in fixed.items() if name != "dp"}
    # The curve needs the best time, not all its variants: sequence parallelism is never slower by more than its latency.
    free.setdefault("sequence_parallel", True)
    try:
        best = search(
            model, machine, task, base, sweeps(model, machine, batch, int(task.seq), free), usable, keep=1
        ).best
    except RidgepointError:
        best = ()
    if not best:
        return Point(machine.devices, batch, None, None, None)
    rate = float(task.batch * task.seq) / best[0].time_s / machine.devices
    return Point(machine.devices, batch, best[0].time_s, rate, best[0].plan)
