"""Convolutions as implicit matrix products, depthwise ones on the vector engine, small fp32 filters with Winograd.

    forward     m = batch·out_h·out_w      n = c_out/groups           k = c_in/groups·kh·kw
    bwd_data    m = batch·h·w              n = c_in/groups            k = c_out/groups·kh·kw / stride²
    bwd_weight  m = c_out/groups           n = c_in/groups·kh·kw      k = batch·out_h·out_w

with out = ⌊(in + 2·pad − filter)/stride⌋ + 1. The product is tiled like any other (``gemm.py``); only memory traffic
is that of the tensors themselves: the matrix of patches is formed on chip (Chetlur et al. 2014, "cuDNN").
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.kernels import gemm
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules, roofline
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, ceil_div, distinct
from ridgepoint.ops import Conv, Gemm

DIRECTIONS = ("fwd", "bwd_data", "bwd_weight")
_NUMBERS = ("batch", "c_in", "c_out", "h", "w", "kh", "kw", "stride", "pad_h", "pad_w", "groups")


def out_size(op: Conv) -> tuple[Num, Num]:
    """Height and width of the output.

    >>> image = {"batch": 1.0, "c_in": 3.0, "h": 224.0, "w": 224.0}
    >>> out_size(Conv(**image, c_out=64.0, kh=7.0, kw=7.0, stride=2.0, pad_h=3.0, pad_w=3.0))
    (112.0, 112.0)
    """
    height = np.floor((op.h + 2.0 * op.pad_h - op.kh) / op.stride) + 1.0
    width = np.floor((op.w + 2.0 * op.pad_w - op.kw) / op.stride) + 1.0
    if np.min(height) < 1.0 or np.min(width) < 1.0:
        raise RidgepointError(
            "bad_work", "a convolution's filter is larger than its padded image", "check h, w, kh, kw and padding"
        )
    return (height, width) if np.ndim(height) or np.ndim(width) else (float(height), float(width))


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


def bound(op: Conv, machine: Machine) -> Demand:
    """The roofline: peak rate, each tensor once."""
    return roofline(machine, flop(op), multiply_format(op.acts, op.weights), read_bytes(op) + write_bytes(op))


def as_gemm(op: Conv) -> Gemm:
    """The matrix product of one direction; channels are padded to 8 values, the granularity of the loads."""
    height, width = out_size(op)
    c_in, c_out = _padded(op.c_in / op.groups), op.c_out / op.groups
    pixels = op.batch * height * width
    if _checked(op).direction == "fwd":
        m, n, k = pixels, c_out, c_in * op.kh * op.kw
    elif op.direction == "bwd_data":
        m, n, k = op.batch * op.h * op.w, c_in, _padded(c_out) * op.kh * op.kw * pixels / (op.batch * op.h * op.w)
    else:
        m, n, k = c_out, c_in * op.kh * op.kw, pixels
    return Gemm(m=m, n=n, k=k, batch=op.groups, acts=op.acts, weights=op.weights, out=op.acts)


def _padded(channels: Num) -> Num:
    return np.where(np.asarray(channels) > 4.0, np.ceil(channels / 8.0) * 8.0, 4.0)


def expected(op: Conv, machine: Machine) -> Demand:
    """The fastest of the tiled product and, where it applies, Winograd; depthwise filters on the vector engine.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> layer = Conv(batch=64.0, c_in=256.0, c_out=256.0, h=14.0, w=14.0, kh=3.0, kw=3.0, pad_h=1.0, pad_w=1.0)
    >>> 3e-5 < settle(expected(layer, find_machine("h100-sxm"))).time_s < 1.2e-4
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
    arithmetic = machine.arithmetic(multiply_format(op.acts, op.weights))
    product = as_gemm(op)
    efficiency = table.efficiency.get(arithmetic.format, table.efficiency["default"])
    direct = _product(op, machine, product, efficiency)
    if arithmetic.engine != "vector" or op.direction == "bwd_weight":
        return direct
    fewer = _where(_is_winograd(op), winograd_gemm(op), product)
    return _fastest([direct, _product(op, machine, fewer, table.winograd_efficiency)])


def _is_winograd(op: Conv) -> NDArray[np.bool_]:
    """Where F(2×2, 3×3) applies: dense 3 × 3 filters with stride 1."""
    square = (np.asarray(op.kh) == 3.0) & (np.asarray(op.kw) == 3.0)
    return square & (np.asarray(op.stride) == 1.0) & (np.asarray(op.groups) == 1.0)


def winograd_gemm(op: Conv) -> Gemm:
    """The 16 products of F(2×2, 3×3): 16 multiplications per 2 × 2 outputs instead of 36 (Lavin and Gray 2016)."""
    height, width = out_size(op) if op.direction == "fwd" else (op.h, op.w)
    n, k = (op.c_out, op.c_in) if op.direction == "fwd" else (op.c_in, op.c_out)
    blocks = op.batch * ceil_div(height, 2.0) * ceil_div(width, 2.0)
    return Gemm(m=blocks, n=n, k=_padded(k), batch=16.0, acts=op.acts, weights=op.weights, out=op.acts)


def _where(condition: NDArray[np.bool_], a: Gemm, b: Gemm) -> Gemm:
    """``a`` where the condition holds, else ``b``."""
    sizes = {name: np.where(condition, getattr(a, name), getattr(b, name)) for name in ("m", "n", "k", "batch")}
    return replace(b, **sizes)


def _product(op: Conv, machine: Machine, product: Gemm, efficiency: float) -> Demand:
    """The tiled product with the traffic of the convolution's own tensors."""
    tiled = gemm.tiled(product, machine)
    if op.direction != "bwd_weight":
        tiled = _unsplit(tiled)
    moved = (read_bytes(op) + write_bytes(op)) / (gemm.read_bytes(product) + gemm.write_bytes(product))
    engine = machine.arithmetic(multiply_format(op.acts, op.weights)).engine
    seconds = dict(tiled.phases[0].seconds)
    seconds[engine] = seconds[engine] / efficiency
    seconds[machine.main_memory] = seconds[machine.main_memory] * moved
    return replace(tiled, phases=(Phase(seconds, tiled.phases[0].sharpness), *tiled.phases[1:]))


def _unsplit(demand: Demand) -> Demand:
    """Only the tiles that keep k whole: libraries split the sum of a convolution in the weights' gradient alone."""
    whole = gemm._MENU[:, 2] == 1.0

    def keep(t: Num) -> Num:
        return t[whole] if isinstance(t, np.ndarray) and t.ndim and t.shape[0] == whole.size else t

    phases = (Phase({name: keep(t) for name, t in p.seconds.items()}, p.sharpness) for p in demand.phases)
    return replace(demand, phases=tuple(phases))


def _fastest(demands: list[Demand]) -> Demand:
    """The alternatives of several demands of equal phases, one after the other along the leading axis."""
    phases = []
    for parts in zip(*(d.phases for d in demands), strict=True):
        shapes = [np.broadcast_shapes(*(np.shape(t) for p in d.phases for t in p.seconds.values())) for d in demands]
        seconds: dict[str, Num] = {
            name: np.concatenate([np.broadcast_to(p.seconds[name], s) for p, s in zip(parts, shapes, strict=True)])
            for name in parts[0].seconds
        }
        phases.append(Phase(seconds, parts[0].sharpness))
    return replace(demands[0], phases=tuple(phases))


def _checked(op: Conv) -> Conv:
    if op.direction not in DIRECTIONS:
        raise RidgepointError("bad_work", f"unknown direction '{op.direction}'", "use one of " + ", ".join(DIRECTIONS))
    return op


RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="conv")
