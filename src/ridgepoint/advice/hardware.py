"""What hardware buys as much: a faster part of the same machine, or another machine of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.machines.catalog import device_names, find_device, find_machine
from ridgepoint.machines.description import Device
from ridgepoint.machines.machine import Machine

TWICE = 2.0
LEAST = 0.02
SHORTLIST = 3


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
    """Catalogue machines of the same kind with as many devices on which the run fits and is faster, fastest first.

    The candidates are those with the best rates for this run, and those with the best rates for their price.
    """
    given = est.scenario
    here = given.machine
    found = []
    for device in _candidates(est):
        prefix = f"{here.nodes}x{here.devices_per_node}x" if here.nodes > 1 else f"{here.devices_per_node}x"
        try:
            machine = find_machine(device.name if here.devices == 1 else prefix + device.name)
            there = Estimate(replace(given, machine=machine), est.strict, est.mode)
        except RidgepointError:  # no link of the kind, no room for the layout
            continue
        if not bool(there.memory.fits) or float(there.time_s) >= float(est.time_s):
            continue
        costs = there.cost_usd, est.cost_usd
        ratio = None if None in costs else float(costs[0] / costs[1])
        found.append(OtherMachine(machine.name, device.title, there, float(est.time_s) / float(there.time_s), ratio))
    return sorted(found, key=lambda other: -other.speedup)[:top]


def _candidates(est: Estimate) -> list[Device]:
    """Devices of the same kind whose rates promise most for the run's mix of memory and arithmetic, alone and per dollar."""
    here = est.scenario.machine
    others = [find_device(name) for name in device_names()]
    others = [d for d in others if d.kind == here.device.kind and d.name != here.device.name]
    promise = {d.name: _promise(est, Machine(d.name, d)) for d in others}
    prices = {d.name: d.price.usd_per_hour for d in others if d.price is not None and d.price.usd_per_hour}
    fast = sorted(others, key=lambda d: -promise[d.name])[:SHORTLIST]
    cheap = sorted((d for d in others if d.name in prices), key=lambda d: -promise[d.name] / prices[d.name])[:SHORTLIST]
    return list({d.name: d for d in (*fast, *cheap)}.values())


def _promise(est: Estimate, there: Machine) -> float:
    """Harmonic mean of the rates' ratios, weighted by what the run waits for: memory, or anything else as arithmetic."""
    here = est.scenario.machine
    memory = float(est.shares.get(here.main_memory, 0.0))
    bandwidth = there.memory_bytes_per_s / here.memory_bytes_per_s
    arithmetic = there.arithmetic("bf16").flop_per_s / here.arithmetic("bf16").flop_per_s
    return 1.0 / (memory / max(bandwidth, 1e-9) + (1.0 - memory) / max(arithmetic, 1e-9))
