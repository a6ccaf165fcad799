"""A processor of which only some cores work.

A parallel loop gives every thread an equal part, so that all wait for the slowest core among those that work:

    rate of n threads = n · the slowest of n cores,   the fastest cores (or the slowest ones) first

Main memory and caches stay as they are, but fewer cores draw less of them: neighbours (as a virtual machine or
``numactl -C 0-7`` takes them) no more than the links of their dies carry, where the sheet states them,

    bandwidth = min(bandwidth, ⌈n / cores of a die⌉ · bandwidth of a die's link)

and each core no more than it has loads in flight for (``memory_bytes_per_clock`` of the kernels' coefficients).
"""

from __future__ import annotations

from msgspec.structs import replace

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.description import BytesPerSecond, Chip, Cores, Device, FlopPerSecond, MemoryLevel

PROCESSORS = ("cpu", "soc")
IN_ORDER = ("Cortex-A5", "Cortex-A7", "Cortex-A35", "Cortex-A53", "Cortex-A55", "Cortex-A510", "Cortex-A520")
"""Cores that issue instructions in their order (Arm's reference manuals): a family of their own in the catalogue."""


def with_threads(device: Device, threads: int, slowest: bool = False) -> Device:
    """The device with ``threads`` threads on its fastest cores, or on its slowest ones.

    >>> from ridgepoint.machines.catalog import find_device
    >>> board = find_device("rk3588")  # four cores of 38.4 GFLOP/s and four of 14.4
    >>> [round(float(with_threads(board, n).engines["vector"].rates["fp32"]) / 1e9, 1) for n in (1, 4, 8)]
    [38.4, 153.6, 115.2]
    >>> with_threads(board, 4, slowest=True).chip.multiprocessors
    4

    Errors: ``bad_machine`` for a device that is no processor, or for more threads than cores.
    """
    chip = device.chip
    if device.kind not in PROCESSORS:
        raise RidgepointError(
            "bad_machine", f"{device.name} is no processor: its threads cannot be chosen", "leave them out"
        )
    if threads > chip.multiprocessors:
        raise RidgepointError(
            "bad_machine",
            f"{device.name} has {chip.multiprocessors} cores, not {threads}",
            f"give at most {chip.multiprocessors} threads",
        )
    cores = [(float(kind.rate), kind.core) for kind in chip.kinds for _ in range(kind.count)]
    cores = cores or [(1.0, "")] * chip.multiprocessors
    used = sorted(cores, key=lambda core: core[0], reverse=not slowest)[:threads]
    last, core = min(used, key=lambda core: core[0])
    part = threads * last / sum(rate for rate, _ in cores)
    engines = {
        name: replace(engine, rates={key: FlopPerSecond(part * rate) for key, rate in engine.rates.items()})
        for name, engine in device.engines.items()
    }
    kinds = (Cores(core="in use", count=threads, rate=FlopPerSecond(last)),) if chip.kinds else ()
    family = "arm_in_order" if core in IN_ORDER else device.family
    idle = chip.multiprocessors - threads + (chip.idle or 0)
    memory = {name: _through_dies(level, chip, threads) for name, level in device.memory.items()}
    fewer = replace(chip, multiprocessors=threads, kinds=kinds, idle=idle or None)
    return replace(device, family=family, chip=fewer, engines=engines, memory=memory)


def _through_dies(level: MemoryLevel, chip: Chip, threads: int) -> MemoryLevel:
    """Main memory as the dies of ``threads`` neighbouring cores reach it."""
    if level.role != "main" or level.bandwidth is None or not chip.die_cores or not chip.die_bandwidth:
        return level
    links = -(-threads // chip.die_cores) * chip.die_bandwidth
    return replace(level, bandwidth=BytesPerSecond(min(level.bandwidth, links)))
