"""Energy and money of a run: power from what is busy, price from the catalogue (design §3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np

from ridgepoint.machines.machine import CLOCK_EXPONENT, Machine
from ridgepoint.numeric import Num, plain


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


def under_load(machine: Machine) -> Machine:
    """The machine at the clock that it keeps through seconds of dense products: ``power.sustained_clock`` of the one at
    which short measurements run. Memory and links have clocks of their own.
    """
    share = machine.coefficients.power.sustained_clock
    if share == 1.0:
        return machine
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
