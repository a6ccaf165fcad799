"""What the host did: own times of operators, and for every event its operator, its component, its forward operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ridgepoint.traces.components import names_a_part, paths
from ridgepoint.traces.events import CALL, MODULE, NOTE, OP, Trace
from ridgepoint.traces.intervals import Ints
from ridgepoint.traces.nesting import nesting_order, own_times, parents

_ENGINE = "autograd::engine::"


@dataclass(frozen=True)
class Host:
    """Columns over all events of a trace; -1 and empty words for events of devices."""

    own: Ints
    """Nanoseconds in which an operator or call was the innermost of its thread."""
    operator: Ints
    """The innermost operator around an event, itself included; -1 outside all."""
    caller: Ints
    """The operator around an event's own, or -1."""
    components: tuple[str, ...]
    component: Ints
    """Place in ``components`` (whose first is the empty name)."""


def host(trace: Trace) -> Host:
    """The host's side of a trace."""
    total = len(trace)
    own = np.zeros(total, dtype=np.int64)
    operator, caller, inner, outer, linked = (np.full(total, -1, dtype=np.int64) for _ in range(5))
    contexts: list[int] = []
    silent = {i for i, name in enumerate(trace.names) if not names_a_part(name)}
    engine = {i for i, name in enumerate(trace.names) if name.startswith(_ENGINE)}
    for events in _threads(trace):
        role, name, back = (column[events].tolist() for column in (trace.role, trace.name, trace.backward))
        above = parents(trace.start[events], trace.end[events], np.arange(len(events))).tolist()
        within, around, by_op, by_caller, by_link = ([-1] * len(events) for _ in range(5))
        for i, parent in enumerate(above):
            if parent >= 0:
                around[i] = within[i] = within[parent]
                by_op[i], by_caller[i], by_link[i] = by_op[parent], by_caller[parent], by_link[parent]
            if role[i] <= MODULE and not (role[i] == NOTE and name[i] in silent):
                within[i] = i
            elif role[i] == OP:
                by_caller[i], by_op[i] = by_op[i], i
                if back[i] or name[i] in engine:
                    by_link[i] = i
        columns = ((inner, within), (outer, around), (operator, by_op), (caller, by_caller), (linked, by_link))
        for column, found in columns:
            places = np.array(found, dtype=np.int64)
            column[events] = np.where(places >= 0, events[places], -1)
        contexts += [int(events[i]) for i, place in enumerate(within) if place == i]
        work = events[trace.role[events] >= OP]
        own[work] = own_times(trace.start[work], trace.end[work], np.arange(len(work)))
    names, component = _components(trace, inner, linked, paths(trace, contexts, outer))
    return Host(own, operator, caller, names, component)


def _threads(trace: Trace) -> Iterator[Ints]:
    """The host's events, thread by thread, each in the order in which they open."""
    events = np.flatnonzero(trace.role <= CALL)
    if not len(events):
        return
    ties = (trace.role[events], trace.name[events], trace.sequence[events], trace.correlation[events])
    events = events[nesting_order(trace.start[events], trace.end[events], *ties)]
    events = events[np.argsort(trace.lane[events], kind="stable")]
    yield from np.split(events, np.flatnonzero(np.diff(trace.lane[events])) + 1)


def _components(trace: Trace, inner: Ints, linked: Ints, path: dict[int, str]) -> tuple[tuple[str, ...], Ints]:
    """Every event's component: where it ran; for gradients where the forward operator of the same number ran."""
    forward = _forward_contexts(trace, inner)
    places = {"": 0}
    by_key: dict[tuple[int, int], int] = {}
    found = []
    for within, link in zip(inner.tolist(), linked.tolist(), strict=True):
        # Gradients are told apart by their forward operator, not by where the engine ran.
        key = (within, -1) if link < 0 else (forward.get(int(trace.sequence[link]), -1), 1)
        place = by_key.get(key)
        if place is None:
            label = path[key[0]] if key[1] < 0 else f"{path[key[0]]} backward".strip()
            place = by_key[key] = places.setdefault(label, len(places))
        found.append(place)
    return tuple(places), np.array(found, dtype=np.int64)


def _forward_contexts(trace: Trace, inner: Ints) -> dict[int, int]:
    """Sequence number → context of the last forward operator that carries it: the one that the gradient belongs to."""
    chosen = np.flatnonzero((trace.role == OP) & (trace.sequence >= 0) & ~trace.backward)
    chosen = chosen[np.lexsort((-trace.end[chosen], trace.start[chosen]))]
    return dict(zip(trace.sequence[chosen].tolist(), inner[chosen].tolist(), strict=True))
