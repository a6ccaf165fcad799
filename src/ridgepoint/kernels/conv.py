"""Convolutions as implicit matrix products; small fp32 filters with Winograd; depthwise ones on the vector engine.

    forward     m = batch·out_h·out_w      n = c_out/groups           k = c_in/groups·kh·kw
    bwd_data    m = batch·h·w              n = c_in/groups            k = c_out/groups·⌈kh/stride⌉·⌈kw/stride⌉
    bwd_weight  m = c_out/groups           n = c_in/groups·kh·kw      k = batch·out_h·out_w

with out = ⌊(in + 2·pad − filter)/stride⌋ + 1. The product is tiled like any other (``gemm.py``); only memory traffic is
that of the tensors themselves: the matrix of patches is formed on chip (Chetlur et al. 2014, "cuDNN").

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

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.kernels import gemm
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules, roofline
from ridgepoint.machines.coefficients import ConvTable
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array, Num, ceil_div, distinct
from ridgepoint.ops import Conv, Gemm

DIRECTIONS = ("fwd", "bwd_data", "bwd_weight")
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


def out_size(op: Conv) -> tuple[Num, Num]:
    """Height and width of the output.

    >>> image = {"batch": 1.0, "c_in": 3.0, "h": 224.0, "w": 224.0}
    >>> out_size(Conv(**image, c_out=64.0, kh=7.0, kw=7.0, stride=2.0, pad_h=3.0, pad_w=3.0))
    (112.0, 112.0)
    """
    height = (op.h + 2.0 * op.pad_h - op.kh) // op.stride + 1.0
    width = (op.w + 2.0 * op.pad_w - op.kw) // op.stride + 1.0
    if not np.all(np.minimum(height, width) >= 1.0):
        raise RidgepointError(
            "bad_work", "a convolution's filter is larger than its padded image", "check h, w, kh, kw and padding"
        )
    return height, width


def flop(op: Conv) -> Num:
    """2·batch·out_h·out_w·c_out·(c_in/groups)·kh·kw, the same in all three directions."""
    height, width = out_size(op)
    return 2.0 * op.batch * height * width * op.c_out * (op.c_in / op.groups) * op.kh * op.kw


def _tensors(op: Conv) -> tuple[Num, Num, Num]:
    """Bytes of the image, the filters and the output."""
    height, width = out_size(op)
    acts = FORMATS[op.acts].bytes
    image = op.batch * op.c_in * op.h * op.w * acts
    filters = op.c_out * (op.c_in / op.groups) * op.kh * op.kw * FORMATS[op.weights].bytes
    return image, filters, op.batch * op.c_out * height * width * acts


def read_bytes(op: Conv) -> Num:
    """The two operands of the direction, once."""
    image, filters, out = _tensors(op)
    return {"fwd": image + filters, "bwd_data": out + filters, "bwd_weight": image + out}[_checked(op).direction]


def write_bytes(op: Conv) -> Num:
    """The result of the direction, once."""
    image, filters, out = _tensors(op)
    return {"fwd": out, "bwd_data": image, "bwd_weight": filters}[_checked(op).direction]


def winograd_saving(op: Conv, engine: str) -> Num:
    """Multiplications of the direct sum over those of F(4×4, 3×3), the largest in use: 144 / 36 (Lavin, Gray 2016).

    Libraries use it on the vector engine only; 1 elsewhere and for filters other than dense 3 × 3 with stride 1.
    """
    return np.where(_is_winograd(op), 4.0, 1.0) if engine == "vector" else 1.0


def bound(op: Conv, machine: Machine) -> Demand:
    """The roofline: the least multiplications that libraries know at peak rate, each tensor once."""
    format_name = multiply_format(op.acts, op.weights)
    least = flop(op) / winograd_saving(op, machine.arithmetic(format_name).engine)
    return roofline(machine, least, format_name, read_bytes(op) + write_bytes(op))


def as_gemm(op: Conv, granularity: float = 1.0) -> Gemm:
    """The matrix product of one direction, the channels of its k padded to what one load of the engine takes."""
    height, width = out_size(op)
    c_in, c_out = op.c_in / op.groups, op.c_out / op.groups
    pixels = op.batch * height * width
    m, n, k = pixels, c_out, _padded(c_in, granularity) * op.kh * op.kw
    if _checked(op).direction == "bwd_data":
        image = op.batch * op.h * op.w
        taps = ceil_div(op.kh, op.stride) * ceil_div(op.kw, op.stride)
        m, n, k = image, c_in, _padded(c_out, granularity) * taps
    elif op.direction == "bwd_weight":
        m, n, k = c_out, c_in * op.kh * op.kw, pixels
    return Gemm(m=m, n=n, k=k, batch=op.groups, acts=op.acts, weights=op.weights, out=op.acts)


def _padded(channels: Num, granularity: float) -> Num:
    """First layers (3 channels) have loads of 4 of their own."""
    few = min(granularity, 4.0)
    return np.where(
        np.asarray(channels) > 4.0, ceil_div(channels, granularity) * granularity, ceil_div(channels, few) * few
    )


def expected(op: Conv, machine: Machine) -> Demand:
    """The fastest of the tiled product, Winograd where it applies, and the plain sum on the vector engine.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> layer = Conv(batch=64.0, c_in=256.0, c_out=256.0, h=14.0, w=14.0, kh=3.0, kw=3.0, pad_h=1.0, pad_w=1.0)
    >>> bool(2e-5 < settle(expected(layer, find_machine("h100-sxm"))).time_s < 1.2e-4)
    True
    """
    found = distinct(*(getattr(_checked(op), name) for name in _NUMBERS))
    if found is None:
        return _expected(op, machine)
    values, spread = found
    rows: dict[str, Any] = dict(zip(_NUMBERS, values, strict=True))
    return replace(_expected(replace(op, **rows), machine), spread=spread)


def _expected(op: Conv, machine: Machine) -> Demand:
    table = machine.coefficients.conv
    if table.channels_half > 0.0:
        return _by_channels(op, machine)
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
        ways += [_where(_is_winograd(op), way, direct) for way in _winograd(op, machine, table, direct)]
    return _fastest(ways)


def _by_channels(op: Conv, machine: Machine) -> Demand:
    """On cores that each have a part of the output channels, products in registers and operands in caches (CPUs, and shaders
    that are written like them).

    Columns of the product are loaded, packed and stored for the channels that they meet: with n values summed for each of m
    channels the cores reach 1 / (1 + h/n + h/m) of their rate, h = ``channels_half``. Winograd's algorithm, here
    F(4×4, 3×3), sums over single channels. Filters of one channel have nothing to reuse and nothing to pack.
    """
    table, shared = machine.coefficients.conv, machine.coefficients.device
    arithmetic = machine.arithmetic(multiply_format(op.acts, op.weights))
    reached, relative = _format_efficiency(op, machine)
    gradient = table.gradient_efficiency if op.direction == "bwd_weight" else 1.0
    half, c_in, c_out = table.channels_half, op.c_in / op.groups, op.c_out / op.groups
    product = as_gemm(op)
    slower = (1.0 + half / product.k + half / product.n) / (reached * gradient)
    if arithmetic.engine == "vector":
        # Transformed bytes need 16 bits: twice the time of a product of bytes.
        wider = 0.5 if FORMATS[arithmetic.format].bits <= 8 else 1.0
        winograd = min(table.winograd_efficiency * relative, 1.0) * wider * gradient
        fewer = (1.0 + half / c_in + half / c_out) / (4.0 * winograd)
        slower = np.where(_is_winograd(op), np.minimum(slower, fewer), slower)
    single = np.asarray(c_in) == 1.0
    plain = machine.vector_flop_per_s if arithmetic.engine != "vector" else arithmetic.flop_per_s
    seconds: dict[str, Num] = {arithmetic.engine: 0.0, "vector": 0.0}
    seconds[arithmetic.engine] = np.where(single, 0.0, flop(op) * slower / arithmetic.flop_per_s)
    alone = flop(op) / (plain * min(table.depthwise_efficiency * relative, 1.0))
    seconds["vector"] = seconds["vector"] + np.where(single, alone, 0.0)
    seconds = {engine: busy / machine.parallel_efficiency for engine, busy in seconds.items()}
    drawn = machine.multiprocessors * shared.memory_bytes_per_clock * float(machine.device.chip.clock)
    streamed = min(machine.memory_bytes_per_s * shared.memory_efficiency, drawn)
    seconds[machine.main_memory] = (read_bytes(op) + write_bytes(op)) * table.passes / streamed
    return Demand(
        (Phase(seconds, 8.0), Phase({"launch": shared.launch_s})),
        notes=(arithmetic.note,) if arithmetic.note else (),
        arithmetic=(arithmetic.engine, arithmetic.format),
    )


def _format_efficiency(op: Conv, machine: Machine) -> tuple[float, float]:
    """What products by channels reach in the op's format, and that over the usual one; ``FORMAT_widened`` where it lacks it."""
    table, wanted = machine.coefficients.conv, multiply_format(op.acts, op.weights)
    arithmetic = machine.arithmetic(wanted)
    usual = table.efficiency["default"]
    name = f"{wanted}_widened" if arithmetic.note else arithmetic.format
    reached = table.efficiency.get(name, table.efficiency.get(arithmetic.format, usual))
    return reached, reached / usual


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


