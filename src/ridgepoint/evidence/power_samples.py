"""The highest sample of a board's power in a generation."""

from __future__ import annotations

import numpy as np

from ridgepoint.cost.energy import power_w
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num
from ridgepoint.work import Work, occurrences

SAMPLED_S = 0.1
"""Seconds that a sample stands for: the interval at which NVML and DCGM are usually read."""
LEAST_SHARE = 0.05
"""Least part of a pass that an op takes for a sample to show its power."""


def peak_w(reading: Work, machine: Machine, mean: Num) -> Num:
    """The highest sample where the pass that reads the prompt is ``reading`` and the whole generation has the ``mean`` power.

    A sample shows the pass's hungriest kernels as far as the pass fills it, and the mean beside them:

        peak = mean + (hungriest − mean) · min(seconds of the pass / 0.1 s, 1)

    since the host's part of a pass comes before its kernels run, not between them.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.ops import Gemm
    >>> product = Gemm(m=16384.0, n=16384.0, k=16384.0, acts="fp16", weights="fp16", out="fp16")
    >>> bool(200.0 < peak_w(product, find_machine("a100-sxm-80gb"), 200.0) <= 400.0)
    True
    """
    whole_s = evaluate(reading, machine, strict=True).time_s
    highest: Num = mean
    for op, count in occurrences(reading):
        run = evaluate(op, machine, strict=True).timing
        power = power_w(machine, run.busy_s, run.time_s)
        if power is not None:
            highest = np.maximum(highest, np.where(count * run.time_s >= LEAST_SHARE * whole_s, power, 0.0))
    found: Num = mean + (highest - mean) * np.minimum(whole_s / SAMPLED_S, 1.0)
    return found
