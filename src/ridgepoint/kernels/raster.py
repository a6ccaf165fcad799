"""What tiles read again from main memory where they follow each other in strips.

A wave covers ``ahead`` tiles in the order that they follow each other in, and ``across`` tiles beside them. With F the operand
that lies along that order (bytes F, tiles f), and S the other one (bytes S, tiles s):

    across   = wave / f, at least 1          ahead = wave / across
    again(F) = (s / across − 1) · (1 − cache / F)                 all of F for every further ``across`` tiles
    again(S) = (f / ahead − 1) · (1 − cache / (S · across / s))   a strip of S for every further wave, if it was not kept

Blocks of tiles close to a square hardly read anything again (grouped ordering, Triton's tutorial of matrix multiplication;
CUTLASS's threadblock swizzle). Without them large products wait for the memory: one byte of a tile's 128 rows serves 256
operations, and L40S with SGLang's fp8 kernels runs at 160 TFLOP/s, half of what its tensor cores sustain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgepoint.numeric import Array, Num

Pair = tuple[Num, Num]


def reloads(order: str, tiles: Pair, size: Pair, wave: float, cache: float) -> tuple[Array, Array]:
    """How often the (m × k, k × n) operands are read beyond the first time.

    ``order``: tiles follow each other down the ``rows``, or along the ``longer`` side; ``tiles``: how many along m and n;
    ``size``: bytes of both operands of one product; ``wave``: tiles that run together; ``cache``: bytes of the last-level
    cache.

    >>> left, right = reloads("rows", (256, 256), (2e9, 2e9), 128.0, 5e7)
    >>> round(float(left)), round(float(right))
    (249, 0)
    """
    down = np.asarray(tiles[0] >= tiles[1]) | (order == "rows")
    first, second = _turned(down, tiles)
    swept, other = _turned(down, size)
    across = np.clip(wave / first, 1.0, second)
    ahead = np.clip(wave / across, 1.0, first)
    sweeps = (second / across - 1.0) * _missed(swept, cache)
    strips = (first / ahead - 1.0) * _missed(other * across / second, cache)
    return np.where(down, sweeps, strips), np.where(down, strips, sweeps)


def _turned(down: NDArray[np.bool_], pair: Pair) -> tuple[Array, Array]:
    """The pair, or the pair the other way round."""
    return np.where(down, pair[0], pair[1]), np.where(down, pair[1], pair[0])


def _missed(size: Array, cache: float) -> Array:
    """Part of what is read over and over that a cache does not keep."""
    return np.clip(1.0 - cache / np.maximum(size, 1.0), 0.0, 1.0)
