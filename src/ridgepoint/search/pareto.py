"""Pareto fronts: the points that no other point beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgepoint.numeric import Array


def front(goals: Array) -> NDArray[np.int64]:
    """Indices of the rows that no other row dominates, ascending; more of each column is better. Of equal rows all stay.

    One row dominates another if it is at least as good in every column and better in one.

    >>> front(np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 2.0], [3.0, 1.0], [3.0, 1.0]])).tolist()
    [0, 1, 3, 4]
    """
    distinct, group = np.unique(goals, axis=0, return_inverse=True)
    order = np.arange(len(distinct))[
        ::-1
    ]  # best first column first: a later row can only be dominated by an earlier one
    kept: list[int] = []
    best = np.empty((0, goals.shape[1]))
    for i in order:
        if not np.any(np.all(best >= distinct[i], axis=1)):
            kept.append(int(i))
            best = distinct[kept]
    return np.flatnonzero(np.isin(np.ravel(group), kept))
