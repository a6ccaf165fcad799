"""Energy and money of a run: power from what is busy, price from the catalogue (design §3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.description import Watts
from ridgepoint.machines.machine import CLOCK_EXPONENT, Machine
from ridgepoint.numeric import Num, plain

ON_CHIP = ("cache", "scratch")
"""Roles of memories whose rate goes with the device's clock."""


def power_w(machine: Machine, busy_s: Mapping[str, Num], time_s: Num) -> Num | None:
    """Mean power of one device: idle + (limit − idle) · Σ_r weight_r · busy_r / time, at most the limit.

    None where the machine's sheet states no power limit. Weights are the family's ``power`` table.
    """
    power, table = machine.device.power, machine.coefficients.power
    if power.tdp is None:
        return None
    idle = power.idle if power.idle is not None else table.idle_fraction * power.tdp
    time = np.maximum(time_s, 1e-300)
    weights = table.weights
    activity: Num = sum(
        (weights.get(r, weights["default"]) * np.minimum(t / time, 1.0) for r, t in busy_s.items()), 0.0
    )
    return idle + (power.tdp - idle) * np.minimum(activity, 1.0)


def capped(machine: Machine, power: Num, limit_w: float) -> tuple[Num, Num]:
    """(power, slowdown) when a limit below the device's own is set: the clock falls until the power fits.

    Dynamic power goes with f·V², and voltage nearly with frequency where limits bind: P − idle ∝ f^2.4.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> power, slower = capped(find_machine("a100-sxm-80gb"), 400.0, 250.0)
    >>> power, 1.2 < slower < 1.6
    (250.0, True)
    """
    sheet, table = machine.device.power, machine.coefficients.power
    idle = sheet.idle if sheet.idle is not None else table.idle_fraction * (sheet.tdp or 0.0)
    above = np.maximum(np.asarray(power) - idle, 1e-9)
    room = np.maximum(np.minimum(np.asarray(power), limit_w) - idle, 0.05 * above)
    slower = (above / room) ** (1.0 / CLOCK_EXPONENT)
    return plain(np.minimum(power, limit_w)), plain(slower)


def idle_w(machine: Machine) -> float | None:
    """Power of a device that does nothing, or None where the sheet states no limit."""
    power = machine.device.power
    if power.tdp is None:
        return None
    return float(power.idle if power.idle is not None else machine.coefficients.power.idle_fraction * power.tdp)


def clock_under(machine: Machine, limit_w: float) -> float:
    """The clock over the usual one at which a device under full load keeps a power limit.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> clock_under(find_machine("h100-sxm"), 700.0), 0.5 < clock_under(find_machine("mi300x"), 300.0) < 0.8
    (1.0, True)

    Errors: ``bad_power_cap`` where the sheet states no limit, or for a cap that an idle device exceeds.
    """
    tdp, idle = machine.device.power.tdp, idle_w(machine)
    if tdp is None or idle is None:
        raise RidgepointError("bad_power_cap", f"the sheet of {machine.name} states no power limit")
    if not idle < limit_w:
        raise RidgepointError(
            "bad_power_cap", f"a cap of {limit_w:g} W is below the idle power", f"use more than {idle:.0f} W"
        )
    return 1.0 / float(capped(machine, tdp, min(limit_w, float(tdp)))[1])


def under_cap(machine: Machine, limit_w: float) -> Machine:
    """The machine with its devices capped to ``limit_w``: all that follows the clock slows, and the dynamic power with it.

    Errors: those of ``clock_under``.
    """
    clock = clock_under(machine, limit_w)
    if clock == 1.0:
        return machine
    slowed, power = _at_clock(machine, clock), machine.device.power
    known = msgspec.structs.replace(
        power, tdp=Watts(min(limit_w, float(power.tdp or 0.0))), idle=Watts(idle_w(machine) or 0.0)
    )
    levels = {
        name: msgspec.structs.replace(level, bandwidth=type(level.bandwidth)(level.bandwidth * clock))
        if level.bandwidth is not None and level.role in ON_CHIP
        else level
        for name, level in slowed.device.memory.items()
    }
    device = msgspec.structs.replace(
        slowed.device, power=known, memory=levels, coefficients=_longer_inside(machine, clock)
    )
    return replace(slowed, device=device)


IN_KERNEL = {
    "gemm": ("split_s", "step_s"), "scan": ("step_s",),
    "stream": ("reduction_s",),
}  # fmt: skip
"""Coefficients that are latencies inside a kernel, in seconds at the clock of the sheet (those of attention are in clocks)."""


def _longer_inside(machine: Machine, clock: float) -> dict[str, Any]:
    """The device's coefficients with latencies inside kernels at another clock."""
    found = dict(machine.device.coefficients)
    for table, names in IN_KERNEL.items():
        values: dict[str, Any] = dict(found.get(table, {}))
        for name in names:
            usual = getattr(getattr(machine.coefficients, table), name)
            values[name] = {k: v / clock for k, v in usual.items()} if isinstance(usual, dict) else usual / clock
        found[table] = values
    return found


def under_load(machine: Machine) -> Machine:
    """The machine at the clock that it keeps through seconds of dense products: ``power.sustained_clock`` of the one at
    which short measurements run. Memory and links have clocks of their own.
    """
    share = machine.coefficients.power.sustained_clock
    if share == 1.0:
        return machine
    return _at_clock(machine, share)


def _at_clock(machine: Machine, share: float) -> Machine:
    """The machine with its engines at a part of their clock."""
    device = machine.device
    engines = {
        name: msgspec.structs.replace(
            engine, rates={key: type(rate)(rate * share) for key, rate in engine.rates.items()}
        )
        for name, engine in device.engines.items()
    }
    chip = msgspec.structs.replace(device.chip, clock=type(device.chip.clock)(device.chip.clock * share))
    return replace(machine, device=msgspec.structs.replace(device, engines=engines, chip=chip))


def usd(machine: Machine, device_seconds: Num) -> Num | None:
    """What ``device_seconds`` cost at the catalogue's hourly price, or None where it has none."""
    price = machine.device.price
    if price is None or price.usd_per_hour is None:
        return None
    return device_seconds * price.usd_per_hour / 3600.0
