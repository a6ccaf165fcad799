"""Storage: bytes over the bandwidth that the node's devices share, and the latency of requests.

    storage = bytes · devices per node / (bandwidth · efficiency)
    latency = access_s · max(accesses / queue_depth, 1)          requests in flight hide each other's latency

The bandwidth is that of the machine's sheet, or the table's where the sheet states none.
"""

from __future__ import annotations

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules, zero
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num
from ridgepoint.ops import Storage


def bytes_per_s(machine: Machine) -> float:
    """One device's share of the node's storage bandwidth."""
    sheet = machine.device.storage
    stated = sheet.bandwidth if sheet is not None else None
    return float(stated or machine.coefficients.storage.bandwidth) / machine.devices_per_node


def access_s(machine: Machine, accesses: Num) -> Num:
    """Latency of ``accesses`` requests, ``queue_depth`` of them in flight; a single one cannot hide."""
    table = machine.coefficients.storage
    return table.access_s * np.maximum(accesses / table.queue_depth, np.minimum(accesses, 1.0))


def bound(op: Storage, machine: Machine) -> Demand:
    """Bytes over the device's share of the bandwidth."""
    return Demand((Phase({"storage": _checked(op).bytes / bytes_per_s(machine)}),))


def expected(op: Storage, machine: Machine) -> Demand:
    """Achieved bandwidth, then the latency that the requests do not hide.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> whole, shared = (settle(expected(Storage(bytes=1e9), find_machine(m))).time_s for m in ("l4", "8xl4"))
    >>> bool(7.9 < shared / whole < 8.0)
    True
    """
    moved = _checked(op).bytes / (bytes_per_s(machine) * machine.coefficients.storage.efficiency)
    return Demand((Phase({"storage": moved}), Phase({"storage_latency": access_s(machine, op.accesses)})))


def _checked(op: Storage) -> Storage:
    if op.direction not in ("read", "write"):
        raise RidgepointError("bad_work", f"unknown storage direction '{op.direction}'", "use read or write")
    return op


RULES = Rules(zero, zero, zero, bound, expected, table="storage")
