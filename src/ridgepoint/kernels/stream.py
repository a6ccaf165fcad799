"""Memory-bound kernels: bytes over the achieved bandwidth, beside simple arithmetic on the vector engine.

memory  = bytes / min(bandwidth · device.memory_efficiency · efficiency of the pattern, what active rows can draw)
vector  = simple operations / achieved rate;  special = exponentials, roots and reciprocals / achieved rate
time    = ‖memory, vector, special‖_p + launches · launch (+ reduction of the rows, longer where threads load single values)
"""

from __future__ import annotations

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num
from ridgepoint.ops import Stream

_FRAMEWORK = ("elementwise", "layer_norm", "batch_norm", "softmax", "gather", "copy", "permute", "optimizer", "sample")
# A formula as several small kernels of a framework, each of which waits for its last block.
_COMPOSED = ("unfused",)
# Serving engines' own kernels for gated activations and rotary embedding read one value at a time per thread, or shuffle
# rows; a framework's kernels of the same arithmetic are ``elementwise``. Their norms load 16 bytes at a time, as a
# framework's ``layer_norm`` does; those of 2023 loaded one value (``scalar_norm``). ``amax`` is the maximum of a tensor.
_ENGINE = ("gate", "rope", "norm", "scalar_norm", "quantize", "amax")
PATTERNS = (*_FRAMEWORK, *_COMPOSED, *_ENGINE)
_SERIAL_BYTES = {"scalar_norm": 16384.0}
"""Bytes of a row, read and written, that a block of 1,024 threads takes in the time of one reduction: where threads load
single values, one load waits for another."""


def flop(op: Stream) -> Num:
    """Simple operations and special functions, one each."""
    return op.flop + op.special


def read_bytes(op: Stream) -> Num:
    """What is read."""
    return op.read_bytes


def write_bytes(op: Stream) -> Num:
    """What is written."""
    return op.write_bytes


def _arithmetic(op: Stream, machine: Machine, efficiency: float) -> tuple[str, dict[str, Num]]:
    """Seconds on the engines that compute: simple operations on the vector engine, others on the special one."""
    engine = "vector" if "vector" in machine.device.engines else next(iter(machine.device.engines))
    rate = machine.engine_rate(engine, op.acts) or machine.vector_flop_per_s
    seconds: dict[str, Num] = {engine: op.flop / (rate * efficiency)}
    special = machine.engine_rate("special")
    if special:
        seconds["special"] = op.special / (special * efficiency)
    else:
        seconds[engine] = seconds[engine] + op.special / (rate * efficiency)
    return engine, seconds


def bound(op: Stream, machine: Machine) -> Demand:
    """Each byte once at peak bandwidth, operations at peak rate."""
    engine, seconds = _arithmetic(_checked(op), machine, 1.0)
    seconds[machine.main_memory] = (op.read_bytes + op.write_bytes) / machine.memory_bytes_per_s
    return Demand((Phase(seconds),), arithmetic=(engine, op.acts))


def expected(op: Stream, machine: Machine) -> Demand:
    """Achieved bandwidth of the pattern; few rows cannot draw all of it, and reducing a row takes time of its own.

    A tensor that a kernel just wrote may still be in the last-level cache. That is not counted on: what runs in between
    is not known here, and no estimate falls below ``bound``. A benchmark that repeats one small buffer is faster.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> gigabyte = Stream(read_bytes=5e8, write_bytes=5e8)
    >>> 3e-4 < settle(expected(gigabyte, find_machine("h100-sxm"))).time_s < 7e-4
    True
    """
    table, shared = machine.coefficients.stream, machine.coefficients.device
    engine, seconds = _arithmetic(_checked(op), machine, shared.vector_efficiency)
    gathers = op.pattern == "gather" and machine.device.kind == "gpu"
    reached = table.efficiency.get("default" if gathers else op.pattern, table.efficiency["default"])
    full = min(machine.memory_bytes_per_s * reached * shared.memory_efficiency, machine.drawn_bytes_per_s)
    if gathers:
        full = min(full, table.gather_bytes_per_clock * machine.multiprocessors * float(machine.device.chip.clock))
    if np.any(np.asarray(op.rows) > 0.0):
        one = np.maximum(shared.memory_bytes_per_clock * machine.device.chip.clock, full / machine.multiprocessors)
        active = np.where(np.asarray(op.rows) > 0.0, op.rows, machine.multiprocessors)
        full = np.minimum(full, np.maximum(active, 1.0) * one)
    seconds[machine.main_memory] = (op.read_bytes + op.write_bytes) / full
    phases = [Phase(seconds, table.sharpness), Phase({"launch": op.launches * shared.launch_s})]
    if np.any(np.asarray(op.rows) > 0.0):
        phases.append(Phase({"wave": np.where(np.asarray(op.rows) > 0.0, table.reduction_s * _serial(op), 0.0)}))
    return Demand(tuple(phases), arithmetic=(engine, op.acts))


def _serial(op: Stream) -> Num:
    """How many times the latency of a reduction passes for one row."""
    if op.pattern not in _SERIAL_BYTES:
        return 1.0
    row = (op.read_bytes + op.write_bytes) / np.maximum(op.rows, 1.0)
    return np.maximum(row / _SERIAL_BYTES[op.pattern], 1.0)


def _checked(op: Stream) -> Stream:
    if op.pattern not in PATTERNS:
        raise RidgepointError("bad_work", f"unknown stream pattern '{op.pattern}'", "use one of " + ", ".join(PATTERNS))
    return op


RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="stream", sources=("williams-2009",))
