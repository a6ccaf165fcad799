"""What of a layer, or of a network's block, is kept for the backward pass and what is computed again (design §1, §3).

A layer is a chain of ops; each keeps its input. A *choice* keeps some of these inputs and drops the others; what lies between
a dropped input and the last one kept before it runs again. The layer's own input always stays. ``choices`` lists the ones that
nothing beats; ``planned`` gives layers the cheapest that fit a budget: the steps of their lower convex hulls in the order of
seconds per byte, which is the optimum of the linear program, with the last step on as many whole layers as it takes.

Sources: Chen et al. 2016 (segments), Korthikanti et al. 2022 (selective), Jain et al. 2020 and Bartan et al. 2023 (planned).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from ridgepoint.models.state import saved_bytes
from ridgepoint.numeric import Num
from ridgepoint.ops import Host, Stream
from ridgepoint.plan import Again
from ridgepoint.work import Op, Repeat, Seq, Work, mapped

Seconds = Callable[[Op], float]
MOST_FRONT = 400
"""Choices of one layer that are carried along; more would differ by less than anybody sees."""


@dataclass(frozen=True)
class Link:
    """An op of a layer's chain: how often it runs, its label (the second of a name is ``norm 2``), and what it keeps of its
    input in one layer.
    """

    op: Op
    runs: float
    label: str
    saved_bytes: Num


@dataclass(frozen=True)
class Choice:
    """What is computed again (labels), the seconds that takes per layer, the bytes that it frees."""

    again: Again
    time_s: float
    freed_bytes: float


def links(work: Work, at: str, hidden: int, tp: Num, sequence: bool, slices: Num = 1.0) -> list[Link]:
    """The chain of one layer whose labels begin with ``at``. Norms, which a layer lists at its head, stand before the parts
    that they belong to, further ones behind them.
    """
    parts = list(work.children()) if isinstance(work, Seq) else [work]
    head = parts[0] if parts else None
    found: list[Link] = []
    seen: dict[str, int] = {}

    def add(node: Work, runs: float) -> None:
        if isinstance(node, Repeat):
            add(node.body, runs * float(node.count))
        elif isinstance(node, Host):
            return  # it starts the ops beside it
        elif isinstance(node, Op):
            label = node.label.removeprefix(f"{at}.")
            seen[label] = seen.get(label, 0) + 1
            numbered = label if seen[label] == 1 else f"{label} {seen[label]}"
            found.append(Link(node, runs, numbered, runs * saved_bytes(node, hidden, tp, sequence, slices)))
        else:
            for child in node.children():
                add(child, runs)

    if isinstance(head, Repeat) and isinstance(head.body, Stream) and len(parts) > 1:
        left = float(head.count)
        behind = left - (len(parts) - 1)
        for part in parts[1:]:
            for body, runs in ((head.body, min(left, 1.0)), (part, 1.0), (head.body, min(behind, 1.0))):
                if runs > 0.0:
                    add(body, runs)
            left, behind = left - 1.0, behind - 1.0
    else:
        for part in parts:
            add(part, 1.0)
    return found


class _Dropped(NamedTuple):
    """Inputs that are not kept: seconds to compute them again, bytes that this frees, and the ops between those kept."""

    time_s: float
    freed_bytes: float
    gaps: tuple[tuple[int, int], ...]


def choices(chain: Sequence[Link], seconds: Seconds) -> list[Choice]:
    """The choices on the lower convex hull of seconds over bytes, from keeping everything to keeping the input alone.

    Every set of kept inputs is looked at by dynamic programming along the chain: what a kept input costs does not depend on
    what came before it.
    """
    places = [i for i, link in enumerate(chain) if float(link.saved_bytes) > 0.0]
    if not places:
        return [Choice((), 0.0, 0.0)]
    cost = [0.0]
    for link in chain:
        cost.append(cost[-1] + link.runs * seconds(link.op))
    # fronts[p]: those with the input at places[p] kept and all before it decided.
    fronts = [[_Dropped(0.0, 0.0, ())]]
    for p in range(1, len(places) + 1):
        found = []
        freed = 0.0
        for q in range(p - 1, -1, -1):  # the inputs strictly between q and p are dropped
            last = places[p - 1]
            gap = () if q == p - 1 else ((places[q], last),)
            time = cost[last] - cost[places[q]] if gap else 0.0
            found += [_Dropped(d.time_s + time, d.freed_bytes + freed, (*d.gaps, *gap)) for d in fronts[q]]
            freed += float(chain[places[q]].saved_bytes)
        fronts.append(_front(found))
    return [_choice(chain, dropped) for dropped in _hull(fronts[-1])]


def _front(found: list[_Dropped]) -> list[_Dropped]:
    """Those that no other beats in both seconds and bytes."""
    best: list[_Dropped] = []
    for one in sorted(found, key=lambda dropped: (dropped.time_s, -dropped.freed_bytes)):
        if not best or one.freed_bytes > best[-1].freed_bytes:
            best.append(one)
    return best if len(best) <= MOST_FRONT else _hull(best)


def _hull(front: list[_Dropped]) -> list[_Dropped]:
    """The lower convex hull: each step frees bytes at more seconds per byte than the one before."""
    hull: list[_Dropped] = []
    for one in front:
        while len(hull) >= 2 and _slope(hull[-1], one) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(one)
    return hull


def _slope(a: _Dropped, b: _Dropped) -> float:
    return (b.time_s - a.time_s) / max(b.freed_bytes - a.freed_bytes, 1e-30)


def _choice(chain: Sequence[Link], dropped: _Dropped) -> Choice:
    again = tuple(link.label for start, end in dropped.gaps for link in chain[start:end])
    return Choice(again, dropped.time_s, dropped.freed_bytes)


def freed_bytes(chain: Sequence[Link], again: Again) -> Num:
    """What ``again`` frees in one layer: the inputs of the ops that follow one which runs again."""
    return sum((link.saved_bytes for before, link in pairwise(chain) if before.label in again), 0.0)


@dataclass(frozen=True)
class Kind:
    """Equal layers (or blocks): how many on the device, and how many times each one's kept bytes are held at once."""

    layers: float
    held: float
    choices: Sequence[Choice]


