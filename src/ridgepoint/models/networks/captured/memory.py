"""Memory of a captured pass by liveness: every tensor takes room from the kernel that makes it to the last that reads it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.models.networks.captured.kernels import Evaluation
from ridgepoint.numeric import Num, plain


@dataclass(frozen=True)
class Memory:
    """Bytes: the most that lives at once beside parameters and caches, and what caches hold."""

    peak: Num
    cache: Num


def memory(at: Evaluation) -> Memory:
    """The memory of a pass.

    Tensors that equal runs of a span keep for the backward pass live as often as the span runs; what one run hands to the
    next lives once.
    """
    graph = at.graph
    order = [members for _, members in at.runs()]
    step_of = {kernel: step for step, members in enumerate(order) for kernel in members}
    turn = next((step for step, members in enumerate(order) if members[0] >= graph.turn), len(order))
    born, last, copies = dict[int, int](), dict[int, int](), dict[int, float]()
    for position, kernel in enumerate(graph.kernels):
        step = step_of[position]
        for tensor in (*(t for t, *_ in kernel.reads), *kernel.writes):
            root = _root(at, tensor)
            if root not in born:
                given = graph.tensors[root].role in ("input", "parameter", "cache")
                born[root], copies[root] = 0 if given else step, graph.times(position)
            last[root] = max(last.get(root, 0), step)
            if graph.tensors[tensor].role in ("output", "gradient"):
                last[root] = len(order) - 1
    inside = _inside(at, order)
    change: list[Num] = [0.0] * (len(order) + 1)
    cache: Num = 0.0
    for root in born:
        role = graph.tensors[root].role
        size = at.tensor_bytes(root)
        if role == "cache":
            cache = cache + size * copies[root]
        elif role not in ("parameter", "gradient") and root not in inside:
            kept = copies[root] if born[root] < turn <= last[root] else 1.0
            change[born[root]] = change[born[root]] + size * kept
            change[last[root] + 1] = change[last[root] + 1] - size * kept
    live: Num = 0.0
    peak: Num = 0.0
    for step in range(len(order)):
        live = live + change[step]
        peak = np.maximum(peak, live)
    return Memory(plain(peak), plain(cache))


def _inside(at: Evaluation, order: list[list[int]]) -> set[int]:
    """Tensors that are made and used up within one merged kernel."""
    kernels = at.graph.kernels
    step_of = {position: step for step, members in enumerate(order) for position in members}
    readers: dict[int, set[int]] = {}
    for position, kernel in enumerate(kernels):
        for tensor, *_ in kernel.reads:
            readers.setdefault(tensor, set()).add(step_of[position])
    return {
        tensor
        for position, kernel in enumerate(kernels)
        for tensor in kernel.writes
        if at.graph.tensors[tensor].role == "activation" and readers.get(tensor) == {step_of[position]}
    }


def _root(at: Evaluation, tensor: int) -> int:
    """The tensor whose place in memory a tensor takes."""
    while (over := at.graph.tensors[tensor].over) >= 0:
        tensor = over
    return tensor
