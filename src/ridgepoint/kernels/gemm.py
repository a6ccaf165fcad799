"""Matrix products: tiles in waves over the multiprocessors, split-K, operand reload through the last-level cache.

The model of one kernel:

    tiles   = ⌈m/tm⌉ · ⌈n/tn⌉ · batch · s                       s = split of k, each ⌈k/s⌉ deep
    load    = max(w, 1) + tail · (⌈w⌉ − max(w, 1))              w = tiles / multiprocessors
    engine  = load · tm · tn · ⌈k/s⌉ · 2 / (rate of one multiprocessor · efficiency · shape(tm, tn))
    cache   = load · (tm·a + tn·b) · ⌈k/s⌉ bytes over what one multiprocessor receives from the last-level cache
    memory  = (a·m·k · A + b·k·n · B + o·m·n) · batch bytes over main memory, from as many multiprocessors as have a tile
    fill    = ⌈w / r⌉ · tm · tn · (fill bytes / a) · 2 / (rate of one multiprocessor · efficiency · shape(tm, tn))
    time    = ‖engine, cache, memory‖_p + fill + split reduction + start

and the library takes the best tile and split of a menu (``libraries``: those that it has). Where tiles follow each other in
strips, operands beyond the cache are read A and B times (``raster``). A wave fills and drains a pipeline of a few steps of k,
whatever the generation: 200 to 280 bytes on V100, A100, H100, B200 and L40S alike (r = 1; on vector engines tiles that run
side by side hide it for each other). Steps of the main loop have a latency that lone tiles show; long kernels run at the
rate that the power limit sustains. Ideas: tile and wave quantization (NVIDIA, "Matrix Multiplication Background User's
Guide"), split-K and stream-K (CUTLASS; Osama et al. 2023).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.libraries import library
from ridgepoint.kernels.raster import reloads
from ridgepoint.kernels.rates import memory_draw, operand_bytes_per_s, own, product_name, share_of_peak, throttled, told
from ridgepoint.kernels.rules import Rules, roofline
from ridgepoint.machines.machine import Arithmetic, Machine
from ridgepoint.numeric import Array, Num, ceil_div, distinct
from ridgepoint.ops import Gemm

# (rows, columns) of one multiprocessor's tile and splits of k: the usual shapes of CUTLASS, cuBLAS and Triton kernels.
_LARGE = ((256, 128), (128, 256), (192, 128), (128, 192), (128, 128), (256, 64), (64, 256))
_SMALL = ((128, 64), (64, 128), (64, 64), (32, 128), (128, 32), (32, 64), (64, 32))
_NARROW = ((16, 128), (128, 16), (16, 64), (64, 16))
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 32)
_MENU = np.array([(m, n, s) for m, n in (*_LARGE, *_SMALL, *_NARROW) for s in _SPLITS], dtype=float)
# A vector engine computes single rows without padding them; matrix engines have no smaller tiles.
_ROWS = np.array([(m, n, s) for m, n in ((1, 64), (2, 64), (4, 64), (8, 64)) for s in _SPLITS], dtype=float)
_LEAST_TILE = 16.0  # rows of a matrix engine's smallest tile
_RESIDENT = 32768.0  # accumulators that one multiprocessor holds: smaller tiles run side by side and hide latency
_SIZES = ("m", "n", "k", "batch", "imbalance", "stored", "unpack_flop", "computed", "tile_rows", "row_tiles")
_ROWS_HALF = 1.0  # single rows keep their operands in registers: what the fits of processors say (families x86 and arm)
_SCATTER_CLOCKS = 1.5  # of a multiprocessor per element of batched results in 32 bits: five GPUs of four generations
_STEP_BYTES = 64.0  # the main loop takes k in pieces of at least this many bytes per row


def flop(op: Gemm) -> Num:
    """2·m·n·k per product, of which an engine that skips zeros does ``computed``."""
    return 2.0 * op.m * op.n * op.k * op.batch * op.computed


def read_bytes(op: Gemm) -> Num:
    """Both operands once, as memory holds them."""
    left = op.m * op.k * FORMATS[op.acts].bytes * (1.0 if op.shared_input else op.batch)
    return left + op.k * op.n * FORMATS[op.weights].bytes * op.batch * op.stored


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
    found = distinct(*(getattr(op, name) for name in _SIZES))
    if found is None:
        return tiled(op, machine)
    picked, spread = found
    sizes: dict[str, Any] = dict(zip(_SIZES, picked, strict=True))
    return replace(tiled(replace(op, **sizes), machine), spread=spread)


def tiled(op: Gemm, machine: Machine, menu: Array | None = None) -> Demand:
    """All tiles of the menu (rows, columns, split of k) along a new leading axis; convolutions bring their own."""
    table, sms = machine.coefficients.gemm, machine.multiprocessors
    name = product_name(op.acts, op.weights)
    arithmetic = machine.arithmetic(multiply_format(op.acts, op.weights))
    cut = _cut(op, machine, menu, name, arithmetic)
    acts = FORMATS[op.acts].bytes

    timing, reach = ("grouped", table.grouped["default"]) if op.grouped else (name, 1.0)
    efficiency = share_of_peak(machine, told(op, name, table.efficiency), arithmetic) * reach
    engine_rate = arithmetic.flop_per_s * efficiency * _shape(cut.tm, cut.tn, table.tile_half)
    busy = cut.load * cut.tm * cut.tn * cut.depth * op.computed * (2.0 * sms) / engine_rate
    beside = np.clip(_RESIDENT / (cut.tm * cut.tn), 1.0, 4.0)
    fills = np.ceil(cut.waves / beside) if arithmetic.engine == "vector" else np.ceil(cut.waves)
    fill = fills * cut.tm * cut.tn * (table.fill_bytes / acts) * (2.0 * sms) / engine_rate
    seconds: dict[str, Num] = {arithmetic.engine: throttled(busy, efficiency, machine, name, arithmetic)}
    seconds[machine.main_memory] = _memory_s(op, machine, cut)
    cache, received = (machine.cache or ("l2",))[0], operand_bytes_per_s(machine) * reach
    fed = max(acts, FORMATS[arithmetic.format].bytes) if arithmetic.note else acts  # activations are widened beforehand
    row_and_column = cut.tm * fed + cut.tn * FORMATS[op.weights].bytes * op.stored
    seconds[cache] = cut.load * row_and_column * cut.depth / received
    if np.any(cut.separate):
        clocks = np.where(cut.separate, op.m * op.n * op.batch * _SCATTER_CLOCKS / sms, 0.0)
        seconds[cache] = np.asarray(seconds[cache] + clocks / float(machine.device.chip.clock))
    rounds = np.maximum(cut.waves / beside, 1.0)
    seconds["wave"] = rounds * cut.depth * (acts / 128.0) * own(table.step_s, timing, arithmetic)
    if (widened := _widening_s(op, machine, cut)) is not None:
        seconds["vector"] = seconds.get("vector", 0.0) + widened
    parts = np.where(cut.split > 1.0, cut.split, 0.0)
    partial_sums = parts * op.m * op.n * op.batch * 4.0 / (received * sms)
    return Demand(
        (
            Phase(seconds, table.sharpness),
            Phase({cache: partial_sums}),
            Phase({"wave": fill + np.where(cut.split > 1.0, table.split_s, 0.0)}),
            Phase({"launch": own(table.start_s, timing, arithmetic)}),
        ),
        alternatives=True,
        notes=(arithmetic.note,) if arithmetic.note else (),
        arithmetic=(arithmetic.engine, arithmetic.format),
    )


@dataclass(frozen=True)
class _Cut:
    """How a product is cut: ``tm`` × ``tn`` values of a tile over ``depth`` of k, ``split`` tiles for each of them, ``down``
    and ``across`` tiles of the result, ``waves`` of all tiles, and the ``load`` of the busiest multiprocessor in tiles.
    """

    tm: Num
    tn: Num
    split: Num
    depth: Num
    down: Num
    across: Num
    waves: Num
    load: Num
    separate: Any
    """Where kernels for batches in 32 bits run, which neither split k nor write whole rows."""


def _cut(op: Gemm, machine: Machine, menu: Array | None, name: str, arithmetic: Arithmetic) -> _Cut:
    """The cuts of the menu; without one, of the tiles that the product's library has."""
    table, habits, vector = machine.coefficients.gemm, library(op.library), arithmetic.engine == "vector"
    points = np.broadcast(*(getattr(op, name) for name in _SIZES)).ndim
    plain = machine.device.kind == "gpu" and vector and not (menu is not None or op.grouped)
    separate: Any = np.asarray(op.batch) > 1.0 if plain else False
    if menu is None:
        whole_k = own(table.max_split, name, arithmetic) <= 1.0 or habits.split_rows < 1.0
        menu = _menu(vector, habits.largest, whole_k)
    tm, tn, split = (column.reshape(-1, *([1] * points)) for column in menu.T)
    if plain or habits.split_rows < np.inf:
        split = np.where(separate | (np.asarray(op.m) > habits.split_rows), 1.0, split)
    if np.any(np.asarray(op.tile_rows) > 0.0):
        tm = np.where(np.asarray(op.tile_rows) > 0.0, op.tile_rows, tm)
    step = _STEP_BYTES / min(FORMATS[op.acts].bytes, 4.0)
    depth = ceil_div(op.k, split * step) * step
    down, across = _row_tiles(op, tm), ceil_div(op.n, tn)
    waves = down * across * op.batch * split / machine.multiprocessors
    full = np.maximum(waves, 1.0)
    load = full + table.tail * (np.ceil(waves) - full)
    return _Cut(tm, tn, split, depth, down, across, waves, load, separate)


