"""All combinations of some candidates per call as arrays: moves, memory call by call, and the schedule of an iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array
from ridgepoint.training.graph.candidates import Candidate
from ridgepoint.training.graph.graph import Call, Graph
from ridgepoint.training.graph.moves import fetched, move, seconds


class Moves:
    """Seconds of moves between two candidates, each computed once."""

    def __init__(self, graph: Graph, parts: Mapping[str, Machine]) -> None:
        self.graph, self.parts = graph, parts
        self._known: dict[tuple[int, int, bool], float] = {}

    def between(self, trained: Candidate, called: Candidate, apart: bool) -> float:
        """From the layout of a training to that of a call."""
        key = (id(trained), id(called), apart)
        if key not in self._known:
            whole = self.parts[""] if apart else trained.estimate.scenario.machine
            self._known[key] = seconds(move(trained, called, whole, apart), whole)
        return self._known[key]


class Combined:
    """All combinations of some candidates: what each needs, whether it fits, and how long its iteration takes."""

    def __init__(self, graph: Graph, lists: list[list[Candidate]], moved: Moves, usable: float) -> None:
        self.graph, self.lists, self.moved, self.usable = graph, lists, moved, usable
        self.shape = tuple(len(ways) for ways in lists)
        self.moves = [_moves(graph, moved, lists, i) for i in range(len(lists))]
        self.memory = [_memory(graph, lists, i) for i in range(len(lists))]
        self.needs = [sum(needed.values(), np.zeros(self.shape)) for needed in self.memory]
        self.fits: NDArray[np.bool_] = np.max(np.stack(self.needs), axis=0) <= usable
        times = [_along(np.array([c.time_s for c in ways]), i, len(lists)) for i, ways in enumerate(lists)]
        self.starts, self.ends = schedule(graph.calls, times, self.moves)
        last = np.max(np.stack([np.broadcast_to(end, self.shape) for end in self.ends]), axis=0)
        self.total: Array = np.where(self.fits, last, np.inf)

    @property
    def best(self) -> tuple[int, ...]:
        """Where the fastest one that fits is."""
        return tuple(int(i) for i in np.unravel_index(int(np.argmin(self.total)), self.shape))

    def at(self, values: Any) -> float:
        """A figure of the best one."""
        return float(np.broadcast_to(np.asarray(values), self.shape)[self.best])


def _along(values: Array, axis: int, axes: int) -> Array:
    """A list of one call's candidates as an array that broadcasts over all combinations."""
    return values.reshape([-1 if i == axis else 1 for i in range(axes)])


def _moves(graph: Graph, moved: Moves, lists: list[list[Candidate]], i: int) -> Array:
    """Seconds before call ``i`` in which parameters move: from the layout that trained them (unless the member trains here,
    where its weights are), and from the host's memory and back where they rest there.
    """
    call, axes = graph.calls[i], len(lists)
    member, trained = graph.members[call.member], graph.trained(call.member)
    found: Array = np.zeros([1] * axes)
    if member.rest == "host":
        there = [c.stay_bytes if call.kind == "train" else c.weight_bytes for c in lists[i]]
        ways = ("read", "write") if call.kind == "train" else ("read",)
        each = [sum(seconds(fetched(size, way), moved.parts[call.group]) for way in ways) for size in there]
        return found + _along(np.array(each), i, axes)
    if trained is None or call.kind == "train":
        return found
    j = graph.calls.index(trained)
    apart = trained.group != call.group
    pairs = np.array([[moved.between(t, c, apart) for c in lists[i]] for t in lists[j]])
    return found + _across(pairs, j, i, axes)


def _across(pairs: Array, j: int, i: int, axes: int) -> Array:
    """A table over the candidates of calls ``j`` (rows) and ``i`` as an array that broadcasts over all combinations."""
    rows, columns = pairs.shape
    return (pairs if j < i else pairs.T).reshape([rows if k == j else columns if k == i else 1 for k in range(axes)])


def _memory(graph: Graph, lists: list[list[Candidate]], i: int) -> dict[str, Array]:
    """Bytes on a device during call ``i``: what the members on the same devices keep, and the call's own entries."""
    call, axes = graph.calls[i], len(lists)
    found: dict[str, Array] = {}
    for name in graph.members:
        kept = _kept(graph, lists, name, call)
        if kept is not None:
            found[f"{name} keeps"] = kept
    entries = dict.fromkeys(entry for c in lists[i] for entry in c.estimate.memory.entries)
    for entry in entries:
        sizes = np.array([float(c.estimate.memory.entries.get(entry, 0.0)) for c in lists[i]])
        found[entry] = _along(sizes, i, axes)
    trained = graph.trained(call.member)
    if trained is not None and call.kind != "train" and trained.group == call.group:
        j = graph.calls.index(trained)
        same = np.array([[_same_layout(t, c) for c in lists[i]] for t in lists[j]], dtype=float)
        found["weights"] = found["weights"] * (1.0 - _across(same, j, i, axes))
    return found


def _same_layout(one: Candidate, other: Candidate) -> bool:
    """Whether a call can read the weights that training keeps: the same cut, none of it in shards."""
    return one.pieces == other.pieces and all(one.degree(n) == other.degree(n) for n in ("tp", "pp", "ep"))


def _kept(graph: Graph, lists: list[list[Candidate]], name: str, during: Call) -> Array | None:
    """What a member keeps on the devices of the group of ``during`` while that call runs; None where it keeps nothing."""
    member, axes = graph.members[name], len(lists)
    if member.rest == "host":
        return None
    trained = graph.trained(name)
    keeps = [trained] if trained is not None else [c for c in graph.calls if c.member == name]
    here = [c for c in keeps if share_devices(c.group, during.group) and c.name != during.name]
    if not here or (trained is None and during.member == name):
        return None
    sizes = [
        _along(
            np.array(
                [c.stay_bytes if call.kind == "train" else c.weight_bytes for c in lists[graph.calls.index(call)]]
            ),
            graph.calls.index(call),
            axes,
        )
        for call in here
    ]
    most: Array = sizes[0]
    for size in sizes[1:]:
        most = np.maximum(most, size)
    return most


def share_devices(one: str, other: str) -> bool:
    """Whether two groups have devices in common: a call without a group has all of them."""
    return one == other or not one or not other


def schedule(calls: Sequence[Call], times: Sequence[Any], moves: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """(starts, ends) of the calls, in their order: after those that they wait for, and after those before them on the same
    devices.
    """
    starts: list[Any] = []
    ends: list[Any] = []
    for i, call in enumerate(calls):
        start: Any = 0.0
        for j in range(i):
            if calls[j].name in call.after or share_devices(calls[j].group, call.group):
                start = np.maximum(start, ends[j])
        starts.append(start)
        ends.append(start + moves[i] + times[i])
    return starts, ends
