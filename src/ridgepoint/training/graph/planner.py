"""``plan_graph``: a plan for every call of a graph of models, chosen together: what one call keeps, another lacks.

Combinations of a few candidates per call are tried first, then all candidates of any two calls until that helps no more. The
time of an iteration is that of its schedule: a call starts when the calls that it waits for and the devices of its group are
done, after its parameters have been moved; groups run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.parameters import total_parameters
from ridgepoint.numeric import Array
from ridgepoint.plan import Plan
from ridgepoint.tasks.memory import tier_rooms, usable_fraction
from ridgepoint.training.goodput import STATE_BYTES
from ridgepoint.training.graph.candidates import Candidate, candidates
from ridgepoint.training.graph.graph import Call, Graph
from ridgepoint.training.graph.moves import fetched, move, seconds

COMBINATIONS = 100_000
"""Combinations that are tried at first; calls get as many candidates as that allows."""
FASTER = 2.0
"""How much faster a resource is made to see what it would bring."""
WEIGHT_BYTES = 2.0
"""Bytes per parameter of a model that only scores or generates."""


@dataclass(frozen=True)
class Planned:
    """One call as it runs: seconds from the start of the iteration, and bytes on the fullest device of its group."""

    call: Call
    candidate: Candidate
    machine: Machine
    move_s: float
    start_s: float
    end_s: float
    memory: Mapping[str, float]
    """What lies on a device during the call: what others keep, by member, and the call's own entries."""

    @property
    def memory_bytes(self) -> float:
        """All of it."""
        return sum(self.memory.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        plan = self.candidate.estimate.scenario.plan
        training = self.call.kind == "train"
        return {
            "name": self.call.name,
            "model": self.candidate.estimate.scenario.model.name,
            "member": self.call.member,
            "kind": self.call.kind,
            "group": self.call.group or None,
            "devices": self.machine.devices,
            **{name: self.candidate.degree(name) for name in ("tp", "pp", "dp", "ep", "cp")},
            "zero_stage": self.candidate.stage if training else None,
            "micro_batch": int(plan.micro_batch or 1) if training else None,
            "times": self.candidate.times,
            "time_s": self.candidate.time_s,
            "move_s": self.move_s,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "bottleneck": self.candidate.estimate.bottleneck,
            "shares": {name: float(share) for name, share in self.candidate.estimate.shares.items()},
            "memory_gb": self.memory_bytes / 1e9,
            "memory": dict(self.memory),
        }


@dataclass(frozen=True)
class GraphPlan:
    """The answer of ``plan_graph``."""

    graph: Graph
    machine: Machine
    calls: tuple[Planned, ...]
    searched: int
    fitting: int
    usable_bytes: float

    @property
    def time_s(self) -> float:
        """Seconds of an iteration."""
        return max(planned.end_s for planned in self.calls)

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens per second (trained ones where nothing is generated)."""
        made = [c.call.batch * c.call.output for c in self.calls if c.call.kind == "generate"]
        read = [c.call.batch * c.call.seq for c in self.calls if c.call.kind == "train"]
        return sum(made or read) / self.time_s

    @cached_property
    def critical(self) -> tuple[Planned, ...]:
        """The calls that the iteration's time is made of, first one first: each starts when the one before it ends."""
        found = [max(self.calls, key=lambda planned: planned.end_s)]
        while found[0].start_s > 1e-12:
            found.insert(0, min(self.calls, key=lambda planned: abs(planned.end_s - found[0].start_s)))
        return tuple(found)

    @cached_property
    def shares(self) -> dict[str, float]:
        """Resource → part of the iteration that it is responsible for, largest first; ``moves`` for parameters on the way."""
        parts: dict[str, float] = {}
        for planned in self.critical:
            parts["moves"] = parts.get("moves", 0.0) + planned.move_s
            for name, share in planned.candidate.estimate.shares.items():
                parts[name] = parts.get(name, 0.0) + float(share) * planned.candidate.time_s
        total = sum(parts.values())
        return dict(sorted(((n, s / total) for n, s in parts.items() if s > 0.0), key=lambda item: -item[1]))

    @cached_property
    def sensitivity(self) -> dict[str, float]:
        """Resource → speed-up of the iteration if it were twice as fast, same plan, moves as they are; largest first."""
        found = {}
        for name in self.shares:
            times = [
                c.candidate.times * float(c.candidate.estimate.cost.timing_at({name: FASTER}).time_s)
                for c in self.calls
            ]
            _, ends = _schedule([c.call for c in self.calls], times, [c.move_s for c in self.calls])
            found[name] = self.time_s / float(np.max(ends))
        return dict(sorted(((n, g) for n, g in found.items() if g > 1.0005), key=lambda item: -item[1]))

    @property
    def citations(self) -> tuple[str, ...]:
        """What the calls' estimates rely on."""
        return tuple(dict.fromkeys(text for c in self.calls for text in c.candidate.estimate.citations))

    def to_dict(self) -> dict[str, Any]:
        """One document."""
        return {
            "machine": self.machine.name,
            "time_s": self.time_s,
            "tokens_per_s": self.tokens_per_s,
            "calls": [planned.to_dict() for planned in self.calls],
            "critical": [planned.call.name for planned in self.critical],
            "shares": self.shares,
            "sensitivity": self.sensitivity,
            "memory": {"usable_gb": self.usable_bytes / 1e9, "peak_gb": max(c.memory_bytes for c in self.calls) / 1e9},
            "searched": self.searched,
            "fitting": self.fitting,
            "assumptions": list(dict.fromkeys(text for c in self.calls for text in c.candidate.estimate.assumptions)),
            "citations": list(dict.fromkeys(text for c in self.calls for text in c.candidate.estimate.citations)),
        }


def plan_graph(
    graph: Graph,
    *,
    on: Machine | str,
    max_memory: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GraphPlan:
    """The fastest iteration of ``graph`` on ``on``: a layout for every call, so that what all members keep fits.

    Errors: ``bad_graph`` for groups that the machine does not have, ``does_not_fit`` with what would help; those of plans.
    """
    machine = find_machine(on) if isinstance(on, str) else on
    usable = machine.memory_bytes * usable_fraction(Plan(), True)
    usable = usable if max_memory is None else min(usable, max_memory)
    parts = _parts(graph, machine)
    _check_host(graph, machine)
    lists = _lists(graph, parts, usable, progress)
    few = max(int(COMBINATIONS ** (1.0 / len(lists))), 2)
    moved = _Moves(graph, parts)
    first = _Combined(graph, [_thinned(ways, few) for ways in lists], moved, usable)
    if not first.fits.any():
        _refuse(first, machine)
    return _improved(graph, machine, parts, lists, first)


def _lists(
    graph: Graph, parts: Mapping[str, Machine], usable: float, progress: Callable[[int, int], None] | None
) -> list[list[Candidate]]:
    """The candidates of every call; calls that are alike share them."""
    lists: list[list[Candidate]] = []
    known: dict[Any, list[Candidate]] = {}
    for i, call in enumerate(graph.calls):
        model = graph.members[call.member].model
        same = (
            model,
            call.kind,
            call.batch,
            call.prompt,
            call.output,
            call.steps,
            call.group,
            tuple(call.plan.items()),
        )
        if same not in known:
            known[same] = candidates(call, model, parts[call.group], usable)
        lists.append(known[same])
        if progress is not None:
            progress(i + 1, len(graph.calls))
    return lists


def _thinned(ways: list[Candidate], few: int) -> list[Candidate]:
    if len(ways) <= few:
        return ways
    return [ways[i] for i in np.unique(np.linspace(0, len(ways) - 1, few).round().astype(int))]


class _Moves:
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


class _Combined:
    """All combinations of some candidates: what each needs, whether it fits, and how long its iteration takes."""

    def __init__(self, graph: Graph, lists: list[list[Candidate]], moved: _Moves, usable: float) -> None:
        self.graph, self.lists, self.moved, self.usable = graph, lists, moved, usable
        self.shape = tuple(len(ways) for ways in lists)
        self.moves = [_moves(graph, moved, lists, i) for i in range(len(lists))]
        self.memory = [_memory(graph, lists, i) for i in range(len(lists))]
        self.needs = [sum(needed.values(), np.zeros(self.shape)) for needed in self.memory]
        self.fits: NDArray[np.bool_] = np.max(np.stack(self.needs), axis=0) <= usable
        times = [_along(np.array([c.time_s for c in ways]), i, len(lists)) for i, ways in enumerate(lists)]
        self.starts, self.ends = _schedule(graph.calls, times, self.moves)
        last = np.max(np.stack([np.broadcast_to(end, self.shape) for end in self.ends]), axis=0)
        self.total: Array = np.where(self.fits, last, np.inf)

    @property
    def best(self) -> tuple[int, ...]:
        """Where the fastest one that fits is."""
        return tuple(int(i) for i in np.unravel_index(int(np.argmin(self.total)), self.shape))

    def at(self, values: Any) -> float:
        """A figure of the best one."""
        return float(np.broadcast_to(np.asarray(values), self.shape)[self.best])


def _improved(
    graph: Graph, machine: Machine, parts: Mapping[str, Machine], lists: list[list[Candidate]], first: _Combined
) -> GraphPlan:
    """From the best of a few candidates per call: any two calls choose anew among all of theirs, as long as that helps."""
    chosen = [first.lists[i][k] for i, k in enumerate(first.best)]
    time, searched, fitting, last = float(np.min(first.total)), first.total.size, int(first.fits.sum()), first
    better = True
    while better:
        better = False
        for pair in combinations(range(len(lists)), min(2, len(lists))):
            free = [lists[i] if i in pair else [chosen[i]] for i in range(len(lists))]
            one = _Combined(graph, free, first.moved, first.usable)
            searched, fitting = searched + one.total.size, fitting + int(one.fits.sum())
            if float(np.min(one.total)) < time * (1.0 - 1e-9):
                time, last, better = float(np.min(one.total)), one, True
                chosen = [free[i][k] for i, k in enumerate(one.best)]
    planned = tuple(
        Planned(
            call,
            chosen[i],
            parts[call.group],
            last.at(last.moves[i]),
            last.at(last.starts[i]),
            last.at(last.ends[i]),
            {name: last.at(size) for name, size in last.memory[i].items() if last.at(size) > 0.0},
        )
        for i, call in enumerate(graph.calls)
    )
    return GraphPlan(graph, machine, planned, searched, fitting, first.usable)


def _check_host(graph: Graph, machine: Machine) -> None:
    """Refuse what rests in the host's memory and does not fit there: weights, and states of what is trained."""
    room = tier_rooms(machine).get("host")
    resting = [member for member in graph.members.values() if member.rest == "host"]
    if room is None or not resting:
        return
    room *= machine.devices
    need = sum(
        total_parameters(member.model) * (STATE_BYTES if graph.trained(member.name) else WEIGHT_BYTES)
        for member in resting
    )
    if need > room:
        raise RidgepointError(
            "does_not_fit",
            f"{', '.join(member.name for member in resting)} need at least {need / 1e9:,.0f} GB of the hosts' "
            f"{room / 1e9:,.0f} GB",
            "let fewer models rest there, or use more nodes",
        )


def _along(values: Array, axis: int, axes: int) -> Array:
    """A list of one call's candidates as an array that broadcasts over all combinations."""
    return values.reshape([-1 if i == axis else 1 for i in range(axes)])


def _parts(graph: Graph, machine: Machine) -> dict[str, Machine]:
    """The machine of every group, and of calls that have all devices."""
    wanted = sum(graph.groups.values())
    if wanted > machine.devices:
        raise RidgepointError(
            "bad_graph",
            f"the groups have {wanted} devices, {machine.name} has {machine.devices}",
            "make a group smaller",
        )
    return {"": machine, **{name: _part(machine, name, count) for name, count in graph.groups.items()}}


def _part(machine: Machine, name: str, count: int) -> Machine:
    """``count`` devices of a machine: whole nodes, or a part of one."""
    per_node = machine.devices_per_node
    if count >= 1 and count % per_node == 0:
        nodes = count // per_node
        each = machine.device.name if per_node == 1 else f"{per_node}x{machine.device.name}"
        return replace(machine, name=each if nodes == 1 else f"{nodes}x{each}", nodes=nodes)
    if count < 1 or per_node % count:
        near = sorted({n for n in range(1, per_node + 1) if per_node % n == 0} | {per_node * k for k in (1, 2, 4)})
        raise RidgepointError(
            "bad_graph",
            f"group {name} has {count} devices: neither whole nodes of {per_node} nor an even part of one",
            "use one of " + ", ".join(map(str, near)),
        )
    each = machine.device.name if count == 1 else f"{count}x{machine.device.name}"
    return replace(machine, name=each, devices_per_node=count, nodes=1)


def _moves(graph: Graph, moved: _Moves, lists: list[list[Candidate]], i: int) -> Array:
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
    here = [c for c in keeps if _share(c.group, during.group) and c.name != during.name]
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


def _share(one: str, other: str) -> bool:
    """Whether two groups have devices in common: a call without a group has all of them."""
    return one == other or not one or not other


def _schedule(calls: Sequence[Call], times: Sequence[Any], moves: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """(starts, ends) of the calls, in their order: after those that they wait for, and after those before them on the same
    devices.
    """
    starts: list[Any] = []
    ends: list[Any] = []
    for i, call in enumerate(calls):
        start: Any = 0.0
        for j in range(i):
            if calls[j].name in call.after or _share(calls[j].group, call.group):
                start = np.maximum(start, ends[j])
        starts.append(start)
        ends.append(start + moves[i] + times[i])
    return starts, ends


def _refuse(found: _Combined, machine: Machine) -> NoReturn:
    """Raise ``does_not_fit`` with the call that lacks most, what others keep during it, and what would help."""
    graph = found.graph
    worst = np.max(np.stack(found.needs), axis=0)
    best = np.unravel_index(int(np.argmin(worst)), found.shape)
    i = int(np.argmax([need[best] for need in found.needs]))
    sizes = {name: float(np.broadcast_to(v, found.shape)[best]) for name, v in found.memory[i].items()}
    kept = ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in sizes.items() if name.endswith(" keeps"))
    movable = [name for name, member in graph.members.items() if member.rest == "device"]
    helps = f"let models rest in the host's memory ({', '.join(movable)}), or " if movable else ""
    raise RidgepointError(
        "does_not_fit",
        f"no combination of layouts fits {machine.name}: {graph.calls[i].name} needs {found.needs[i][best] / 1e9:.1f} GB of "
        f"the {found.usable / 1e9:.1f} GB that may be used per device ({kept or 'nothing else is kept'})",
        f"{helps}use more devices",
    )