def _memory_s(op: Gemm, machine: Machine, cut: _Cut) -> Num:
    """Operands and result once, and what tiles in strips read again, at what the busy multiprocessors draw."""
    table, sms, order = machine.coefficients.gemm, machine.multiprocessors, library(op.library).order
    draw = np.minimum(
        min(machine.memory_bytes_per_s * table.memory_efficiency, machine.drawn_bytes_per_s),
        np.minimum(cut.waves * sms, sms) * memory_draw(machine),
    ) * (table.grouped_memory["default"] if op.grouped else 1.0)
    moved: Num = read_bytes(op) + write_bytes(op)
    if order and machine.cache is not None:
        size = (op.m * op.k * FORMATS[op.acts].bytes, op.k * op.n * FORMATS[op.weights].bytes * op.stored)
        more = reloads(order, (cut.down, cut.across), size, sms, machine.cache[1])
        moved = moved + (more[0] * size[0] + more[1] * size[1]) * op.batch
    return moved / draw


def _widening_s(op: Gemm, machine: Machine, cut: _Cut) -> Num | None:
    """Seconds of the vector engine that turns weights into what the product reads, for every row of tiles; None: nothing to."""
    narrow = op.weights != op.acts and FORMATS[op.weights].bits < FORMATS[op.acts].bits
    per_value = op.unpack_flop + (machine.coefficients.gemm.dequantize_flop if narrow else 0.0)
    if not (narrow or np.any(np.asarray(per_value) > 0.0)):
        return None
    rate = machine.vector_flop_per_s * machine.coefficients.device.vector_efficiency
    return cut.down * op.k * op.n * op.batch * per_value / rate


