"""Cost: what a work takes on a machine, and which resource is responsible for how much of it (design §3).

>>> from ridgepoint.machines.catalog import find_machine
>>> from ridgepoint.ops import Gemm
>>> from ridgepoint.work import Repeat
>>> cost = evaluate(Repeat(32, Gemm(m=8.0, n=4096.0, k=4096.0, label="layers.mlp")), find_machine("h100-sxm"))
>>> cost.bottleneck
'hbm'
>>> round(sum(cost.shares.values()), 9)
1.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ridgepoint.cost.combine import combine, summed, weighted_occurrences
from ridgepoint.cost.remembered import FEW, arrays, demand_of, points, remembered
from ridgepoint.kernels import KERNELS
from ridgepoint.kernels.demand import Demand, Timing, seconds, settle
from ridgepoint.kernels.rules import BOUND, EXPECTED
from ridgepoint.kernels.unknown import rules_of, unknown_op
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, Partition, plain, shared_partition
from ridgepoint.work import Counted, Op, Work, occurrences


@dataclass(frozen=True)
class Component:
    """All ops of one label: how often it runs, what it takes alone, what it is responsible for, and what binds it."""

    label: str
    kind: str
    count: Num
    time_s: Num
    """Seconds of all its runs if nothing else ran."""
    critical_s: Num
    """Seconds of the whole that it is responsible for; they sum to the time."""
    bound_s: Num
    flop: Num
    bytes: Num
    busy_s: Mapping[str, Num]
    critical_by_resource: Mapping[str, Num]


@dataclass(frozen=True)
class Cost:
    """The answer of ``evaluate``; every number broadcasts over the sweep. Per device, but for ``energy`` and money."""

    work: Work
    machine: Machine
    mode: str
    demands: Mapping[int, Demand]
    partitions: Mapping[int, Partition | None]
    """Groups of equal shapes, for the ops whose demands are those of groups."""
    unknown: tuple[Op, ...]
    known: Mapping[int, Timing]
    """Timings of single ops that were settled before."""

    @cached_property
    def timing(self) -> Timing:
        """Time, busy and critical seconds of the whole."""
        return combine(self.work, lambda op: self._settled[id(op)])

    @cached_property
    def _settled(self) -> dict[int, Timing]:
        """Every op's timing at the described speeds."""
        return {key: self.known.get(key) or self._settle(key, {}) for key in self.demands}

    def _settle(self, key: int, speed: Mapping[str, float]) -> Timing:
        return replace(settle(self.demands[key], speed), partition=self.partitions.get(key))

    def timing_at(self, speed: Mapping[str, float]) -> Timing:
        """The timing when resource r is ``speed[r]`` times as fast."""
        alike: dict[int, Timing] = {}  # equal ops share their demand

        def leaf(op: Op) -> Timing:
            demand = self.demands[id(op)]
            if not any(resource in phase.seconds for phase in demand.phases for resource in speed):
                return self._settled[id(op)]
            if id(demand) not in alike:
                alike[id(demand)] = self._settle(id(op), speed)
            return alike[id(demand)]

        return combine(self.work, leaf)

    def time_at(self, speed: Mapping[str, float]) -> Num:
        """The time of ``timing_at`` alone: of a sum of ops nothing else has to be known."""
        if not summed(self.work):
            return self.timing_at(speed).everywhere().time_s
        alike: dict[int, Timing] = {}

        def leaf(op: Op) -> Timing:
            demand = self.demands[id(op)]
            if id(demand) not in alike:
                alike[id(demand)] = Timing(seconds(demand, speed), partition=self.partitions.get(id(op)))
            return alike[id(demand)]

        return combine(self.work, leaf).time_s

    @property
    def time_s(self) -> Num:
        """Seconds."""
        return self.timing.time_s

    @property
    def busy_s(self) -> dict[str, Num]:
        """Seconds that each resource is in use."""
        return self.timing.busy_s

    @property
    def critical_s(self) -> dict[str, Num]:
        """Seconds of the time that each resource is responsible for; they sum to ``time_s``."""
        return self.timing.critical_s

    @cached_property
    def shares(self) -> dict[str, Num]:
        """−∂log(time)/∂log(rate) of every resource, largest first; they sum to 1."""
        time = np.maximum(self.time_s, 1e-300)
        shares = {r: plain(t / time) for r, t in self.critical_s.items() if np.any(np.asarray(t) > 0.0)}
        return dict(sorted(shares.items(), key=lambda item: -float(np.mean(item[1]))))

    @property
    def bottleneck(self) -> Any:
        """The resource with the largest share: a name, or an array of names over a sweep; ``none`` for work that takes no
        time.
        """
        return largest_share(self.shares)

    def limit(self, resource: str) -> Num:
        """The speed-up if ``resource`` were infinitely fast: the generalised Amdahl ceiling."""
        time, without = self.time_s, self.timing_at({resource: math.inf}).time_s
        return plain(np.where(np.asarray(time) > 0.0, time / np.maximum(without, 1e-300), 1.0))

    @cached_property
    def limits(self) -> dict[str, Num]:
        """``limit`` of every resource that takes part, and of those that would: a faster resource may make another tile or
        algorithm the best, so that a resource without a share can still have a limit above 1.
        """
        limits = {resource: self.limit(resource) for resource in self.shares}
        asked = {r for demand in self.demands.values() for phase in demand.phases for r in phase.seconds}
        for resource in sorted(asked - limits.keys()):
            limit = self.limit(resource)
            if np.any(np.asarray(limit) > 1.0 + 1e-9):
                limits[resource] = limit
        return limits

    @cached_property
    def occurrences(self) -> list[Counted]:
        """Every op with how often one device runs it (the mean over devices in a pipeline)."""
        return list(occurrences(self.work))

    @cached_property
    def flop(self) -> dict[str, Num]:
        """Arithmetic by ``engine/format``."""
        total: dict[str, Num] = {}
        for op, count in self.occurrences:
            arithmetic = self.demands[id(op)].arithmetic
            if arithmetic is not None:
                key = "/".join(arithmetic)
                total[key] = total.get(key, 0.0) + count * rules_of(op).flop(op)
        return total

    @cached_property
    def bytes(self) -> Num:
        """Least traffic with main memory."""
        return sum((count * _moved(op) for op, count in self.occurrences), 0.0)

    @cached_property
    def relative_spread(self) -> Num:
        """Standard deviation of log(measured / expected): errors of one kernel table go together, tables are independent."""
        tables = {id(op): rules_of(op).table for op, _ in self.occurrences}

        def booked(op: Op) -> Timing:
            timing = self._settled[id(op)]
            return Timing(timing.time_s, {tables[id(op)]: timing.time_s}, {}, timing.partition)

        by_table = weighted_occurrences(self.occurrences, booked).busy_s
        total = np.maximum(sum(by_table.values(), 0.0), 1e-300)
        spreads = {table: getattr(self.machine.coefficients, table).spread for table in by_table if table}
        return plain(np.sqrt(sum(((t / total * spreads.get(table, 0.0)) ** 2 for table, t in by_table.items()), 0.0)))

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What the kernel models had to assume, each once."""
        return tuple(dict.fromkeys(note for demand in self.demands.values() for note in demand.notes))

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Keys of the publications that the kernel models used here rest on."""
        return tuple(sorted({s for op, _ in self.occurrences for s in rules_of(op).sources}))

    @cached_property
    def unknown_share(self) -> Num:
        """Part of the time that ops without a rule are responsible for."""
        if not self.unknown:
            return plain(np.zeros(np.shape(self.time_s)))
        labels = {f"{op.label}\0{op.kind}" for op in self.unknown}
        time = sum((c.critical_s for c in self.components if f"{c.label}\0{c.kind}" in labels), 0.0)
        return plain(time / np.maximum(self.time_s, 1e-300))

    @cached_property
    def components(self) -> list[Component]:
        """Where the time goes: one entry per label, in order of first use."""
        critical = combine(self.work, self._labelled).critical_s
        groups: dict[tuple[str, str], list[Counted]] = {}
        for op, count in self.occurrences:
            groups.setdefault((op.label or op.kind, op.kind), []).append((op, count))
        shares: dict[tuple[str, str], dict[str, Num]] = {}
        for key, t in critical.items():
            label, kind, resource = key.rsplit("\0", 2)
            shares.setdefault((label, kind), {})[resource] = t
        return [self._component(*name, members, shares.get(name, {})) for name, members in groups.items()]

    def _labelled(self, op: Op) -> Timing:
        """An op's timing whose critical seconds are told apart by component."""
        timing = self._settled[id(op)].everywhere()
        name = f"{op.label or op.kind}\0{op.kind}\0"
        busy, critical = timing.busy_s.items(), timing.critical_s.items()
        return Timing(timing.time_s, {name + r: t for r, t in busy}, {name + r: t for r, t in critical})

    def _component(self, label: str, kind: str, members: list[Counted], mine: Mapping[str, Num]) -> Component:
        busy: dict[str, Num] = {}
        time: Num = 0.0
        bound: Num = 0.0
        for op, count in members:
            timing = self._settled[id(op)].everywhere()
            time = time + count * timing.time_s
            bound = bound + count * _bound_s(op, self.machine)
            for resource, t in timing.busy_s.items():
                busy[resource] = busy.get(resource, 0.0) + count * t
        return Component(
            label=label,
            kind=kind,
            count=sum((count for _, count in members), 0.0),
            time_s=time,
            critical_s=sum(mine.values(), 0.0),
            bound_s=bound,
            flop=sum((count * rules_of(op).flop(op) for op, count in members), 0.0),
            bytes=sum((count * _moved(op) for op, count in members), 0.0),
            busy_s=busy,
            critical_by_resource=mine,
        )


