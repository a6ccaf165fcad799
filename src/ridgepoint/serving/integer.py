"""Small mixed-integer programs: a two-phase simplex, and branch and bound on top, exact or within a stated gap.

    minimise c·x   subject to   A x ≤ b,   x ≥ 0,   x_j whole for j in ``whole``

Meant for fleets: tens of variables. Larger programs want a solver of their own.
"""

from __future__ import annotations

import heapq
from itertools import count

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_EPS = 1e-9
MOST_NODES = 20_000
STALLED = 20
"""Pivots without progress after which Bland's rule takes over."""


def linear_program(c: Floats, A: Floats, b: Floats) -> tuple[float, Floats] | None:
    """(least value, x) of the program without integrality; None where no x is feasible.

    >>> value, x = linear_program(np.array([-1.0, -1.0]), np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([4.0, 6.0]))
    >>> round(value, 6), x.round(6).tolist()
    (-2.8, [1.6, 1.2])

    Errors: ``ValueError`` where the value has no lower bound.
    """
    rows, columns = A.shape
    flip = np.where(b < 0.0, -1.0, 1.0)
    table = np.hstack([A * flip[:, None], np.diag(flip), np.zeros((rows, 0)), (b * flip)[:, None]])
    needs = np.flatnonzero(flip < 0.0)
    artificial = np.zeros((rows, len(needs)))
    artificial[needs, np.arange(len(needs))] = 1.0
    table = np.hstack([table[:, :-1], artificial, table[:, -1:]])
    basis = np.arange(columns, columns + rows)
    basis[needs] = columns + rows + np.arange(len(needs))
    if len(needs):
        cost = np.concatenate([np.zeros(columns + rows), np.ones(len(needs))])
        if _simplex(table, basis, cost) > 1e-7:
            return None
        _drive_out(table, basis, columns + rows)
        table = np.hstack([table[:, : columns + rows], table[:, -1:]])
    value = _simplex(table, basis, np.concatenate([c, np.zeros(rows)]))
    x = np.zeros(columns + rows)
    held = basis < columns + rows
    x[basis[held]] = table[held, -1]
    return value, x[:columns]


def _simplex(table: Floats, basis: NDArray[np.int64], cost: Floats) -> float:
    """Pivot ``table`` in place until ``cost`` is least; returns it. Steepest columns first; where that stalls, Bland's rule,
    which cannot cycle.
    """
    before, stalled = np.inf, 0
    while True:
        reduced = cost - cost[basis] @ table[:, :-1]
        now = float(cost[basis] @ table[:, -1])
        stalled = 0 if now < before - _EPS else stalled + 1
        before = now
        column = int(np.argmin(reduced)) if stalled < STALLED else int(np.argmax(reduced < -_EPS))
        if reduced[column] >= -_EPS:
            return now
        up = table[:, column] > _EPS
        if not np.any(up):
            raise ValueError("the program has no least value")
        ratio = np.where(up, table[:, -1] / np.where(up, table[:, column], 1.0), np.inf)
        ties = np.flatnonzero(ratio <= ratio.min() + _EPS)
        row = int(ties[np.argmin(basis[ties])])
        _pivot(table, basis, row, column)


def _pivot(table: Floats, basis: NDArray[np.int64], row: int, column: int) -> None:
    table[row] /= table[row, column]
    factors = table[:, column].copy()
    factors[row] = 0.0
    table -= factors[:, None] * table[row]
    basis[row] = column


def _drive_out(table: Floats, basis: NDArray[np.int64], real: int) -> None:
    """Take artificial variables at zero out of the basis where a real one can replace them."""
    for row in np.flatnonzero(basis >= real):
        candidates = np.flatnonzero(np.abs(table[row, :real]) > 1e-7)
        if candidates.size:
            _pivot(table, basis, int(row), int(candidates[0]))


def integer_program(c: Floats, A: Floats, b: Floats, whole: list[int], gap: float = 0.0) -> tuple[float, Floats] | None:
    """(least value, x) with the variables ``whole`` in whole numbers; None where no x is feasible. Best bound first; with a
    ``gap`` it may end with a value that is greater than the least by that part.

    >>> value, x = integer_program(np.array([3.0, 5.0]), np.array([[-1.0, -2.0]]), np.array([-3.0]), [0, 1])
    >>> value, x.tolist()
    (8.0, [1.0, 1.0])
    """
    first = linear_program(c, A, b)
    if first is None:
        return None
    order = count()
    nodes: list[tuple[float, int, Floats, Floats, Floats]] = [(first[0], next(order), first[1], A, b)]
    best: tuple[float, Floats] | None = _rounded_up(first[1], c, A, b, whole)
    for _ in range(MOST_NODES):
        if not nodes or (best is not None and nodes[0][0] >= best[0] * (1.0 - gap) - 1e-9):
            break
        value, _, x, rows, bounds = heapq.heappop(nodes)
        broken = [j for j in whole if abs(x[j] - round(x[j])) > 1e-6]
        if not broken:
            if best is not None and value >= best[0]:
                continue
            best = value, np.where(np.isin(np.arange(len(x)), whole), np.rint(x), x)
            continue
        j = max(broken, key=lambda k: min(x[k] % 1.0, 1.0 - x[k] % 1.0))
        for sign, bound in ((1.0, np.floor(x[j])), (-1.0, -np.ceil(x[j]))):
            row = np.zeros(len(c))
            row[j] = sign
            more = np.vstack([rows, row]), np.append(bounds, bound)
            found = linear_program(c, *more)
            if found is not None and (best is None or found[0] < best[0] - 1e-9):
                heapq.heappush(nodes, (found[0], next(order), found[1], *more))
    return best


def _rounded_up(x: Floats, c: Floats, A: Floats, b: Floats, whole: list[int]) -> tuple[float, Floats] | None:
    """The next whole numbers above, where they are feasible: a first answer that spares much of the search."""
    tried = x.copy()
    tried[whole] = np.ceil(tried[whole] - 1e-6)
    return (float(c @ tried), tried) if np.all(A @ tried <= b + 1e-7) else None
