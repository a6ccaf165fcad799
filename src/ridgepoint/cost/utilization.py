"""How much of a device's peak rates a run uses: what the field calls MFU and MBU."""

from __future__ import annotations

import numpy as np

from ridgepoint.cost.evaluate import Cost
from ridgepoint.numeric import Num


def arithmetic_utilization(cost: Cost) -> Num:
    """Operations over what the engines that run them could do in the same time (recomputation counts as work).

    >>> from ridgepoint.cost.evaluate import evaluate
    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.ops import Gemm
    >>> square = Gemm(m=8192.0, n=8192.0, k=8192.0)
    >>> float(arithmetic_utilization(evaluate(square, find_machine("h100-sxm"), mode="bound")))
    1.0
    """
    seconds: Num = 0.0
    for key, flop in cost.flop.items():
        engine, _, format_name = key.partition("/")
        rate = cost.machine.engine_rate(engine, format_name)
        seconds = seconds + (flop / rate if rate else 0.0)
    return _over_time(seconds, cost)


def memory_utilization(cost: Cost) -> Num:
    """Least traffic with main memory over what its bandwidth could carry in the same time."""
    return _over_time(cost.bytes / cost.machine.memory_bytes_per_s, cost)


def _over_time(seconds: Num, cost: Cost) -> Num:
    share = np.asarray(seconds / np.maximum(cost.time_s, 1e-300))
    return float(share) if share.ndim == 0 else share
