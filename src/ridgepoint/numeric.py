"""Numbers that may be one value or a whole sweep: the helpers that keep scalar and array code the same.

Every numeric field of a work, a plan or a task is a ``Num``: a float or a NumPy array; results broadcast.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
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


def plain(value: Any) -> Num:
    """A float for anything of zero dimensions; arrays stay as they are."""
    return value if isinstance(value, np.ndarray) and value.ndim else float(value)


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
_recent: deque[Partition] = deque(maxlen=4)
"""Partitions found lately: the ops of one model vary together, so that a later op mostly shares an earlier partition."""


@dataclass(frozen=True, eq=False)
class Partition:
    """The points of a sweep in groups whose inputs are equal: what is computed once per group holds for all its points."""

    first: NDArray[np.int64]
    """Position of each group's first point."""
    group: NDArray[np.int64]
    """Group of every point."""
    shape: tuple[int, ...]

    def pick(self, value: Num) -> Num:
        """One value per group."""
        return np.broadcast_to(value, self.shape).ravel()[self.first] if isinstance(value, np.ndarray) else value

    def __call__(self, result: Num) -> Num:
        """Results per group spread over all points; leading axes are kept."""
        if not isinstance(result, np.ndarray) or result.ndim == 0:
            return result
        if result.shape[-1] == 1:
            return np.broadcast_to(result[..., 0], self.shape) if result.ndim == 1 else result
        return result[..., self.group].reshape(*result.shape[:-1], *self.shape)

    def holds_for(self, arrays: list[Array]) -> bool:
        """Whether every array is constant in every group."""
        return all(np.array_equal(array[self.first][self.group], array) for array in arrays)


def distinct(*values: Num) -> tuple[list[Num], Partition] | None:
    """The distinct rows of several broadcast arrays, and the partition that spreads results over the original shape.

    Sweeps repeat shapes: a million decode points have a thousand distinct GEMMs. Returns ``None`` when there is little to
    gain (few points, or mostly different ones).

    >>> m = np.tile([1.0, 2.0], 2000)
    >>> (picked, n), spread = distinct(m, 7.0)
    >>> picked, n, bool(np.array_equal(spread(picked), m))
    (array([1., 2.]), 7.0, True)
    """
    shape = np.broadcast_shapes(*(np.shape(v) for v in values))
    size = int(np.prod(shape, dtype=np.int64))
    if size < _MANY:
        return None
    arrays = [np.broadcast_to(np.asarray(v, dtype=np.float64), shape).ravel() for v in values if np.ndim(v)]
    found = next((p for p in _recent if p.shape == shape and p.holds_for(arrays)), None) or _partition(arrays, shape)
    return None if found is None else ([found.pick(v) for v in values], found)


def _partition(arrays: list[Array], shape: tuple[int, ...]) -> Partition | None:
    """The groups of equal rows, or None where most points differ."""
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
    found = Partition(first, inverse, shape)
    _recent.append(found)
    return found
