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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.libraries import library
from ridgepoint.kernels.raster import reloads
from ridgepoint.kernels.rules import Rules, roofline
from ridgepoint.machines.machine import CLOCK_EXPONENT, Arithmetic, Machine
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
_LEAST_BYTES_PER_CLOCK = 16.0  # what a multiprocessor without fast 16-bit arithmetic receives from the cache
_LEAST_OVER_MEMORY = 1.4  # what the cache delivers over what main memory does: the least of measured designs (Titan Xp)
_SAME = {"bf16": "fp16"}  # formats that run alike
_WIDENING = "w"  # what names of products begin with whose weights are widened
_POWER_S = 2e-4  # how long a kernel runs before the power limit lowers its clock
_LEAST_VOLTAGE_HZ = 1e9  # clock below which the voltage stays
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


def product_name(acts: str, weights: str) -> str:
    """What a coefficient table calls a product: its multiply format (both 16-bit formats are ``fp16``), or ``w4a16``
    where narrow weights are widened.

    >>> product_name("bf16", "bf16"), product_name("bf16", "mxfp4"), product_name("fp8", "nvfp4")
    ('fp16', 'w4a16', 'w4a8')
    """
    wide, narrow = round(FORMATS[acts].bits), round(FORMATS[weights].bits)
    if narrow < wide and narrow <= 8:
        return f"w{narrow}a{wide}"
    name = multiply_format(acts, weights)
    return _SAME.get(name, name)


def own(values: Mapping[str, float], name: str, arithmetic: Arithmetic) -> float:
    """The entry of a product's name, unless the machine computes it in another format; else of that arithmetic."""
    computed = _SAME.get(arithmetic.format, arithmetic.format)
    native = name not in FORMATS or _SAME.get(FORMATS[name].math, FORMATS[name].math) == computed
    if native and name in values:
        return values[name]
    return values.get(computed, values["default"])


def _told(op: Gemm, name: str, efficiency: Mapping[str, float]) -> str:
    """The entry that tells a product's share of the peak: ``grouped-w4a16`` where only products in groups were measured,
    whose kernels say nothing of plain ones."""
    return f"grouped-{name}" if op.grouped and f"grouped-{name}" in efficiency else name


def share_of_peak(machine: Machine, name: str, arithmetic: Arithmetic) -> float:
    """Part of the engine's rate that large products reach. Where 8 bits run no faster than 16 (fp8 on TPU v6e and Gaudi 3),
    they reach as much: fewer bytes feed as many operations, and shares of engines twice as fast say nothing. Products that
    widen narrow weights reach no more than those of the format that they are widened to. Where an engine
    runs at half its design's rate, what keeps it waiting takes half as much of its time.
    """
    values = machine.coefficients.gemm.efficiency
    known = own(values, name, arithmetic)
    if name.startswith(_WIDENING):
        known = min(known, own(values, product_name(arithmetic.format, arithmetic.format), arithmetic))
    known = 1.0 / (1.0 + (1.0 / known - 1.0) * _permitted(machine, arithmetic))
    if FORMATS[arithmetic.format].bits > 8 or arithmetic.engine != "matrix" or not machine.computes("bf16"):
        return known
    wide = machine.arithmetic("bf16")
    same = wide.engine == arithmetic.engine and FORMATS[wide.format].bits == 16
    as_wide = own(values, product_name(wide.format, wide.format), wide) * wide.flop_per_s / arithmetic.flop_per_s
    return max(known, min(as_wide, 1.0)) if same else known


def _permitted(machine: Machine, arithmetic: Arithmetic) -> float:
    """Part of its design's rate that a vendor lets a matrix engine have: a GeForce card sums 16 and 8-bit floating-point
    products in 32 bits at half the rate, integers at all of it. A design does equal bits of both alike.
    """
    if arithmetic.engine != "matrix" or FORMATS[arithmetic.format].bits > 16 or not machine.computes("int8"):
        return 1.0
    integers = machine.arithmetic("int8")
    own_bits = arithmetic.flop_per_s * FORMATS[arithmetic.format].bits
    halved = integers.engine == "matrix" and own_bits < 0.6 * integers.flop_per_s * 8.0
    return 0.5 if halved and machine.device.kind == "gpu" else 1.0


