"""Numbers that may be one value or a whole sweep: the helpers that keep scalar and array code the same.

Every numeric field of a work, a plan or a task is a ``Num``: a float or a NumPy array; results broadcast.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Num: TypeAlias = float | Array


def ceil_div(a: Num, b: Num) -> Num:
    """Whole pieces of size ``b`` needed to cover ``a``.

    >>> float(ceil_div(257.0, 128.0))
    3.0
    """
    return np.ceil(np.divide(a, b))


def at_least(a: Num, floor: float) -> Num:
    """``a``, or ``floor`` where ``a`` is below it."""
    return np.maximum(a, floor)


def as_num(value: Any) -> Num:
    """A float for anything of zero dimensions, else a float64 array.

    >>> as_num(3), as_num([1, 2])
    (3.0, array([1., 2.]))
    """
    if isinstance(value, float):
        return value
    array = np.asarray(value, dtype=np.float64)
    return float(array) if array.ndim == 0 else array


_MANY = 2048
_recent: deque[tuple[NDArray[np.int64], NDArray[np.int64]]] = deque(maxlen=4)
"""Partitions found lately: the ops of one model vary together, so that a later op mostly shares an earlier partition."""


def distinct(*values: Num) -> tuple[list[Num], Callable[[Array], Array]] | None:
    """The distinct rows of several broadcast arrays, and how to spread results over the original shape.

    Sweeps repeat shapes: a million decode points have a thousand distinct GEMMs. Returns ``None`` when there is little to
    gain (few points, or mostly different ones).
    """
    shape = np.broadcast_shapes(*(np.shape(v) for v in values))
    size = int(np.prod(shape, dtype=np.int64))
    if size < _MANY:
        return None
    arrays = [np.broadcast_to(np.asarray(v, dtype=np.float64), shape).ravel() for v in values if np.ndim(v)]
    found = _recent_partition(arrays) or _partition(arrays)
    if found is None:
        return None
    first, inverse = found
    rows = iter(arrays)
    picked: list[Num] = [next(rows)[first] if np.ndim(v) else v for v in values]

    def spread(result: Array) -> Array:
        flat = np.broadcast_to(result, (*result.shape[:-1], first.size)) if result.ndim else np.full(first.size, result)
        return flat[..., inverse].reshape(*flat.shape[:-1], *shape)

    return picked, spread


def _recent_partition(arrays: list[Array]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """A recent partition in whose groups every array is constant."""
    for first, inverse in _recent:
        if inverse.size == arrays[0].size and all(np.array_equal(a[first][inverse], a) for a in arrays):
            return first, inverse
    return None


def _partition(arrays: list[Array]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """(position of each group's first point, group of every point), or None where most points differ."""
    # A random projection stands for the row; rows that differ get different sums but for a chance below 1e-9.
    weights = np.random.default_rng(0).uniform(1.0, 2.0, len(arrays))
    code = np.zeros(arrays[0].size)
    for weight, array in zip(weights, arrays, strict=True):
        code += weight * array
    sample = code[:: max(1, code.size // _MANY)]
    if np.unique(sample).size * 2 > sample.size:
        return None
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    if first.size * 2 > code.size:
        return None
    _recent.append((first, inverse))
    return first, inverse