Parts = tuple[tuple[float, int], ...]
"""(part of the layers, number of their choice)."""


def planned(kinds: Sequence[Kind], excess_bytes: float, room_bytes: float = 0.0) -> tuple[Parts, ...]:
    """For each kind the parts of its layers under each choice, such that what is freed, less the largest layer at hand, is at
    least ``excess_bytes`` in the least time; all under their leanest choice where nothing is enough. ``room_bytes`` is what the
    layer at hand finds free (where the logits were).
    """
    if excess_bytes <= 0.0:
        return tuple(((1.0, 0),) for _ in kinds)
    caps = sorted({choice.freed_bytes for kind in kinds for choice in kind.choices})
    best: tuple[float, tuple[Parts, ...]] | None = None
    for cap in caps:
        limited = [_limited(kind, cap) for kind in kinds]
        found = _cheapest(limited, excess_bytes + max(cap - room_bytes, 0.0))
        if found is not None and (best is None or found[0] < best[0] * (1.0 - 1e-12)):
            best = found
    return best[1] if best is not None else tuple(((1.0, len(kind.choices) - 1),) for kind in kinds)


def _limited(kind: Kind, cap: float) -> Kind:
    return Kind(kind.layers, kind.held, [c for c in kind.choices if c.freed_bytes <= cap * (1.0 + 1e-12)])


def _cheapest(kinds: Sequence[Kind], wanted: float) -> tuple[float, tuple[Parts, ...]] | None:
    """Steps along the hulls in order of seconds per byte held, until ``wanted`` bytes are freed."""
    steps = []
    for k, kind in enumerate(kinds):
        for c in range(1, len(kind.choices)):
            a, b = kind.choices[c - 1], kind.choices[c]
            gain = (b.freed_bytes - a.freed_bytes) * kind.held
            if gain > 0.0:
                steps.append(((b.time_s - a.time_s) / gain, k, c, gain, b.time_s - a.time_s))
    parts: list[Parts] = [((1.0, 0),) for _ in kinds]
    time = 0.0
    for _, k, c, gain, more in sorted(steps):
        if wanted <= 0.0:
            break
        layers = kinds[k].layers
        many = min(float(ceil(wanted / gain * (1.0 - 1e-12))), layers)
        parts[k] = ((1.0, c),) if many >= layers else ((many / layers, c), (1.0 - many / layers, c - 1))
        time, wanted = time + many * more, wanted - many * gain
    return (time, tuple(parts)) if wanted <= 1e-6 * max(abs(wanted), 1.0) else None


def again_of(work: Work, at: str, again: Again) -> Work:
    """The ops of a layer (or of equal layers) that run again."""
    if isinstance(work, Repeat):
        return Repeat(work.count, again_of(work.body, at, again))
    total: dict[str, int] = {}
    for link in links(work, at, 0, 1.0, False):
        total[_name(link.label)] = total.get(_name(link.label), 0) + 1
    wanted: dict[str, int] = {}
    for label in again:
        wanted[_name(label)] = wanted.get(_name(label), 0) + 1

    def rule(op: Op) -> Work:
        name = op.label.removeprefix(f"{at}.")
        part = wanted.get(name, 0) / total.get(name, 1)
        return op if part == 1.0 else Repeat(part, op) if part > 0.0 else Seq()

    return mapped(work, rule)


def _name(label: str) -> str:
    return label.partition(" ")[0]
