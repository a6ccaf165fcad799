"""Networks as chains of blocks, which keep their input and run again: what recomputation leaves of them (design §3).

A block is what a network repeats, or a run of ops under one name between such repetitions. Skip connections end at the borders
of blocks, so that what they carry is the input of some block and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.models.state import saved_bytes
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Conv, Gemm
from ridgepoint.plan import Plan
from ridgepoint.tasks.recomputation import Choice, Kind, planned
from ridgepoint.work import Op, Repeat, Seq, Work, ops


@dataclass(frozen=True)
class Block:
    """``count`` equal blocks: the forward pass of one, what it is given, what it keeps for its backward pass."""

    name: str
    work: Work
    count: float
    input_bytes: Num
    saved_bytes: Num

    @property
    def freed_bytes(self) -> Num:
        """What one block need not keep if it runs again."""
        return plain(np.maximum(np.asarray(self.saved_bytes) - self.input_bytes, 0.0))


def blocks(forward: Work) -> list[Block]:
    """The blocks of a network's forward pass, in order."""
    parts = forward.children() if isinstance(forward, Seq) else (forward,)
    return [_block(work, count) for work, count in _grouped(parts)]


def _grouped(parts: Sequence[Work]) -> Iterator[tuple[Work, float]]:
    def key(item: tuple[int, Work]) -> tuple[str, int]:
        number, part = item
        return ("", number) if isinstance(part, Repeat) else (_scope(part), -1)

    for _, group in groupby(enumerate(parts), key):
        found = [part for _, part in group]
        if isinstance(found[0], Repeat):
            yield found[0].body, float(np.max(found[0].count))
        else:
            yield Seq(*found), 1.0


def _scope(part: Work) -> str:
    first = next(ops(part), None)
    return "" if first is None else first.label.rpartition(".")[0]


def _block(work: Work, count: float) -> Block:
    first = next(ops(work), None)
    given = 0.0 if first is None else _input_bytes(first)
    return Block(_scope(work) or (first.label if first else ""), work, count, given, saved_bytes(work, 0, 1.0, False))


def _input_bytes(op: Op) -> Num:
    if isinstance(op, Gemm):
        return op.m * op.k * op.batch * FORMATS[op.acts].bytes
    if isinstance(op, Conv):
        return op.batch * op.c_in * op.h * op.w * FORMATS[op.acts].bytes
    return rules_of(op).read_bytes(op)


def kept_bytes(found: Sequence[Block], plan: Plan) -> Num:
    """Activations under what the plan recomputes: what is kept of every block, and the largest that is at hand."""
    whole = sum((block.count * block.saved_bytes for block in found), 0.0)
    if plan.recompute == "none":
        return whole
    if plan.recompute == "sqrt":
        return in_segments(found)
    parts = _parts(found, plan)
    freed = sum((part * b.count * b.freed_bytes for part, b in zip(parts, found, strict=True)), 0.0)
    at_hand: Num = 0.0
    for part, block in zip(parts, found, strict=True):
        at_hand = np.maximum(at_hand, np.where(np.asarray(part) > 0.0, block.freed_bytes, 0.0))
    return plain(whole - freed + at_hand)


def _parts(found: Sequence[Block], plan: Plan) -> list[Num]:
    """The part of each kind of block that runs again."""
    if plan.recompute == "planned":
        return [sum(part for part, again in each if again) for each in plan.recomputed]
    return [plan.recomputed_layers] * len(found)


def again(found: Sequence[Block], forward: Work, plan: Plan) -> list[Work]:
    """What runs a second time before the backward pass."""
    if plan.recompute == "none":
        return []
    if plan.recompute == "planned":
        parts = zip(_parts(found, plan), found, strict=True)
        return [Repeat(part * block.count, block.work) for part, block in parts if np.any(np.asarray(part) > 0.0)]
    return [forward if plan.recompute == "sqrt" else Repeat(plan.recomputed_layers, forward)]


def in_segments(found: Sequence[Block]) -> Num:
    """The least that segments of blocks leave, over all numbers of segments (Chen et al. 2016): their inputs, and all of the
    largest one. Borders are such that segments keep about the same.
    """
    chain = [block for block in found for _ in range(round(block.count))]
    sizes = np.array([float(np.mean(block.saved_bytes)) for block in chain])
    ends = np.cumsum(sizes)
    best: Num | None = None
    ways = [
        [0, *(int(np.searchsorted(ends, ends[-1] * i / n, "right")) for i in range(1, n))] for n in range(1, len(chain))
    ]
    for borders in (sorted({*way}) for way in (*ways, range(len(chain)))):
        segments = [chain[a:b] for a, b in zip(borders, [*borders[1:], len(chain)], strict=True)]
        kept: Num = 0.0
        largest: Num = 0.0
        for part in segments:
            kept = kept + part[0].input_bytes
            largest = np.maximum(largest, sum((b.saved_bytes for b in part), 0.0) - part[0].input_bytes)
        total = kept + largest
        if best is None or float(np.mean(total)) < float(np.mean(best)):
            best = total
    return 0.0 if best is None else plain(best)


def planned_blocks(
    found: Sequence[Block], excess_bytes: float, seconds: Callable[[Work], float]
) -> tuple[tuple[tuple[float, tuple[str, ...]], ...], ...]:
    """For each kind of block what part runs again and what does not, such that ``excess_bytes`` are freed soonest."""
    kinds = []
    for block in found:
        own = [Choice((), 0.0, 0.0)]
        if float(block.freed_bytes) > 0.0:
            own.append(Choice((block.name or "block",), seconds(block.work), float(block.freed_bytes)))
        kinds.append(Kind(block.count, 1.0, own))
    return tuple(
        tuple((part, kind.choices[number].again) for part, number in each)
        for kind, each in zip(kinds, planned(kinds, excess_bytes), strict=True)
    )
