"""Matrix products: tiles in waves over the multiprocessors, split-K, operand reload through the last-level cache.

The model of one kernel:

    tiles   = ⌈m/tm⌉ · ⌈n/tn⌉ · batch · s                       s = split of k
    waves   = ⌈tiles / multiprocessors⌉
    engine  = waves · tm · tn · ⌈k/s⌉ · 2 / (peak/multiprocessors · efficiency · shape(tm, tn))
    cache   = tiles · (tm·a + tn·w) · ⌈k/s⌉ bytes over the last-level cache
    memory  = (a·m·k + w·k·n + o·m·n) · batch bytes over main memory, from as many multiprocessors as have a tile
    time    = ‖engine, cache, memory‖_p + waves · prologue + split reduction + launch

and the library takes the best tile and split of a menu. Ideas: tile and wave quantization (NVIDIA, "Matrix Multiplication
Background User's Guide"), split-K (CUTLASS documentation).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules, roofline
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, ceil_div, distinct
from ridgepoint.ops import Gemm

# (rows, columns, split of k) of one tile: the usual shapes of CUTLASS and cuBLAS kernels.
_TILES = ((256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64), (32, 128), (16, 128), (16, 64))
_SPLITS = (1, 2, 4, 8, 16)
_MENU = np.array([(m, n, s) for m, n in _TILES for s in _SPLITS], dtype=float)


def flop(op: Gemm) -> Num:
    """2·m·n·k per product."""
    return 2.0 * op.m * op.n * op.k * op.batch


def read_bytes(op: Gemm) -> Num:
    """Both operands once, in their stored formats."""
    left = op.m * op.k * FORMATS[op.acts].bytes * (1.0 if op.shared_input else op.batch)
    return left + op.k * op.n * FORMATS[op.weights].bytes * op.batch


def write_bytes(op: Gemm) -> Num:
    """The result once."""
    return op.m * op.n * FORMATS[op.out].bytes * op.batch


def bound(op: Gemm, machine: Machine) -> Demand:
    """The roofline of one product: peak rate, each operand once."""
    return roofline(machine, flop(op), multiply_format(op.acts, op.weights), read_bytes(op) + write_bytes(op))


def expected(op: Gemm, machine: Machine) -> Demand:
    """The tiled model of the module's docstring; scalar or array, sweeps evaluated on their distinct shapes.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> square = Gemm(m=8192.0, n=8192.0, k=8192.0)
    >>> 1.1e-3 < settle(expected(square, find_machine("h100-sxm"))).time_s < 2.2e-3
    True
    """
    found = distinct(op.m, op.n, op.k, op.batch, op.imbalance)
    if found is None:
        return _tiled(op, machine)
    (m, n, k, batch, imbalance), spread = found
    return replace(_tiled(replace(op, m=m, n=n, k=k, batch=batch, imbalance=imbalance), machine), spread=spread)


def _tiled(op: Gemm, machine: Machine) -> Demand:
    """All tiles of the menu along a new leading axis."""
    table, shared = machine.coefficients.gemm, machine.coefficients.device
    arithmetic = machine.arithmetic(multiply_format(op.acts, op.weights))
    sms, clock = machine.multiprocessors, machine.device.chip.clock
    points = np.broadcast(op.m, op.n, op.k, op.batch, op.imbalance).ndim
    tm, tn, split = (_MENU[:, i].reshape(-1, *([1] * points)) for i in range(3))

    depth = ceil_div(op.k, split)
    row_tiles = _row_tiles(op, tm)
    tiles = row_tiles * ceil_div(op.n, tn) * op.batch * split
    waves = ceil_div(tiles, sms)

    efficiency = table.efficiency.get(arithmetic.format, table.efficiency["default"]) * _shape(tm, tn, table.tile_half)
    seconds: dict[str, Num] = {
        arithmetic.engine: waves * tm * tn * depth * 2.0 * sms / (arithmetic.flop_per_s * efficiency)
    }
    active = np.minimum(tiles, sms)
    draw = np.minimum(
        machine.memory_bytes_per_s * shared.memory_efficiency, active * shared.memory_bytes_per_clock * clock
    )
    seconds[machine.main_memory] = (read_bytes(op) + write_bytes(op)) / draw
    if machine.cache is not None:
        name, _, cache_bytes_per_s = machine.cache
        operands = tm * FORMATS[op.acts].bytes + tn * FORMATS[op.weights].bytes
        reduction = op.m * op.n * op.batch * 8.0 * np.where(split > 1, split, 0.0)
        seconds[name] = (tiles * operands * depth + reduction) / cache_bytes_per_s
    if op.weights != op.acts and FORMATS[op.weights].bits < FORMATS[op.acts].bits:
        widened = row_tiles * op.k * op.n * op.batch * table.dequantize_flop
        seconds["vector"] = seconds.get("vector", 0.0) + widened / (machine.vector_flop_per_s * shared.vector_efficiency)
    overhead = {"launch": shared.launch_s + np.where(split > 1, 0.5 * shared.launch_s, 0.0), "wave": waves * table.wave_s}
    return Demand(
        (Phase(seconds, table.sharpness), Phase({"launch": overhead["launch"]}), Phase({"wave": overhead["wave"]})),
        alternatives=True,
        notes=(arithmetic.note,) if arithmetic.note else (),
        arithmetic=(arithmetic.engine, arithmetic.format),
    )


def _row_tiles(op: Gemm, tm: Num) -> Num:
    """Tiles along m. A group's rows vary, so that its last tile is half empty on average."""
    rows = op.m * op.imbalance
    return np.maximum(rows / tm + 0.5, 1.0) if op.grouped else ceil_div(rows, tm)


def _shape(tm: Num, tn: Num, half: float) -> Num:
    """Efficiency of a tile relative to 256 × 128: small tiles reload operands from shared memory more often."""
    intensity = tm * tn / (tm + tn)
    largest = 256.0 * 128.0 / (256.0 + 128.0)
    return intensity / (intensity + half) * (largest + half) / largest


RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="gemm", sources=("williams-2009",))