def largest_share(shares: Mapping[str, Num]) -> Any:
    """The name of the largest share, at every point of a sweep.

    >>> largest_share({"hbm": 0.7, "launch": 0.3}), largest_share({})
    ('hbm', 'none')
    """
    if not shares:
        return "none"
    found = np.array(list(shares))[np.argmax(np.stack(np.broadcast_arrays(*shares.values())), axis=0)]
    return str(found) if np.ndim(found) == 0 else found


def evaluate(
    work: Work, machine: Machine, mode: str = EXPECTED, strict: bool = False, like: Cost | None = None
) -> Cost:
    """What ``work`` takes on ``machine``: ``mode`` is ``expected`` (real kernels) or ``bound`` (the physical limit).

    An op whose kind has no rule raises ``unknown_op`` when ``strict``; otherwise it is timed by the bytes that it states
    (or one kernel launch) and listed in ``unknown``: it never counts zero. ``like`` is an earlier cost of the same ops, or
    of more: its groups of equal shapes are used again, and on the same machine its timings.
    """
    ops = _distinct_ops(work)
    unknown = tuple(op for op in ops if op.kind not in KERNELS)
    if strict and unknown:
        raise unknown_op(unknown[0])
    partitions = _partitions(ops, {} if like is None else like.partitions)
    again = like if like is not None and like.machine is machine and like.mode == mode else None
    demands: dict[int, Demand] = {}
    known: dict[int, Timing] = {}
    for op in ops:
        if again is not None and id(op) in again.demands:
            demands[id(op)], known[id(op)] = again.demands[id(op)], again._settled[id(op)]
            continue
        partition = partitions.get(id(op))
        if partition is not None or points(op) > FEW:
            demands[id(op)] = demand_of(op if partition is None else _picked(op, partition), machine, mode)
        else:
            demands[id(op)], known[id(op)] = remembered(op, machine, mode)
    return Cost(work, machine, mode, demands, partitions, unknown, known)


