"""Numbers that may be one value or a whole sweep: the helpers that keep scalar and array code the same.

Every numeric field of a work, a plan or a task is a ``Num``: a float or a NumPy array; results broadcast.
"""

from __future__ import annotations

from collections.abc import Iterable
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


def distinct(*values: Num) -> tuple[list[Num], Partition] | None:
    """The distinct rows of several broadcast arrays, and the partition that spreads results over the original shape.

    Sweeps repeat shapes: a million decode points have a thousand distinct GEMMs. Returns ``None`` when there is little to
    gain (few points, or mostly different ones).

    >>> m = np.tile([1.0, 2.0], 2000)
    >>> (picked, n), spread = distinct(m, 7.0)
    >>> picked, n, bool(np.array_equal(spread(picked), m))
    (array([1., 2.]), 7.0, True)
    """
    if not any(isinstance(value, np.ndarray) for value in values):
        return None
    shape = np.broadcast_shapes(*(np.shape(v) for v in values))
    size = int(np.prod(shape, dtype=np.int64))
    if size < _MANY:
        return None
    arrays = _flat(values, shape)
    found = _partition(arrays, shape) if _repeats(arrays) else None
    return None if found is None else ([found.pick(v) for v in values], found)


def shared_partition(rows: list[list[Num]]) -> list[Partition | None]:
    """For several sets of arrays over one sweep the groups within which all sets that repeat are constant.

    The ops of one model vary together: one partition found at once serves nearly all of them. A set gets ``None`` when most
    of its points differ, or when the sweep is small.
    """
    shape = np.broadcast_shapes(*(np.shape(v) for row in rows for v in row))
    size = int(np.prod(shape, dtype=np.int64))
    if size < _MANY:
        return [None] * len(rows)
    flat = [_flat(row, shape) for row in rows]
    sample = np.random.default_rng(0).integers(0, size, _MANY)
    found: list[Partition | None] = [None] * len(rows)
    for members in _together([[array[sample] for array in arrays] for arrays in flat]):
        joint = _partition([array for i in members for array in flat[i]], shape)
        for i in members:
            found[i] = joint
    return found


def _together(samples: list[list[Array]]) -> list[list[int]]:
    """Sets of arrays that repeat: all in one cluster where they repeat together, else in clusters whose joint groups are not
    many more than each one's own (those of a layer vary with few axes of a sweep, those of an exchange between replicas with
    others).
    """
    codes = {i: _code(arrays) for i, arrays in enumerate(samples) if arrays}
    counts = {i: np.unique(code).size for i, code in codes.items()}
    useful = sorted((i for i, n in counts.items() if 2 * n <= _MANY), key=counts.__getitem__)
    if useful and 2 * np.unique(_code([codes[i] for i in useful])).size <= _MANY:
        return [useful]
    clusters: list[tuple[int, Array, list[int]]] = []
    for i in useful:
        for at, (count, code, members) in enumerate(clusters):
            joint = code + np.pi * codes[i]
            groups = np.unique(joint).size
            if groups <= 1.5 * max(count, counts[i]):
                clusters[at] = (groups, joint, [*members, i])
                break
        else:
            clusters.append((counts[i], codes[i], [i]))
    return [members for _, _, members in clusters]


def _flat(values: Iterable[Num], shape: tuple[int, ...]) -> list[Array]:
    return [np.broadcast_to(np.asarray(v, dtype=np.float64), shape).ravel() for v in values if np.ndim(v)]


def _code(arrays: list[Array]) -> Array:
    """One number per row: a random projection, which differs for different rows but for a chance below 1e-9."""
    weights = np.random.default_rng(0).uniform(1.0, 2.0, len(arrays))
    code = np.zeros(arrays[0].size)
    for weight, array in zip(weights, arrays, strict=True):
        code += weight * array
    return code


def _repeats(arrays: list[Array]) -> bool:
    """Whether a sample of the rows shows many equal ones."""
    step = max(1, arrays[0].size // _MANY)
    sample = _code([array[::step] for array in arrays])
    return bool(np.unique(sample).size * 2 <= sample.size)


def _partition(arrays: list[Array], shape: tuple[int, ...]) -> Partition | None:
    """The groups of equal rows, or None where most points differ."""
    code = _code(arrays)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return None if first.size * 2 > code.size else Partition(first, inverse, shape)
