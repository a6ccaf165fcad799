"""Copies between a device's memory and another tier: host memory over the host link, storage, or a tier of its own.

    host:     bytes / (link · efficiency) + pieces · latency         pageable memory has an efficiency of its own
    storage:  max(bytes / storage, bytes / link) + request latency    the two stages stream side by side
    tier:     max(bytes / tier, bytes / link) + pieces · latency      a memory of role ``tier`` on the sheet, by its name

Links are full duplex: what leaves the device (``write``) and what arrives are resources of their own, so that copies of both
directions side by side take the time of the longer one (PCIe Base Specification; NVLink-C2C). Both share the host's memory,
which is faster than either on every machine of the catalogue.

On Grace machines the host link is NVLink-C2C, otherwise PCIe. Without a host link what lies in host memory lies in the
device's largest tier, or, where it has none (a CPU, a chip with unified memory), is copied within main memory: each byte is
read once and written once there.
"""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels import storage
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules, zero
from ridgepoint.machines.machine import Machine, outbound
from ridgepoint.numeric import Num
from ridgepoint.ops import Transfer

TIERS = ("host", "storage")
DIRECTIONS = ("read", "write", "inside")


def read_bytes(op: Transfer) -> Num:
    """What leaves the device's memory."""
    return op.bytes if op.direction == "write" else 0.0


def write_bytes(op: Transfer) -> Num:
    """What arrives in the device's memory."""
    return op.bytes if op.direction == "read" else 0.0


def _own_tier(op: Transfer, machine: Machine) -> str:
    """The device's own tier that the bytes lie in: the one named, or the largest where there is no host to reach; or none."""
    if op.tier in machine.tiers:
        return op.tier
    behind = op.tier == "host" and machine.link("host") is None and machine.tiers
    return max(machine.tiers, key=lambda name: machine.tiers[name].capacity_bytes) if behind else ""


def _tier(op: Transfer, machine: Machine, efficiency: float, memory_efficiency: float) -> dict[str, Num]:
    """Seconds of a tier's memory, of which a device has its share, and of the link that it is reached over."""
    tier = machine.tiers[op.tier]
    seconds: dict[str, Num] = {}
    if tier.bytes_per_s is not None:
        seconds[op.tier] = op.bytes / (tier.bytes_per_s * memory_efficiency)
    if tier.link is not None:
        seconds[_way(tier.link, op)] = op.bytes / (float(machine.device.links[tier.link].bandwidth) * efficiency)
    return seconds


def _moved(op: Transfer, machine: Machine, efficiency: float, memory_efficiency: float) -> dict[str, Num]:
    """Seconds on the path between the device and its host, or to a tier of its own."""
    own = _own_tier(op, machine)
    if own:
        return _tier(replace(op, tier=own), machine, efficiency, memory_efficiency)
    link = machine.link("host")
    if link is None:
        return {machine.main_memory: 2.0 * op.bytes / (machine.memory_bytes_per_s * memory_efficiency)}
    name, sheet = link
    return {_way(name, op): op.bytes / (float(sheet.bandwidth) * efficiency)}


def _way(link: str, op: Transfer) -> str:
    """The direction of a link that the bytes take."""
    return outbound(link) if op.direction == "write" else link


def bound(op: Transfer, machine: Machine) -> Demand:
    """Bytes over the peak bandwidth of the slowest stage."""
    seconds = _moved(_checked(op, machine), machine, 1.0, 1.0)
    if op.tier == "storage":
        seconds["storage"] = op.bytes / storage.bytes_per_s(machine)
    return Demand((Phase(seconds),))


def expected(op: Transfer, machine: Machine) -> Demand:
    """Achieved bandwidth of the stages plus one start per piece (a storage request per piece for that tier).

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> pcie = settle(expected(Transfer(bytes=1e9), find_machine("h100-sxm"))).time_s
    >>> c2c = settle(expected(Transfer(bytes=1e9), find_machine("gb200"))).time_s
    >>> 0.015 < pcie < 0.025 and c2c < pcie / 3
    True
    """
    table = machine.coefficients.transfer
    efficiency = table.efficiency if op.pinned else table.pageable_efficiency
    seconds = _moved(_checked(op, machine), machine, efficiency, machine.coefficients.device.memory_efficiency)
    if op.tier != "storage":
        tier = machine.tiers.get(_own_tier(op, machine))
        start = table.latency_s if tier is None else (tier.latency_s or table.latency_s)
        return Demand((Phase(seconds), Phase({"link_latency": op.pieces * start})))
    seconds["storage"] = op.bytes / (storage.bytes_per_s(machine) * machine.coefficients.storage.efficiency)
    latency = storage.access_s(machine, op.pieces)
    return Demand((Phase(seconds), Phase({"storage_latency": latency}), Phase({"link_latency": table.latency_s})))


def _checked(op: Transfer, machine: Machine) -> Transfer:
    known = (*TIERS, *machine.tiers)
    if op.tier not in known:
        raise RidgepointError("bad_work", f"unknown transfer tier '{op.tier}'", "use one of " + ", ".join(known))
    if op.direction not in DIRECTIONS:
        raise RidgepointError(
            "bad_work", f"unknown transfer direction '{op.direction}'", "use " + ", ".join(DIRECTIONS)
        )
    return op


RULES = Rules(zero, read_bytes, write_bytes, bound, expected, table="transfer")