def _bound_s(op: Op, machine: Machine) -> Num:
    """Seconds at the physical limit."""
    return settle(demand_of(op, machine, BOUND)).time_s if arrays(op) else remembered(op, machine, BOUND)[1].time_s


def _picked(op: Op, partition: Partition) -> Op:
    """The op with one value per group of equal shapes."""
    values: dict[str, Any] = {name: partition.pick(value) for name, value in arrays(op).items()}
    return replace(op, **values)


def _partitions(ops: list[Op], known: Mapping[int, Partition | None]) -> dict[int, Partition | None]:
    """For every op with arrays the groups of equal shapes of a large sweep, or None where there is no grouping."""
    swept: dict[int, list[Num]] = {id(op): list(values.values()) for op in ops if (values := arrays(op))}
    new = [key for key in swept if key not in known]
    grouped = dict(zip(new, shared_partition([swept[key] for key in new]), strict=True)) if new else {}
    return {key: grouped[key] if key in grouped else known[key] for key in swept}


def _distinct_ops(work: Work) -> list[Op]:
    found: dict[int, Op] = {}

    def visit(node: Work) -> None:
        if isinstance(node, Op):
            found[id(node)] = node
        for child in node.children():
            visit(child)

    visit(work)
    return list(found.values())


def _moved(op: Op) -> Num:
    rules = rules_of(op)
    return rules.read_bytes(op) + rules.write_bytes(op)
