"""Prompts and decode steps at the same time on shares of one device's multiprocessors (Nexus, Shi et al. 2025).

Each half is timed on a machine that has its multiprocessors only: rates and on-chip memories shrink with them, and the kernel
models say how much main memory bandwidth they draw. The half that decodes gets what the other leaves of the bandwidth while
both run. A half that is alone has the whole device.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.serving.engines import Engine, speeds
from ridgepoint.serving.passes import Passes
from ridgepoint.work import Seq

LEAST_BANDWIDTH = 0.1
"""Part of the main memory's bandwidth that decoding keeps however much prompts take."""


def partitioned(machine: Machine, part: float, memory: float = 1.0) -> Machine:
    """``machine`` whose devices have ``part`` of their multiprocessors and at most ``memory`` of the main memory's bandwidth.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> partitioned(find_machine("h100-sxm"), 0.5).multiprocessors
    66
    """
    device = machine.device
    count = max(round(device.chip.multiprocessors * part), 1)
    real = count / device.chip.multiprocessors
    engines = {
        name: msgspec.structs.replace(
            engine, rates={form: type(rate)(rate * real) for form, rate in engine.rates.items()}
        )
        for name, engine in device.engines.items()
    }
    scales = {"main": memory, "cache": real, "scratch": real}
    levels = {
        name: msgspec.structs.replace(level, bandwidth=type(level.bandwidth)(level.bandwidth * scales[level.role]))
        if level.bandwidth is not None and level.role in scales
        else level
        for name, level in device.memory.items()
    }
    power = device.power
    if power.tdp is not None:  # the other half draws the rest
        power = msgspec.structs.replace(power, tdp=type(power.tdp)(power.tdp * real))
    chip = msgspec.structs.replace(device.chip, multiprocessors=count)
    return replace(
        machine, device=msgspec.structs.replace(device, chip=chip, engines=engines, memory=levels, power=power)
    )


def checked(share: float, machine: Machine) -> float:
    """``share`` if a device can be divided so.

    Errors: ``bad_sharing``.
    """
    if not 0.0 < share < 1.0:
        raise RidgepointError(
            "bad_sharing", f"a share of {share:g} leaves a half nothing", "use more than 0, less than 1"
        )
    if machine.coefficients.device.fabric or machine.device.chip.multiprocessors < 2:
        raise RidgepointError("bad_sharing", f"{machine.device.name} has no multiprocessors to divide", "use a GPU")
    return share


def halves(found: Passes, engine: Engine, share: float, tokens: float) -> tuple[Passes, Passes, float]:
    """The passes of the half that reads prompts with ``share`` of the multiprocessors, in steps of about ``tokens`` tokens,
    and of the half that decodes, while both run; and the part of the bandwidth that the latter has.
    """
    machine = found.machine
    reading = replace(found, machine=partitioned(machine, share))
    step = Seq(reading.shared(tokens), reading.reading(tokens, 0.0), reading.choosing(1.0))
    timing = evaluate(step, reading.machine, strict=True).timing_at(speeds(machine, engine)).everywhere()
    busy = float(np.max(timing.busy_s.get(machine.main_memory, 0.0) / timing.time_s))
    left = max(1.0 - busy, LEAST_BANDWIDTH)
    return reading, replace(found, machine=partitioned(machine, 1.0 - share, left)), left
