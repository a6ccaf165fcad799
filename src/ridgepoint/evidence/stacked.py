"""Many works without overlaps at once: equal kinds of op from all of them become one op with arrays.

A network is some hundred small ops in sequence, and a table has thousands of networks. What each op takes does not depend
on its neighbours, so that all convolutions of a table are one evaluation:

    time of a work = Σ over its ops of count · time

which is what evaluating the sequence gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.evidence.rows import InexpressibleError
from ridgepoint.kernels.rules import BOUND, EXPECTED
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array, Num
from ridgepoint.work import Counted, Op, Overlap, Repeat, Seq, Work

Whole: TypeAlias = NDArray[np.int64]
CHUNK = 65536
"""Points that are evaluated together."""


@dataclass(frozen=True)
class Totals:
    """Per point of all works: expected seconds, those at the limit, and busy seconds by resource."""

    seconds: Array
    bound_s: Array
    busy_s: dict[str, Array]


def flat(work: Work, count: Num = 1.0) -> Iterator[Counted]:
    """Every op of a sequence with how often it runs.

    Errors: ``InexpressibleError`` where parts run side by side: their times do not add up.
    """
    if isinstance(work, Op):
        yield work, count
    elif isinstance(work, Repeat):
        yield from flat(work.body, count * work.count)
    elif isinstance(work, Seq) or (isinstance(work, Overlap) and len(work.parts) == 1):
        for part in work.parts:
            yield from flat(part, count)
    else:
        raise InexpressibleError(f"a {type(work).__name__.lower()} is no sequence of kernels")


def totals(works: list[tuple[list[Counted], int]], machine: Machine) -> Totals:
    """Totals of ``flat`` works, each with its number of points, one after the other."""
    starts = np.cumsum([0, *(size for _, size in works)])
    groups: dict[tuple[object, ...], list[tuple[Op, Num, int, int]]] = {}
    for (ops, size), start in zip(works, starts, strict=False):
        for op, count in ops:
            groups.setdefault(_key(op), []).append((op, count, int(start), size))
    seconds, bound = np.zeros(starts[-1]), np.zeros(starts[-1])
    busy: dict[str, Array] = {}
    for members in groups.values():
        for piece in _pieces(members):
            op, counts, owner = _stack(piece)
            cost = evaluate(op, machine, mode=EXPECTED, strict=True)
            np.add.at(seconds, owner, counts * cost.time_s)
            np.add.at(bound, owner, counts * evaluate(op, machine, mode=BOUND, strict=True).time_s)
            for name, used in cost.busy_s.items():
                np.add.at(busy.setdefault(name, np.zeros(starts[-1])), owner, counts * used)
    return Totals(seconds, bound, busy)


def _pieces(members: list[tuple[Op, Num, int, int]]) -> Iterator[list[tuple[Op, Num, int, int]]]:
    piece: list[tuple[Op, Num, int, int]] = []
    points = 0
    for member in members:
        piece.append(member)
        points += member[3]
        if points >= CHUNK:
            yield piece
            piece, points = [], 0
    if piece:
        yield piece


def _is_number(value: object) -> bool:
    return type(value) in _NUMBERS or (isinstance(value, int | float) and not isinstance(value, bool))


_NUMBERS = frozenset({float, int, np.ndarray})
"""Nearly all numbers are of exactly these types, which is quick to see: a table has millions of them."""


def _key(op: Op) -> tuple[object, ...]:
    """What equal ops share: kind, and every field that is no number or label."""
    texts = [v for name, v in vars(op).items() if type(v) not in _NUMBERS and name != "label"]
    return (type(op), *[value for value in texts if not _is_number(value)])


def _stack(piece: list[tuple[Op, Num, int, int]]) -> tuple[Op, Array, Whole]:
    """One op with arrays, how often it runs at each point, and which point that is."""
    first = piece[0][0]
    sizes = np.array([size for _, _, _, size in piece])
    values: dict[str, Any] = {}
    for f in fields(first):
        if f.name == "label" or not _is_number(value := getattr(first, f.name)):
            values[f.name] = "" if f.name == "label" else value
            continue
        values[f.name] = _spread([getattr(op, f.name) for op, _, _, _ in piece], sizes)
    counts = _spread([count for _, count, _, _ in piece], sizes)
    starts = np.array([start for _, _, start, _ in piece])
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return type(first)(**values), counts, np.repeat(starts, sizes) + within


def _spread(values: list[Num], sizes: Whole) -> Array:
    """The values of each op at its points, one after the other."""
    if not any(isinstance(value, np.ndarray) for value in values):
        return np.repeat(np.array(values, dtype=float), sizes)
    ends = np.cumsum(sizes).tolist()
    found = np.empty(ends[-1])
    for value, start, end in zip(values, [0, *ends], ends, strict=False):
        found[start:end] = value
    return found
