"""Sizes of matrix products, as ``record_shapes=True`` writes them down: what products of two runs have in common for sure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

_OPERANDS = {
    "mm": 0,
    "_int_mm": 0,
    "_scaled_mm": 0,
    "bmm": 0,
    "addmm": 1,
    "baddbmm": 1,
    "addbmm": 1,
}
"""Operator → place of its first operand among the inputs; the second one follows."""


@cache
def product(name: str, dims: bytes) -> str:
    """A product's sizes as ``m × k × n``, with a count of equal ones in front; empty for anything else.

    ``dims`` is the JSON of the inputs' sizes. A name without ``::`` is that of a product in a trace that Ridgepoint wrote.

    >>> product("aten::addmm", b"[[4096], [32, 1024], [1024, 4096], [], []]")
    '32 × 1,024 × 4,096'
    >>> product("aten::bmm", b"[[8, 1, 64], [8, 64, 100]]"), product("aten::add", b"[[8], [8]]")
    ('8 of 1 × 64 × 100', '')
    """
    space, _, short = name.rpartition("::")
    place = _OPERANDS.get(short) if space else 0
    if place is None or not dims:
        return ""
    try:
        inputs = msgspec.json.decode(dims, type=list[Any])
    except msgspec.DecodeError:
        return ""
    first, second = ([*inputs, None, None][place + i] for i in range(2))
    if not (_sizes(first) and _sizes(second) and len(first) == len(second) and first[-1] == second[-2]):
        return ""
    count = f"{first[0]:,g} of " if len(first) == 3 and first[0] != 1 else ""
    return f"{count}{first[-2]:,g} × {first[-1]:,g} × {second[-1]:,g}"


def _sizes(found: Any) -> bool:
    return isinstance(found, list) and len(found) in (2, 3) and all(isinstance(n, int | float) for n in found)


def operands(batch: float, m: float, n: float, k: float) -> Sequence[Sequence[float]]:
    """The inputs' sizes of a product, for the other direction.

    >>> operands(1.0, 2.0, 3.0, 4.0)
    ([2.0, 4.0], [4.0, 3.0])
    """
    lead = [] if batch == 1.0 else [batch]
    return [*lead, m, k], [*lead, k, n]
