"""What a caching allocator reserves beyond what is allocated (PyTorch's: large blocks in steps of 2 MiB, never given back).

A cache that grows by concatenation asks for tensors that are a little larger at every step. Below 10 MiB they share
segments; above, each rounded size is a new block of its own, and the smaller ones that it replaces stay reserved:

    left behind = tensors · Σ step · k   over all sizes step · k above 10 MiB

Once the device is full the allocator returns what it holds and starts over, so that nothing exceeds the device.

Source: PyTorch's documentation of CUDA memory management, and c10/cuda/CUDACachingAllocator.cpp.
"""

from __future__ import annotations

import numpy as np

from ridgepoint.numeric import Num

STEP_BYTES = 2.0 * 2**20
"""Rounding of large blocks."""
LARGE_BYTES = 10.0 * 2**20
"""Tensors from this size on get blocks of their own."""


def left_behind(tensors: Num, final_bytes: Num) -> Num:
    """Bytes that ``tensors`` growing tensors of ``final_bytes`` each left reserved on their way.

    >>> float(left_behind(1.0, 5e6)), round(float(left_behind(64.0, 4 * 768 * 8192.0)) / 1e9, 1)
    (0.0, 8.5)
    """
    last = np.ceil(np.asarray(final_bytes) / STEP_BYTES)
    first = LARGE_BYTES / STEP_BYTES + 1.0
    count = np.maximum(last - first + 1.0, 0.0)
    return tensors * STEP_BYTES * count * (first + last) / 2.0
