"""Exact arithmetic on sets of time intervals, in whole nanoseconds.

>>> import numpy as np
>>> busy = union(np.array([0, 5, 20]), np.array([10, 12, 30]))
>>> busy, length(busy)
((array([ 0, 20]), array([12, 30])), 22)
>>> length(gaps(busy, 0, 40))
18
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Set = tuple[Ints, Ints]
"""Disjoint intervals in order: their starts and their ends."""


def union(start: Ints, end: Ints) -> Set:
    """The set that intervals cover together, however they overlap."""
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    kept = end > start
    start, end = start[kept], end[kept]
    if not len(start):
        return start, end
    reach = np.maximum.accumulate(end)
    first = np.concatenate(([True], start[1:] > reach[:-1]))
    last = np.concatenate((first[1:], [True]))
    return start[first], reach[last]


def length(found: Set) -> int:
    """Nanoseconds in the set."""
    return int((found[1] - found[0]).sum())


def overlap(a: Set, b: Set) -> int:
    """Nanoseconds in both sets: the sum of the two less their union."""
    both = union(np.concatenate((a[0], b[0])), np.concatenate((a[1], b[1])))
    return length(a) + length(b) - length(both)


def gaps(found: Set, begin: int, finish: int) -> Set:
    """What of ``begin`` to ``finish`` is not in the set, which lies within."""
    start = np.concatenate(([begin], found[1])).astype(np.int64)
    end = np.concatenate((found[0], [finish])).astype(np.int64)
    kept = end > start
    return start[kept], end[kept]


def before(found: Set, times: Ints) -> Ints:
    """Nanoseconds of the set that lie before each of ``times``.

    >>> before((np.array([0, 20]), np.array([12, 30])), np.array([5, 15, 25, 99])).tolist()
    [5, 12, 17, 22]
    """
    start, end = found
    if not len(start):
        return np.zeros(len(times), dtype=np.int64)
    so_far = np.concatenate(([0], np.cumsum(end - start)))
    place = np.searchsorted(start, times, side="right")
    beyond = np.maximum(end[np.maximum(place - 1, 0)] - times, 0)
    return np.asarray(so_far[place] - np.where(place > 0, beyond, 0), dtype=np.int64)
