"""Work of the host processor: what a framework spends to start kernels, and other time on the CPU.

    host        = (launches · dispatch + seconds) / workers
    host_memory = bytes · devices per node / what is reached of the host memory's bandwidth      side by side

A device waits for this only where nothing hides it (eager decode of small models, pre- and post-processing). Launches
inside one captured graph cost the device's own ``launch_s`` instead and belong to the kernels; the graph as a whole
costs ``graph_launch_s``, which the caller adds as ``seconds``.
"""

from __future__ import annotations

import numpy as np

from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules, zero
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num
from ridgepoint.ops import Host


def _workers(op: Host, machine: Machine) -> Num:
    """Processes that really run at once: at most this device's share of the node's cores, where they are known."""
    host = machine.device.host
    if host is None or host.cores is None:
        return op.workers
    return np.minimum(op.workers, np.maximum(host.cores / machine.devices_per_node, 1.0))


MEMORY_BYTES_PER_S = 200e9
"""Of a host whose sheet states none: eight channels of DDR4-3200."""
MEMORY_EFFICIENCY = 0.8
"""What streaming passes reach of a server's memory (STREAM, McCalpin 1995)."""


def peak_bytes_per_s(machine: Machine) -> float:
    """Bandwidth of a node's host memory: as its sheet states it, or as is usual."""
    host = machine.device.host
    stated = host.memory_bandwidth if host is not None else None
    return float(stated or MEMORY_BYTES_PER_S)


def reached_bytes_per_s(machine: Machine) -> float:
    """What the host reads of its memory per second, all devices of the node together; frameworks' products reach less.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> round(reached_bytes_per_s(find_machine("l4@host-bandwidth=307.2G")) / 1e9, 1)
    245.8
    """
    return peak_bytes_per_s(machine) * MEMORY_EFFICIENCY


def _memory(op: Host, machine: Machine, bytes_per_s: float) -> dict[str, Num]:
    if not np.any(np.asarray(op.bytes) > 0.0):
        return {}
    return {"host_memory": op.bytes * machine.devices_per_node / bytes_per_s}


def _notes(op: Host, machine: Machine) -> tuple[str, ...]:
    host = machine.device.host
    if not np.any(np.asarray(op.bytes) > 0.0) or (host is not None and host.memory_bandwidth is not None):
        return ()
    return (
        f"the sheet states no bandwidth of the host's memory: {MEMORY_BYTES_PER_S / 1e9:.0f} GB/s per node assumed",
    )


def bound(op: Host, machine: Machine) -> Demand:
    """The stated seconds over the workers; dispatch is overhead that a better framework avoids."""
    return Demand(
        (Phase({"host": op.seconds / _workers(op, machine), **_memory(op, machine, peak_bytes_per_s(machine))}),)
    )


def expected(op: Host, machine: Machine) -> Demand:
    """Launches at the framework's time, compiled or interpreted, plus the stated seconds, over the workers.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> h100 = find_machine("h100-sxm")
    >>> one, two = (settle(expected(Host(launches=1000.0, workers=w), h100)).time_s for w in (1.0, 2.0))
    >>> bool(one == 2 * two)
    True
    """
    table = machine.coefficients.host
    seconds = op.launches * (table.eager_s if op.eager else table.dispatch_s) + op.seconds
    busy = {"host": seconds / _workers(op, machine), **_memory(op, machine, reached_bytes_per_s(machine))}
    return Demand((Phase(busy),), notes=_notes(op, machine))


RULES = Rules(zero, zero, zero, bound, expected, table="host")
