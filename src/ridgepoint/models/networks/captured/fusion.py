"""The fusion pass: chains of memory-bound kernels become one, as compilers do; what stays inside is never written.

Kernels merge when one reads what the other wrote, when both visit the same points (or the rows that a norm or softmax among
them reduces to), and when nothing that lies outside would have to run between them. Products, convolutions and attention
keep their inputs and outputs in memory: libraries compute them, with the bias inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ridgepoint.models.networks.captured.formula import compiled, value
from ridgepoint.models.networks.captured.graph import Graph, Kernel

_PROBE = (1009.0, 1013.0, 1019.0, 1021.0, 1031.0, 1033.0, 1039.0, 1049.0)
"""Primes at which sizes are compared, so that different formulas do not agree by chance."""


@dataclass
class Group:
    """Kernels that run as one."""

    members: list[int]
    before: int
    """Bits of the groups that must run before it."""
    space: float = 0.0
    rows: float = 0.0
    fuses: bool = False


def groups(graph: Graph, fused: bool) -> list[list[int]]:
    """Positions of the kernels that run as one, in an order in which they can run."""
    if not fused:
        return [[at] for at in range(len(graph.kernels))]
    return [list(members) for members in _fused(_Held(graph))]


class _Held:
    """A graph as a key: equal only to itself."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __hash__(self) -> int:
        return id(self.graph)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other.graph is self.graph


@lru_cache(maxsize=64)
def _fused(held: _Held) -> tuple[tuple[int, ...], ...]:
    """Fused over the borders of equal layers, where the end of one and the beginning of the next are one kernel in every
    repetition alike; else within layers only.
    """
    over = _merged(held.graph, lambda at: (0, at >= held.graph.turn))
    if _counts(held.graph, over) == _counts(held.graph, [(at,) for at in range(len(held.graph.kernels))]):
        return over
    return _merged(held.graph, lambda at: _segment(held.graph, at))


def _counts(graph: Graph, found: Iterable[tuple[int, ...]]) -> dict[tuple[str, str], float]:
    """How often each kernel runs; a group runs as often as its first member."""
    counts: dict[tuple[str, str], float] = {}
    for members in found:
        times = graph.times(members[0])
        for kernel in (graph.kernels[at] for at in members):
            counts[kernel.call, kernel.label] = counts.get((kernel.call, kernel.label), 0.0) + times
    return counts


def _merged(graph: Graph, segment_of: Callable[[int], tuple[int, bool]]) -> tuple[tuple[int, ...], ...]:
    sizes = {name: _PROBE[i % len(_PROBE)] for i, name in enumerate(sorted(_names(graph)))}
    found: list[Group] = []
    of_tensor: dict[int, int] = {}
    segment = [segment_of(at) for at in range(len(graph.kernels))]
    for at, kernel in enumerate(graph.kernels):
        inputs = {of_tensor[t] for t, *_ in kernel.reads if t in of_tensor}
        homes = _homes(kernel, inputs, found, segment, at, sizes)
        home = homes[0] if homes else len(found)
        if not homes:
            found.append(Group([], 0))
        for other in homes[1:]:
            waits = any(found[h].before >> other & 1 for h in inputs - {home, other})
            if not waits and _may_merge(found, home, other):
                _merge(found, home, other)
                of_tensor = {t: home if g == other else g for t, g in of_tensor.items()}
                inputs = (inputs - {other}) | {home}
        before = 0
        for g in inputs - {home}:
            before |= found[g].before | (1 << g)
        _let_wait(found, home, before)
        _join(found[home], at, kernel, sizes)
        for t in kernel.writes:
            of_tensor[t] = home
    return tuple(tuple(sorted(group.members)) for group in _ordered(found) if group.members)