def throttled(seconds: Num, efficiency: Num, machine: Machine, name: str, arithmetic: Arithmetic) -> Num:
    """Engine seconds when the power limit has had time to act: the clock falls until the power fits.

    Power goes with clock^2.4 (``CLOCK_EXPONENT``), the energy of an operation with clock^1.4. So a design's table holds it at
    1 GHz: within a generation it is nearly the same number from 1.4 to 2.5 GHz. An A100 with 300 W is 8 % slower than one
    with 400 W, not 25 %. Below 1 GHz the voltage falls no further, and power goes with the clock itself: cards of 70 W run
    there. Clocks follow within some hundred microseconds: a share t/(t + 0.2 ms) of a kernel of t seconds runs at the rate
    that the limit sustains.
    """
    if machine.device.power.tdp is None:
        return seconds
    drawn = np.maximum(overdraw(machine, name, arithmetic) * efficiency, 1.0)
    clock = max(float(machine.device.chip.clock) / _LEAST_VOLTAGE_HZ, 1.0)
    room = clock**CLOCK_EXPONENT / drawn  # power at the lowest voltage's clock, over what the limit leaves for it
    slower: Num = clock / np.minimum(room ** (1.0 / CLOCK_EXPONENT), room) - 1.0
    return seconds * (1.0 + slower * seconds / (seconds + _POWER_S))


def overdraw(machine: Machine, name: str, arithmetic: Arithmetic) -> float:
    """Power that products at peak rate would draw over the limit.

    Where nobody measured a narrow format, its engine draws at full rate what it draws with 16 bits: A100's does 0.8 times
    that with int8, B200's 1.0 and H100's 1.1 times with fp8. Where nobody measured the design, GPUs draw what is usual.
    """
    table, tdp = machine.coefficients.gemm, float(machine.device.power.tdp or np.inf)
    at_clock = (float(machine.device.chip.clock) / 1e9) ** (CLOCK_EXPONENT - 1.0)

    def ratio(name: str, arithmetic: Arithmetic) -> float:
        joule = own(table.joule_per_flop, name, arithmetic)
        if name.startswith(_WIDENING):  # the same operations, and the widening
            joule = max(
                joule, own(table.joule_per_flop, product_name(arithmetic.format, arithmetic.format), arithmetic)
            )
        return float(joule * at_clock * arithmetic.flop_per_s / tdp)

    known = ratio(name, arithmetic)
    if known > 0.0 or arithmetic.engine != "matrix":
        return known
    usual = table.overdraw if machine.device.kind == "gpu" else 0.0
    return (ratio("fp16", machine.arithmetic("fp16")) if machine.computes("fp16") else 0.0) or usual


def operand_bytes_per_s(machine: Machine) -> float:
    """What one multiprocessor receives from the last-level cache: balanced with its 16-bit rate, as designs are.

    Parts whose arithmetic was cut and whose memory was not (H20) keep the cache that their memory needs.
    """
    table, sms = machine.coefficients.gemm, machine.multiprocessors
    balanced = _wide_rate(machine) / (sms * table.operand_flop_per_byte)
    behind = _LEAST_OVER_MEMORY * machine.memory_bytes_per_s / sms
    return max(balanced, behind, _LEAST_BYTES_PER_CLOCK * float(machine.device.chip.clock))


def _wide_rate(machine: Machine) -> float:
    """The 16-bit rate; of a machine of integers alone, half of what it does with 8 bits, as designs have it."""
    if machine.computes("fp16"):
        return machine.arithmetic("fp16").flop_per_s / _permitted(machine, machine.arithmetic("fp16"))
    return machine.arithmetic("int8").flop_per_s / 2.0


def memory_draw(machine: Machine) -> float:
    """Bytes per second that a lone multiprocessor draws from main memory in a main loop.

    It grows with the share of the bandwidth that the design gives it, but less than in proportion (the loads in flight are
    limited): ``draw`` times the geometric mean of that share and 16 bytes per clock.
    """
    share = machine.memory_bytes_per_s / machine.multiprocessors
    typical = _LEAST_BYTES_PER_CLOCK * float(machine.device.chip.clock)
    return machine.coefficients.gemm.memory_draw * float(np.sqrt(share * typical))


def tiled(op: Gemm, machine: Machine, menu: Array | None = None) -> Demand:
    """All tiles of the menu (rows, columns, split of k) along a new leading axis; convolutions bring their own."""
    table, sms = machine.coefficients.gemm, machine.multiprocessors
    name = product_name(op.acts, op.weights)
    arithmetic = machine.arithmetic(multiply_format(op.acts, op.weights))
    cut = _cut(op, machine, menu, name, arithmetic)
    acts = FORMATS[op.acts].bytes

    timing, reach = ("grouped", table.grouped["default"]) if op.grouped else (name, 1.0)
    efficiency = share_of_peak(machine, _told(op, name, table.efficiency), arithmetic) * reach
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