def _is_winograd(op: Conv) -> NDArray[np.bool_]:
    """Where Winograd's algorithm applies: dense 3 × 3 filters with stride 1."""
    same = [np.asarray(getattr(op, name)) == value for name, value in (("kh", 3.0), ("kw", 3.0), ("stride", 1.0))]
    dense: NDArray[np.bool_] = np.asarray(op.groups) == 1.0
    for condition in same:
        dense = dense & condition
    return dense


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

    name, arithmetic = gemm.product_name(op.acts, op.weights), machine.arithmetic(multiply_format(op.acts, op.weights))
    sums = 2.0 * 16.0 * _BLOCK_FILTERS * down * across * machine.multiprocessors
    busy = rounds * depth * sums / (arithmetic.flop_per_s * efficiency)
    received = (16.0 * _BLOCK_FILTERS + (2.0 * down + 2.0) * (2.0 * across + 2.0)) * FORMATS[op.acts].bytes
    # A kernel before it reads the 9 values of each filter and writes 16, which are then read in their place.
    moved = read_bytes(op) + write_bytes(op) + _tensors(op)[1] * 32.0 / 9.0
    first: dict[str, Num] = dict.fromkeys(like.phases[0].seconds, 0.0)
    first[arithmetic.engine] = gemm.throttled(busy, efficiency * turns / rounds, machine, name, arithmetic)
    first[machine.main_memory] = moved / (machine.memory_bytes_per_s * machine.coefficients.gemm.memory_efficiency)
    first[(machine.cache or ("l2",))[0]] = rounds * depth * received / gemm.operand_bytes_per_s(machine)
    return _alone(first, machine, like)


def winograd_gemm(op: Conv, tile: float) -> Gemm:
    """The (tile + 2)² products of F(tile × tile, 3 × 3): one for each value of a transformed tile."""
    height, width = (op.h, op.w) if op.direction == "bwd_data" else out_size(op)
    blocks = op.batch * ceil_div(height, tile) * ceil_div(width, tile)
    sizes = {"fwd": (blocks, op.c_out, op.c_in), "bwd_data": (blocks, op.c_in, op.c_out)}
    m, n, k = sizes.get(op.direction, (op.c_out, op.c_in, blocks))
    return Gemm(m=m, n=n, k=k, batch=(tile + 2.0) ** 2, acts=op.acts, weights=op.weights, out=op.acts)


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


def _checked(op: Conv) -> Conv:
    if op.direction not in DIRECTIONS:
        raise RidgepointError("bad_work", f"unknown direction '{op.direction}'", "use one of " + ", ".join(DIRECTIONS))
    return op


_SOURCES = ("chetlur-2014", "lavin-2016", "williams-2009")
RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="conv", sources=_SOURCES)