@functools.cache
def _menu(vector: bool, largest: float, whole_k: bool) -> Array:
    """The tiles and splits of an engine whose longest side is at most ``largest``; ``whole_k``: k is never split."""
    menu: Array = np.concatenate([_MENU, _ROWS]) if vector else _MENU
    keep = (menu[:, :2].max(axis=1) <= largest) & ((menu[:, 2] == 1.0) | (not whole_k))
    return np.asarray(menu[keep])


def _row_tiles(op: Gemm, tm: Num) -> Num:
    """Tiles along m. A group's rows vary, so that its last tile is half empty on average."""
    rows = op.m * op.imbalance
    if not op.grouped:
        return ceil_div(rows, tm)
    usual = np.maximum(rows / tm + 0.5, 1.0)
    known = np.asarray(op.row_tiles) > 0.0
    return np.where(known, op.row_tiles, usual) if np.any(known) else usual


def _shape(tm: Num, tn: Num, half: float) -> Num:
    """Efficiency of a tile relative to 256 × 128: small tiles reload operands more often, from the shared memory of a
    multiprocessor; the rows of a vector engine lie in its registers, and what they reload is the cache's work.
    """
    intensity = tm * tn / (tm + tn)
    largest = 256.0 * 128.0 / (256.0 + 128.0)
    reload = np.where(tm < _LEAST_TILE, np.minimum(half, _ROWS_HALF), half)
    return intensity / (intensity + reload) * (largest + reload) / largest


RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="gemm", sources=("williams-2009",))
