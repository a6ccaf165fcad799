"""Habits of libraries of matrix products: which tiles and splits they have, and how their tiles follow each other.

A vendor's library chooses among hundreds of kernels and comes near the best of the menu. Open libraries instantiate a few:
what they lack follows from their source, and is one row here, whatever the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.errors import RidgepointError, nearest


@dataclass(frozen=True)
class Library:
    """``split_rows``: k is split for products of at most so many rows; ``largest``: the longest side of a tile; ``order``:
    tiles follow each other in strips down the ``rows`` or along the ``longer`` side of the result (empty: in blocks).
    """

    split_rows: float = np.inf
    largest: float = np.inf
    order: str = ""


LIBRARIES = {
    "": Library(),
    # CUTLASS 3's persistent scheduler without swizzle (SGLang's fp8_scaled_mm from Hopper on): tiles of 128 × 128.
    "cutlass": Library(split_rows=0.0, largest=128.0, order="longer"),
    # CUTLASS 2's identity swizzle (the same before Hopper; TensorRT-LLM's fp8 blocks on Ada): tile rows first.
    "cutlass_2": Library(split_rows=0.0, largest=128.0, order="rows"),
    # What cuBLAS 12 still has for Pascal in 32 bits (kernels of PyTorch 2.1: maxwell_sgemm_64x64, 32x128, 128x32).
    "cublas_pascal": Library(largest=64.0),
    # TensorRT-LLM's plugins for narrow weights: one block goes through all of k.
    "weight_only": Library(split_rows=0.0),
    # Its 8-bit integers: up to four rows have a kernel whose warps share k.
    "smooth_quant": Library(split_rows=4.0),
}


def library(name: str) -> Library:
    """The habits of a named library.

    Errors: ``unknown_library`` with the nearest name.

    >>> library("cutlass").order
    'longer'
    """
    if name not in LIBRARIES:
        close = ", ".join(nearest(name, LIBRARIES) or filter(None, LIBRARIES))
        raise RidgepointError("unknown_library", f"no library of matrix products is named '{name}'", f"try {close}")
    return LIBRARIES[name]
