"""What hardware buys as much: a faster part of the same machine, or another machine of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.machines.catalog import device_names, find_device, find_machine

TWICE = 2.0
LEAST = 0.02


@dataclass(frozen=True)
class FasterPart:
    """A resource twice as fast: ``speedup`` of the run; ``infinite`` if it took no time at all."""

    resource: str
    label: str
    speedup: float
    infinite: float


@dataclass(frozen=True)
class OtherMachine:
    """The same run on another machine with as many devices."""

    machine: str
    title: str
    estimate: Estimate
    speedup: float
    cost_ratio: float | None
    """Dollars for the same work, there over here; None where either has no price."""


def faster_parts(est: Estimate) -> list[FasterPart]:
    """Each resource twice as fast, the one that helps most first."""
    machine = est.scenario.machine
    found = []
    for name, share in est.shares.items():
        if float(share) < LEAST:
            continue
        faster = est.cost.timing_at({name: TWICE})
        gained = float(est.cost.time_s) / float(faster.time_s)
        found.append(FasterPart(name, machine.resource_label(name), gained, float(est.limits[name])))
    return sorted(found, key=lambda part: -part.speedup)


def other_machines(est: Estimate, top: int = 5) -> list[OtherMachine]:
    """Catalogue machines of the same kind with as many devices on which the run fits and is faster, fastest first."""
    given = est.scenario
    here = given.machine
    found = []
    for name in device_names():
        device = find_device(name)
        if device.kind != here.device.kind or name == here.device.name:
            continue
        prefix = f"{here.nodes}x{here.devices_per_node}x" if here.nodes > 1 else f"{here.devices_per_node}x"
        try:
            machine = find_machine(name if here.devices == 1 else prefix + name)
            there = Estimate(replace(given, machine=machine), est.strict, est.mode)
        except RidgepointError:  # no link of the kind, no room for the layout
            continue
        if not bool(there.memory.fits) or float(there.time_s) >= float(est.time_s):
            continue
        costs = there.cost_usd, est.cost_usd
        ratio = None if None in costs else float(costs[0] / costs[1])
        found.append(OtherMachine(machine.name, device.title, there, float(est.time_s) / float(there.time_s), ratio))
    return sorted(found, key=lambda other: -other.speedup)[:top]
