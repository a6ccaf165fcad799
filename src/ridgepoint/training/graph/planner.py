"""``plan_graph``: a plan for every call of a graph of models, chosen together: what one call keeps, another lacks.

Combinations of a few candidates per call are tried first, then all candidates of any two calls until that helps no more. The
time of an iteration is that of its schedule: a call starts when the calls that it waits for and the devices of its group are
done, after its parameters have been moved; groups run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, NoReturn

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.plan import Plan
from ridgepoint.tasks.memory import usable_fraction
from ridgepoint.training.graph.candidates import Candidate, candidates
from ridgepoint.training.graph.combined import Combined, Moves, schedule
from ridgepoint.training.graph.devices import check_host, parts_of
from ridgepoint.training.graph.graph import Call, Graph

COMBINATIONS = 100_000
"""Combinations that are tried at first; calls get as many candidates as that allows."""
FASTER = 2.0
"""How much faster a resource is made to see what it would bring."""


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
            _, ends = schedule([c.call for c in self.calls], times, [c.move_s for c in self.calls])
            found[name] = self.time_s / float(np.max(ends))
        return dict(sorted(((n, g) for n, g in found.items() if g > 1.0005), key=lambda item: -item[1]))

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the calls' estimates rest on."""
        return tuple(dict.fromkeys(text for c in self.calls for text in c.candidate.estimate.assumptions))

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
            "assumptions": list(self.assumptions),
            "citations": list(self.citations),
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
    parts = parts_of(graph, machine)
    check_host(graph, machine)
    lists = _lists(graph, parts, usable, progress)
    few = max(int(COMBINATIONS ** (1.0 / len(lists))), 2)
    moved = Moves(graph, parts)
    first = Combined(graph, [_thinned(ways, few) for ways in lists], moved, usable)
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


def _improved(
    graph: Graph, machine: Machine, parts: Mapping[str, Machine], lists: list[list[Candidate]], first: Combined
) -> GraphPlan:
    """From the best of a few candidates per call: any two calls choose anew among all of theirs, as long as that helps."""
    chosen = [first.lists[i][k] for i, k in enumerate(first.best)]
    time, searched, fitting, last = float(np.min(first.total)), first.total.size, int(first.fits.sum()), first
    better = True
    while better:
        better = False
        for pair in combinations(range(len(lists)), min(2, len(lists))):
            free = [lists[i] if i in pair else [chosen[i]] for i in range(len(lists))]
            one = Combined(graph, free, first.moved, first.usable)
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


def _refuse(found: Combined, machine: Machine) -> NoReturn:
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