def _homes(
    kernel: Kernel, inputs: set[int], found: list[Group], segment: list[tuple[int, bool]], at: int,
    sizes: Mapping[str, float],
) -> list[int]:  # fmt: skip
    """The group that the kernel joins, and those which may then merge with it."""
    if not kernel.fuses:
        return []
    alike = [
        g
        for g in sorted(inputs, reverse=True)
        if found[g].fuses and segment[found[g].members[0]] == segment[at] and _fits(kernel, found[g], sizes)
    ]
    legal = [g for g in alike if not any(found[h].before >> g & 1 for h in inputs - {g})]
    return [legal[0], *(g for g in alike if g != legal[0])] if legal else []


def _may_merge(found: list[Group], a: int, b: int) -> bool:
    """Whether nothing else must run between two groups, and whether they reduce to the same rows."""
    if found[a].rows and found[b].rows and found[a].rows != found[b].rows:
        return False
    return not any(
        (group.before >> a & 1 and found[b].before >> x & 1) or (group.before >> b & 1 and found[a].before >> x & 1)
        for x, group in enumerate(found)
        if x not in (a, b)
    )


def _merge(found: list[Group], into: int, other: int) -> None:
    gone = found[other]
    found[into].members += gone.members
    found[into].before = (found[into].before | gone.before) & ~(1 << into) & ~(1 << other)
    found[into].space, found[into].rows = max(found[into].space, gone.space), found[into].rows or gone.rows
    found[other] = Group([], 0)
    for group in found:
        if group.before >> other & 1:
            group.before = (group.before & ~(1 << other)) | (1 << into) | found[into].before
    _let_wait(found, into, found[into].before)


def _fits(kernel: Kernel, group: Group, sizes: Mapping[str, float]) -> bool:
    """Whether both visit the same points, or one of them the rows that the other reduces to."""
    space, rows = _extent(kernel, sizes)
    if rows and group.rows and rows != group.rows:
        return False
    if kernel.call == "cat" and group.space < space:  # a compiler computes each part where it is put
        return not group.rows
    return space == group.space or space == group.rows or (rows > 0.0 and group.space == rows)


def _extent(kernel: Kernel, sizes: Mapping[str, float]) -> tuple[float, float]:
    """Points that a kernel visits, and rows that it reduces them to (0: none)."""
    return float(value(kernel.space, sizes)), float(value(kernel.sizes.get("rows", 0.0), sizes))


def _join(group: Group, at: int, kernel: Kernel, sizes: Mapping[str, float]) -> None:
    space, rows = _extent(kernel, sizes) if kernel.fuses else (0.0, 0.0)
    group.members.append(at)
    group.fuses = kernel.fuses
    group.space, group.rows = max(group.space, space), group.rows or rows


def _let_wait(found: list[Group], home: int, before: int) -> None:
    """A group, and everything after it, must now also wait for ``before``."""
    found[home].before |= before
    for group in found:
        if group.before >> home & 1:
            group.before |= before


def _ordered(found: list[Group]) -> list[Group]:
    """Groups so that each runs after those it waits for; the program's order otherwise."""
    done, waiting, result = 0, list[int](), list[Group]()
    for g in range(len(found)):
        waiting.append(g)
        while (ready := next((h for h in waiting if not found[h].before & ~done), None)) is not None:
            waiting.remove(ready)
            done |= 1 << ready
            result.append(found[ready])
    assert not waiting, "fusion made a cycle"
    return result


def _segment(graph: Graph, at: int) -> tuple[int, bool]:
    """What a kernel may merge within: its span of equal runs, and its pass."""
    span = next((i for i, s in enumerate(graph.spans) if s.start <= at < s.stop), -1)
    if span >= 0:
        return span, at >= graph.turn
    passed = sum(1 for s in graph.spans if s.stop <= at)
    return -1 - passed, at >= graph.turn


def _names(graph: Graph) -> set[str]:
    formulas = {size for kernel in graph.kernels for size in (kernel.space, *kernel.sizes.values())}
    return {name for size in formulas if isinstance(size, str) for name in compiled(size)[1]}
