"""Peak rates and ridge points of a device: from which arithmetic intensity on it is limited by arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.description import Price
from ridgepoint.machines.machine import Machine


@dataclass(frozen=True)
class Ridge:
    """A peak rate over a bandwidth: ``flop_per_byte`` is where the roofline bends."""

    engine: str
    format: str
    flop_per_s: float
    level: str
    bytes_per_s: float

    @property
    def flop_per_byte(self) -> float:
        """Operations per byte at which both limits are equal."""
        return self.flop_per_s / self.bytes_per_s


def rates(machine: Machine) -> list[tuple[str, str, float]]:
    """(engine, format, peak operations per second) of the engines that multiply, fastest first, one per format."""
    best: dict[str, tuple[str, str, float]] = {}
    for name in ("matrix", "vector"):
        engine = machine.device.engines.get(name)
        for fmt, rate in (engine.rates if engine else {}).items():
            if fmt not in best or float(rate) > best[fmt][2]:
                best[fmt] = (name, fmt, float(rate))
    return sorted(best.values(), key=lambda item: -item[2])


def levels(machine: Machine) -> list[tuple[str, float]]:
    """(memory level, bytes per second): main memory, the last-level cache, slower tiers with a stated bandwidth."""
    found = [(machine.main_memory, machine.memory_bytes_per_s)]
    if machine.cache is not None:
        found.append((machine.cache[0], machine.cache[2]))
    tiers = machine.device.memory.items()
    return found + [(n, float(m.bandwidth)) for n, m in tiers if m.role == "tier" and m.bandwidth is not None]


def ridges(machine: Machine) -> list[Ridge]:
    """The ridge point of every format at every memory level.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> [round(r.flop_per_byte) for r in ridges(find_machine("h100-sxm")) if (r.format, r.level) == ("bf16", "hbm")]
    [295]
    """
    return [
        Ridge(engine, fmt, rate, level, bandwidth)
        for engine, fmt, rate in rates(machine)
        for level, bandwidth in levels(machine)
    ]


def wide_rate(machine: Machine) -> float | None:
    """Peak rate for 16-bit floating point, or the next wider format's; None where there is none."""
    try:
        return machine.arithmetic("bf16").flop_per_s
    except RidgepointError:
        return None


def facts(machine: Machine) -> dict[str, float | str | None]:
    """What a list of machines shows of one device: names, peak rate, memory, ridge point, power and price."""
    device, rate = machine.device, wide_rate(machine)
    price = device.price or Price()
    return {
        "name": machine.name,
        "title": device.title,
        "vendor": device.vendor,
        "kind": device.kind,
        "family": device.family,
        "released": device.released,
        "devices": machine.devices,
        "flop_per_s": rate,
        "memory_bytes": machine.memory_bytes,
        "memory_bytes_per_s": machine.memory_bytes_per_s,
        "ridge_flop_per_byte": None if rate is None else rate / machine.memory_bytes_per_s,
        "tdp_w": None if device.power.tdp is None else float(device.power.tdp),
        "usd_per_hour": price.usd_per_hour,
        "purchase_usd": price.purchase_usd,
    }
