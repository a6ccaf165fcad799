"""A machine: one device, or nodes and clusters of it, with the coefficients of its kernels.

Kernel models ask this module three things: which engine computes a format, which memory holds the data, which link joins a
group of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.machines.coefficients import Coefficients, coefficients_of
from ridgepoint.machines.description import Device, Link, MemoryLevel

CLOCK_EXPONENT = 2.4
"""Dynamic power over clock, both relative, in the range where voltage still falls with frequency."""


@dataclass(frozen=True)
class Arithmetic:
    """What computes a format: engine, the format that it really runs in, dense peak rate; a note where they differ."""

    engine: str
    format: str
    flop_per_s: float
    note: str = ""


@dataclass(frozen=True)
class Tier:
    """A larger, slower memory behind the main one, as one device has it.

    ``link`` is the link that it is reached over, ``bytes_per_s`` what the memory itself delivers; a side that the sheet
    does not state does not limit.
    """

    capacity_bytes: float
    bytes_per_s: float | None
    link: str | None
    latency_s: float | None


@dataclass(frozen=True)
class Machine:
    """``nodes`` nodes of ``devices_per_node`` equal devices. ``name`` is what the user typed, e.g. ``16x8xh100-sxm``."""

    name: str
    device: Device
    devices_per_node: int = 1
    nodes: int = 1

    @property
    def devices(self) -> int:
        """All devices."""
        return self.nodes * self.devices_per_node

    @cached_property
    def memo(self) -> dict[Any, Any]:
        """What was computed for this machine already, kept by those who compute it (kernel demands of single ops)."""
        return {}

    @cached_property
    def coefficients(self) -> Coefficients:
        """What real kernels reach on this device."""
        return coefficients_of(self.device)

    @cached_property
    def multiprocessors(self) -> int:
        """Multiprocessors (or cores) of one device; one where they work on a tile together."""
        return 1 if self.coefficients.device.fabric else self.device.chip.multiprocessors

    @cached_property
    def parallel_efficiency(self) -> float:
        """Part of its cores' summed rate that an operator keeps: 1 / (1 + serial · (cores − 1)) (Amdahl 1967)."""
        return 1.0 / (1.0 + self.coefficients.device.serial * (self.multiprocessors - 1))

    @cached_property
    def main_memory(self) -> str:
        """Name of the main memory: the resource that weights and activations stream from."""
        return next(name for name, level in self.device.memory.items() if level.role == "main")

    @cached_property
    def memory_bytes(self) -> float:
        """Capacity of one device's main memory."""
        return float(self.device.memory[self.main_memory].capacity)

    @cached_property
    def memory_bytes_per_s(self) -> float:
        """Peak bandwidth of one device's main memory."""
        return float(self.device.memory[self.main_memory].bandwidth or 0.0)

    @cached_property
    def drawn_bytes_per_s(self) -> float:
        """What the cores that work draw from main memory where others idle; no limit where all of them work.

        >>> from ridgepoint.machines.catalog import find_machine
        >>> [round(find_machine(f"xeon-8280@threads={n}").drawn_bytes_per_s / 1e9, 1) for n in (1, 2)]
        [39.6, 79.2]
        """
        if not self.device.chip.idle:
            return float("inf")
        one = self.coefficients.device.memory_bytes_per_clock * self.device.chip.clock
        return float(self.multiprocessors * one)

    @cached_property
    def cache(self) -> tuple[str, float, float] | None:
        """The last-level cache: (resource name, capacity in bytes, bytes per second), or None.

        Where the sheet states no bandwidth it is ``cache_bytes_per_clock`` × multiprocessors × clock.
        """
        level = self._largest("cache")
        if level is None:
            return None
        name, cache = level
        clocked = self.coefficients.device.cache_bytes_per_clock * self.multiprocessors * self.device.chip.clock
        return name, float(cache.capacity), float(cache.bandwidth or clocked)

    @cached_property
    def tiers(self) -> dict[str, Tier]:
        """The memories behind the main one, as one device sees them: its part of a pool that others share."""
        found = {}
        for name, level in self.device.memory.items():
            if level.role == "tier":
                sharers = min(level.shared_by or 1, self.devices)
                own = None if level.bandwidth is None else float(level.bandwidth) / sharers
                found[name] = Tier(float(level.capacity) / sharers, own, level.link, level.latency)
        return found

    def _largest(self, role: str) -> tuple[str, MemoryLevel] | None:
        levels = [(name, level) for name, level in self.device.memory.items() if level.role == role]
        return max(levels, key=lambda item: item[1].capacity, default=None)

    def arithmetic(self, format_name: str) -> Arithmetic:
        """The fastest engine for a format; one that the machine lacks, or is slow in, runs in a wider one (design §4).

        Errors: ``no_arithmetic`` when no wider format exists on the machine either.
        """
        if format_name not in self._arithmetic:
            self._arithmetic[format_name] = self._fastest(format_name)
        return self._arithmetic[format_name]

    @cached_property
    def _arithmetic(self) -> dict[str, Arithmetic]:
        """Those asked for so far."""
        return {}

    def _fastest(self, format_name: str) -> Arithmetic:
        wanted = FORMATS[format_name]
        known = [key for key in (wanted.math, *wanted.wider) if key in self._rates]
        if known:
            # Libraries widen where the native format is slower, as fp16 on GeForce 10.
            best = max(known, key=lambda key: self._rates[key][0])
            rate, engine = self._rates[best]
            return Arithmetic(engine, best, rate, self._widened(wanted.math, best))
        have, further = sorted(self._rates), "," if set(self.name) & set("@:") else "@"
        usual = next((key for key in ("bf16", "fp16") if key in have), have[0] if have else "int8")
        raise RidgepointError(
            "no_arithmetic",
            f"{self.device.name} computes neither {format_name} nor any wider format",
            f"formats that it has: {', '.join(have)}; take one, as with --weights {usual}, or say what else it reaches: "
            f"{self.name}{further}vector=100G",
        )

    def computes(self, format_name: str) -> bool:
        """Whether an engine takes the format, itself or widened."""
        wanted = FORMATS[format_name]
        return any(key in self._rates for key in (wanted.math, *wanted.wider))

    def _widened(self, wanted: str, used: str) -> str:
        if used == wanted:
            return ""
        why = "is slower in" if wanted in self._rates else "has no"
        return f"{self.device.name} {why} {wanted} arithmetic: products run in {used}"

    @cached_property
    def _rates(self) -> dict[str, tuple[float, str]]:
        rates: dict[str, tuple[float, str]] = {}
        for engine in ("matrix", "vector"):
            for key, rate in (self.device.engines[engine].rates if engine in self.device.engines else {}).items():
                rates[key] = max(rates.get(key, (0.0, "")), (float(rate), engine))
        return rates

    def engine_rate(self, engine: str, format_name: str = "fp32") -> float | None:
        """Peak rate of one engine for a format (its widest slower one when missing), or None without the engine."""
        sheet = self.device.engines.get(engine)
        if sheet is None:
            return None
        wanted = FORMATS[format_name]
        for key in (wanted.math, *wanted.wider):
            if key in sheet.rates:
                return float(sheet.rates[key])
        return float(max(sheet.rates.values()))

    @property
    def vector_flop_per_s(self) -> float:
        """fp32 rate of the engine that runs everything but matrix products."""
        rate = self.engine_rate("vector")
        return rate if rate is not None else max(rate for rate, _ in self._rates.values())

    def link(self, scope: str) -> tuple[str, Link] | None:
        """The fastest link of a scope (``node``, ``host``, ``cluster``) with its resource name.

        Devices without a ``node`` link talk through the ``host`` link.
        """
        found = [(name, link) for name, link in self.device.links.items() if link.scope == scope]
        if not found and scope == "node":
            return self.link("host")
        return max(found, key=lambda item: item[1].bandwidth, default=None)

    def resource_label(self, resource: str) -> str:
        """How a report names a resource: ``HBM3 bandwidth``, ``tensor cores``, ``kernel launch``."""
        device = self.device
        if resource in device.engines:
            return device.engines[resource].label
        if resource in device.memory:
            return f"{device.memory[resource].label} bandwidth"
        if resource in device.links:
            return f"{device.links[resource].label} bandwidth"
        if inbound(resource) in device.links:
            return f"outward {device.links[inbound(resource)].label} bandwidth"
        return _LABELS.get(resource, resource.replace("_", " "))


_OUTWARDS = "_out"


def outbound(link: str) -> str:
    """The resource of a link's other direction: links carry as much out of a device as into it, at the same time.

    >>> outbound("pcie"), inbound(outbound("pcie")), inbound("pcie")
    ('pcie_out', 'pcie', 'pcie')
    """
    return link + _OUTWARDS


def inbound(resource: str) -> str:
    """The link that a direction belongs to."""
    return resource.removesuffix(_OUTWARDS)


_LABELS = {
    "launch": "kernel launch",
    "host": "host processor",
    "host_memory": "host memory bandwidth",
    "storage": "storage bandwidth",
    "delay": "fixed delay",
    "l2": "cache bandwidth",
    "link_latency": "link latency",
    "network_latency": "network latency",
    "wave": "in-kernel latency",
    "storage_latency": "storage latency",
}
