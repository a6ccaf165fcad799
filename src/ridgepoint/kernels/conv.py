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

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.kernels import gemm
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules, roofline
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, distinct
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
    """The tiled product with the convolution's own traffic; depthwise filters on the vector engine.

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
    product = as_gemm(op)
    tiled = gemm._tiled(product, machine)
    moved = (read_bytes(op) + write_bytes(op)) / (gemm.read_bytes(product) + gemm.write_bytes(product))
    arithmetic = machine.arithmetic(multiply_format(op.acts, op.weights))
    efficiency = table.efficiency.get(arithmetic.format, table.efficiency["default"])
    seconds = dict(tiled.phases[0].seconds)
    memory = machine.main_memory
    seconds[arithmetic.engine] = seconds[arithmetic.engine] / efficiency
    seconds[memory] = seconds[memory] * moved
    return replace(tiled, phases=(Phase(seconds, tiled.phases[0].sharpness), *tiled.phases[1:]))


def _checked(op: Conv) -> Conv:
    if op.direction not in DIRECTIONS:
        raise RidgepointError("bad_work", f"unknown direction '{op.direction}'", "use one of " + ", ".join(DIRECTIONS))
    return op


RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="conv")
