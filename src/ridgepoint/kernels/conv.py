"""Convolutions as implicit matrix products; small fp32 filters with Winograd; depthwise ones on the vector engine.

The product (``conv_counts.py``) is tiled like any other (``gemm.py``); only memory traffic is that of the tensors
themselves: the matrix of patches is formed on chip (Chetlur et al. 2014, "cuDNN"). Cores of processors have ways of their
own (``conv_cores.py``).

On the vector engine dense 3 × 3 filters with stride 1 may run as F(2×2, 3×3) in one kernel, 2.25 times fewer
multiplications, in blocks of 32 filters × 32 image tiles × 16 products (Lavin and Gray 2016), the tiles 4 × 8 of one image, as
cuDNN's ``winograd_128x128_…_tile148`` says in its name; or as F(4×4, 3×3), 4 times fewer, whose transformed operands pass
through memory between kernels. The plain sum on the vector engine is always possible: it is what depthwise filters use.

Compared with cuDNN of 2016 to 2023 on Pascal, Volta and Turing (fp32, fp16); tensor-core convolutions after Volta, depthwise
filters and grouped ones were not measured kernel by kernel.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.kernels import gemm, rates
from ridgepoint.kernels.conv_cores import by_channels
from ridgepoint.kernels.conv_counts import (
    as_gemm,
    checked,
    flop,
    is_winograd,
    out_size,
    read_bytes,
    tensors,
    winograd_gemm,
    winograd_saving,
    write_bytes,
)
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules, roofline
from ridgepoint.machines.coefficients import ConvTable
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array, Num, ceil_div, distinct
from ridgepoint.ops import Conv, Gemm

# (rows, columns, split of k): libraries split the sum of a convolution in the gradient of the weights alone.
_TILES = ((256, 128), (128, 256), (256, 64), (128, 128), (128, 64), (64, 128), (64, 64), (128, 32), (32, 128))
_WHOLE = np.array([(m, n, 1) for m, n in _TILES], dtype=float)
_SPLIT = np.array([(m, n, s) for m, n in _TILES for s in (1, 2, 4, 8, 16, 32)], dtype=float)
_NEVER = 1e-6
"""Efficiency of what an engine cannot do: any other way is faster."""
_BLOCK_TILES = (4.0, 8.0)
"""Rows and columns of image tiles that a block of the fused Winograd kernel takes from one image."""
_BLOCK_FILTERS = 32.0
_CHANNELS_AT_ONCE = 8.0
_TRANSFORM_CHANNELS = 16.0
"""Channels whose time a block takes to begin and to transform its sums back."""
_NUMBERS = ("batch", "c_in", "c_out", "h", "w", "kh", "kw", "stride", "pad_h", "pad_w", "groups")


def bound(op: Conv, machine: Machine) -> Demand:
    """The roofline: the least multiplications that libraries know at peak rate, each tensor once."""
    format_name = multiply_format(op.acts, op.weights)
    least = flop(op) / winograd_saving(op, machine.arithmetic(format_name).engine)
    return roofline(machine, least, format_name, read_bytes(op) + write_bytes(op))


def expected(op: Conv, machine: Machine) -> Demand:
    """The fastest of the tiled product, Winograd where it applies, and the plain sum on the vector engine.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> layer = Conv(batch=64.0, c_in=256.0, c_out=256.0, h=14.0, w=14.0, kh=3.0, kw=3.0, pad_h=1.0, pad_w=1.0)
    >>> bool(2e-5 < settle(expected(layer, find_machine("h100-sxm"))).time_s < 1.2e-4)
    True
    """
    found = distinct(*(getattr(checked(op), name) for name in _NUMBERS))
    if found is None:
        return _expected(op, machine)
    values, spread = found
    rows: dict[str, Any] = dict(zip(_NUMBERS, values, strict=True))
    return replace(_expected(replace(op, **rows), machine), spread=spread)


def _expected(op: Conv, machine: Machine) -> Demand:
    table = machine.coefficients.conv
    if table.channels_half > 0.0:
        return by_channels(op, machine)
    arithmetic = machine.arithmetic(multiply_format(op.acts, op.weights))
    gradient = table.gradient_efficiency if op.direction == "bwd_weight" else 1.0
    windowed = table.efficiency.get(arithmetic.format, table.efficiency["default"]) * gradient
    # A filter of one position is a plain product: there are no patches to gather.
    efficiency = np.where(np.asarray(op.kh * op.kw) == 1.0, gradient, windowed)
    if arithmetic.engine == "matrix":  # which loads several channels at once
        efficiency = np.where(np.asarray(op.c_in / op.groups) == 1.0, _NEVER, efficiency)
    granularity = 1.0 if arithmetic.engine == "vector" else 16.0 / FORMATS[op.acts].bytes
    direct = _product(op, machine, as_gemm(op, granularity), _menu(op), efficiency)
    ways = [direct, _plain(op, machine, direct)]
    if arithmetic.engine == "vector" and FORMATS[arithmetic.format].bits > 8:  # transformed bytes overflow
        ways += [_where(is_winograd(op), way, direct) for way in _winograd(op, machine, table, direct)]
    return _fastest(ways)


def _menu(op: Conv) -> Array:
    return _SPLIT if op.direction == "bwd_weight" else _WHOLE


def _product(op: Conv, machine: Machine, product: Gemm, menu: Array, efficiency: Num, more: Num = 0.0) -> Demand:
    """The tiled product with the traffic of the tensors, and so many bytes more, in memory."""
    tiled = gemm.tiled(product, machine, menu)
    own = gemm.read_bytes(product) + gemm.write_bytes(product)
    moved = (read_bytes(op) + write_bytes(op) + more) / own
    engine = machine.arithmetic(multiply_format(op.acts, op.weights)).engine
    seconds = dict(tiled.phases[0].seconds)
    seconds[engine] = seconds[engine] / efficiency
    seconds[machine.main_memory] = seconds[machine.main_memory] * moved
    phases = (Phase(seconds, tiled.phases[0].sharpness), *tiled.phases[1:])
    points = np.broadcast_shapes(*(np.shape(getattr(op, name)) for name in _NUMBERS))
    return replace(tiled, phases=tuple(_rows(phase, len(menu), points) for phase in phases))


def _rows(phase: Phase, count: int, points: tuple[int, ...]) -> Phase:
    """Each alternative a row, each point a column, in every resource."""
    return replace(phase, seconds={r: np.broadcast_to(t, (count, *points)) for r, t in phase.seconds.items()})


def _plain(op: Conv, machine: Machine, like: Demand) -> Demand:
    """One multiply-add after the other on the vector engine, as depthwise kernels do; phases as in ``like``."""
    table, shared = machine.coefficients.conv, machine.coefficients.device
    first: dict[str, Num] = dict.fromkeys(like.phases[0].seconds, 0.0)
    engine = "vector" if "vector" in machine.device.engines else next(iter(machine.device.engines))
    rate = min(machine.engine_rate(engine, multiply_format(op.acts, op.weights)) or math.inf, machine.vector_flop_per_s)
    first[engine] = flop(op) / (rate * table.depthwise_efficiency)
    moved = read_bytes(op) + write_bytes(op)
    first[machine.main_memory] = moved / (machine.memory_bytes_per_s * shared.memory_efficiency)
    return _alone(first, machine, like)


def _alone(first: dict[str, Num], machine: Machine, like: Demand) -> Demand:
    """One way of a first phase and a launch, with the phases of ``like``."""
    points = np.shape(next(iter(like.phases[0].seconds.values())))[1:]
    phases = [_rows(Phase(first, like.phases[0].sharpness), 1, points)]
    for phase in like.phases[1:]:
        launch = machine.coefficients.device.launch_s
        seconds: dict[str, Num] = {r: launch if r == "launch" else 0.0 for r in phase.seconds}
        phases.append(_rows(Phase(seconds), 1, points))
    return replace(like, phases=tuple(phases))


def _winograd(op: Conv, machine: Machine, table: ConvTable, like: Demand) -> list[Demand]:
    """F(2×2, 3×3) in one kernel where there is one, and F(4×4, 3×3) whose operands pass through memory."""
    if op.direction == "bwd_weight":
        return [_staged_winograd(op, machine, _SPLIT, table.gradient_efficiency)]
    return [_fused_winograd(op, machine, table.winograd_efficiency, like), _staged_winograd(op, machine, _WHOLE, 1.0)]


def _staged_winograd(op: Conv, machine: Machine, menu: Array, efficiency: float) -> Demand:
    """36 products of transformed operands, in kernels one after the other: transform both, multiply, transform back."""
    product = winograd_gemm(op, 4.0)
    staged = gemm.read_bytes(product) + gemm.write_bytes(product)
    untransformed = read_bytes(op) + write_bytes(op)
    multiplied = _product(op, machine, product, menu, efficiency, staged - untransformed)
    shared, (main, sums, *between, start) = machine.coefficients.device, multiplied.phases
    streamed = (staged + untransformed) / (machine.memory_bytes_per_s * shared.memory_efficiency)
    passes = replace(sums, seconds={**sums.seconds, machine.main_memory: streamed})
    launches = replace(start, seconds={"launch": start.seconds["launch"] + 3.0 * shared.launch_s})
    points = np.broadcast_shapes(*(np.shape(getattr(op, name)) for name in _NUMBERS))
    phases = (main, _rows(passes, len(menu), points), *between, launches)
    return replace(multiplied, phases=phases)


def _fused_winograd(op: Conv, machine: Machine, efficiency: float, like: Demand) -> Demand:
    """Blocks of 32 filters × 4 × 8 image tiles of 2 × 2 values, one at a time on a multiprocessor; phases as in ``like``.

        time = ⌈blocks / multiprocessors⌉ · (channels + 16) · 16 · 32 · 32 multiply-adds at the engine's rate

    A block has 16 products of 32 × 32, and its tiles are of one image: small images leave it empty in part.
    """
    height, width = (op.h, op.w) if op.direction == "bwd_data" else out_size(op)
    channels, filters = (op.c_out, op.c_in) if op.direction == "bwd_data" else (op.c_in, op.c_out)
    down, across = _BLOCK_TILES
    tiles = op.batch * ceil_div(ceil_div(height, 2.0), down) * ceil_div(ceil_div(width, 2.0), across)
    turns = tiles * ceil_div(filters, _BLOCK_FILTERS) / machine.multiprocessors
    rounds = np.ceil(turns)
    depth = ceil_div(channels, _CHANNELS_AT_ONCE) * _CHANNELS_AT_ONCE + _TRANSFORM_CHANNELS

    name, arithmetic = rates.product_name(op.acts, op.weights), machine.arithmetic(multiply_format(op.acts, op.weights))
    sums = 2.0 * 16.0 * _BLOCK_FILTERS * down * across * machine.multiprocessors
    busy = rounds * depth * sums / (arithmetic.flop_per_s * efficiency)
    received = (16.0 * _BLOCK_FILTERS + (2.0 * down + 2.0) * (2.0 * across + 2.0)) * FORMATS[op.acts].bytes
    # A kernel before it reads the 9 values of each filter and writes 16, which are then read in their place.
    moved = read_bytes(op) + write_bytes(op) + tensors(op)[1] * 32.0 / 9.0
    first: dict[str, Num] = dict.fromkeys(like.phases[0].seconds, 0.0)
    first[arithmetic.engine] = rates.throttled(busy, efficiency * turns / rounds, machine, name, arithmetic)
    first[machine.main_memory] = moved / (machine.memory_bytes_per_s * machine.coefficients.gemm.memory_efficiency)
    first[(machine.cache or ("l2",))[0]] = rounds * depth * received / rates.operand_bytes_per_s(machine)
    return _alone(first, machine, like)


def _where(condition: NDArray[np.bool_], a: Demand, b: Demand) -> Demand:
    """``a`` where the condition holds, else the first alternative of ``b``."""
    phases = []
    for x, y in zip(a.phases, b.phases, strict=True):
        first = {r: np.asarray(t)[:1] for r, t in y.seconds.items()}
        names = dict.fromkeys((*x.seconds, *first))
        none = np.zeros_like(next(iter(x.seconds.values())))
        phases.append(
            replace(x, seconds={r: np.where(condition, x.seconds.get(r, none), first.get(r, 0.0)) for r in names})
        )
    return replace(a, phases=tuple(phases))


def _fastest(demands: list[Demand]) -> Demand:
    """The alternatives of several demands of equal phases, one after the other."""
    phases = []
    for parts in zip(*(d.phases for d in demands), strict=True):
        names = dict.fromkeys(name for part in parts for name in part.seconds)
        zeros = [np.zeros_like(next(iter(part.seconds.values()))) for part in parts]
        rows: dict[str, Num] = {
            name: np.concatenate([p.seconds.get(name, z) for p, z in zip(parts, zeros, strict=True)]) for name in names
        }
        phases.append(Phase(rows, parts[0].sharpness))
    return replace(demands[0], phases=tuple(phases))


_SOURCES = ("chetlur-2014", "lavin-2016", "williams-2009")
RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="conv", sources=_SOURCES)
