"""What a convolution counts: sizes, operations, bytes, and the matrix products that it equals (for ``conv.py``).

    forward     m = batch·out_h·out_w      n = c_out/groups           k = c_in/groups·kh·kw
    bwd_data    m = batch·h·w              n = c_in/groups            k = c_out/groups·⌈kh/stride⌉·⌈kw/stride⌉
    bwd_weight  m = c_out/groups           n = c_in/groups·kh·kw      k = batch·out_h·out_w

with out = ⌊(in + 2·pad − filter)/stride⌋ + 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.numeric import Num, ceil_div
from ridgepoint.ops import Conv, Gemm

DIRECTIONS = ("fwd", "bwd_data", "bwd_weight")


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


def tensors(op: Conv) -> tuple[Num, Num, Num]:
    """Bytes of the image, the filters and the output."""
    height, width = out_size(op)
    acts = FORMATS[op.acts].bytes
    image = op.batch * op.c_in * op.h * op.w * acts
    filters = op.c_out * (op.c_in / op.groups) * op.kh * op.kw * FORMATS[op.weights].bytes
    return image, filters, op.batch * op.c_out * height * width * acts


def read_bytes(op: Conv) -> Num:
    """The two operands of the direction, once."""
    image, filters, out = tensors(op)
    return {"fwd": image + filters, "bwd_data": out + filters, "bwd_weight": image + out}[checked(op).direction]


def write_bytes(op: Conv) -> Num:
    """The result of the direction, once."""
    image, filters, out = tensors(op)
    return {"fwd": out, "bwd_data": image, "bwd_weight": filters}[checked(op).direction]


def winograd_saving(op: Conv, engine: str) -> Num:
    """Multiplications of the direct sum over those of F(4×4, 3×3), the largest in use: 144 / 36 (Lavin, Gray 2016).

    Libraries use it on the vector engine only; 1 elsewhere and for filters other than dense 3 × 3 with stride 1.
    """
    return np.where(is_winograd(op), 4.0, 1.0) if engine == "vector" else 1.0


def as_gemm(op: Conv, granularity: float = 1.0) -> Gemm:
    """The matrix product of one direction, the channels of its k padded to what one load of the engine takes."""
    height, width = out_size(op)
    c_in, c_out = op.c_in / op.groups, op.c_out / op.groups
    pixels = op.batch * height * width
    m, n, k = pixels, c_out, _padded(c_in, granularity) * op.kh * op.kw
    if checked(op).direction == "bwd_data":
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


def is_winograd(op: Conv) -> NDArray[np.bool_]:
    """Where Winograd's algorithm applies: dense 3 × 3 filters with stride 1."""
    same = [np.asarray(getattr(op, name)) == value for name, value in (("kh", 3.0), ("kw", 3.0), ("stride", 1.0))]
    dense: NDArray[np.bool_] = np.asarray(op.groups) == 1.0
    for condition in same:
        dense = dense & condition
    return dense


def winograd_gemm(op: Conv, tile: float) -> Gemm:
    """The (tile + 2)² products of F(tile × tile, 3 × 3): one for each value of a transformed tile."""
    height, width = (op.h, op.w) if op.direction == "bwd_data" else out_size(op)
    blocks = op.batch * ceil_div(height, tile) * ceil_div(width, tile)
    sizes = {"fwd": (blocks, op.c_out, op.c_in), "bwd_data": (blocks, op.c_in, op.c_out)}
    m, n, k = sizes.get(op.direction, (op.c_out, op.c_in, blocks))
    return Gemm(m=m, n=n, k=k, batch=(tile + 2.0) ** 2, acts=op.acts, weights=op.weights, out=op.acts)


def checked(op: Conv) -> Conv:
    """The op, its direction being one of ``DIRECTIONS``."""
    if op.direction not in DIRECTIONS:
        raise RidgepointError("bad_work", f"unknown direction '{op.direction}'", "use one of " + ", ".join(DIRECTIONS))
    return op
