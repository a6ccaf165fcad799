"""The flow of results through a training step, and what an order of computing them takes: seconds and bytes.

A step computes one result from the results that it reads. An order lists steps, forward ones perhaps more than once; a result
takes room from the moment it is computed until it was read for the last time before it is computed again. Nothing else is
needed to say what is kept: the order says it all, and ``run`` is the oracle of every planner.

>>> chain = Flow((Step("a", 1.0, 4.0), Step("b", 1.0, 4.0, (0,)), Step("a'", 1.0, 1.0, (1, 0))), turn=2)
>>> run(chain, (0, 1, 2)).peak_bytes, run(chain, (0, 1, 2)).time_s
(9.0, 3.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ridgepoint.errors import RidgepointError


@dataclass(frozen=True)
class Step:
    """One kernel (or several that run as one): seconds, bytes of its result, the steps whose results it reads."""

    name: str
    time_s: float
    bytes: float
    reads: tuple[int, ...] = ()


@dataclass(frozen=True)
class Flow:
    """Steps in the program's order. Those before ``turn`` are the forward pass and may run again; ``outputs`` are results that
    must be there at the end. ``held_bytes`` lie beside them all the time (inputs).
    """

    steps: tuple[Step, ...]
    turn: int
    outputs: frozenset[int] = frozenset()
    held_bytes: float = 0.0

    def __post_init__(self) -> None:
        for at, step in enumerate(self.steps):
            if any(not 0 <= read < at for read in step.reads):
                raise RidgepointError(
                    "bad_work",
                    f"step {at} ({step.name}) reads a result that is not there yet",
                    "list steps after what they read",
                )

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """The steps that read each step's result."""
        found: list[list[int]] = [[] for _ in self.steps]
        for at, step in enumerate(self.steps):
            for read in dict.fromkeys(step.reads):
                found[read].append(at)
        return tuple(tuple(each) for each in found)

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """Forward results that the backward pass reads, in order: what recomputation is about."""
        return tuple(at for at in range(self.turn) if any(reader >= self.turn for reader in self.readers[at]))

    @property
    def time_s(self) -> float:
        """Seconds of every step once."""
        return sum(step.time_s for step in self.steps)

    @cached_property
    def least_bytes(self) -> float:
        """No order needs less: the largest step with all that it reads."""
        return self.held_bytes + max(
            (step.bytes + sum(self.steps[read].bytes for read in set(step.reads)) for step in self.steps), default=0.0
        )


@dataclass(frozen=True)
class Run:
    """What an order of steps takes; ``bytes_at`` is what lives while each of them runs."""

    order: tuple[int, ...]
    time_s: float
    bytes_at: tuple[float, ...]

    @property
    def peak_bytes(self) -> float:
        """The most that lives at once."""
        return max(self.bytes_at, default=0.0)

    def again(self) -> dict[int, int]:
        """Step → how often it runs beyond its first time."""
        counts: dict[int, int] = {}
        for at in self.order:
            counts[at] = counts.get(at, -1) + 1
        return {at: count for at, count in counts.items() if count}


def run(flow: Flow, order: Sequence[int]) -> Run:
    """What ``order`` takes.

    Errors: ``bad_plan`` for an order that leaves a step out, runs a backward step twice, or reads what is not there.
    """
    latest: dict[int, int] = {}
    last_read: list[int] = []
    for position, at in enumerate(order):
        for read in flow.steps[at].reads:
            if read not in latest:
                raise RidgepointError(
                    "bad_plan", f"{flow.steps[at].name} runs before {flow.steps[read].name}", "run what it reads first"
                )
            last_read[latest[read]] = position
        if at >= flow.turn and at in latest:
            raise RidgepointError(
                "bad_plan", f"{flow.steps[at].name} of the backward pass runs twice", "repeat forward steps only"
            )
        latest[at] = position
        last_read.append(position)
    if len(latest) != len(flow.steps):
        raise RidgepointError(
            "bad_plan", f"{len(flow.steps) - len(latest)} steps never run", "name every step in the order"
        )
    for at in flow.outputs:
        last_read[latest[at]] = len(order) - 1
    change = [0.0] * (len(order) + 1)
    for position, at in enumerate(order):
        change[position] += flow.steps[at].bytes
        change[last_read[position] + 1] -= flow.steps[at].bytes
    live, lives = flow.held_bytes, []
    for position in range(len(order)):
        live += change[position]
        lives.append(live)
    return Run(tuple(order), sum(flow.steps[at].time_s for at in order), tuple(lives))


def order_without(flow: Flow, dropped: frozenset[int]) -> tuple[int, ...]:
    """The order in which the results ``dropped`` are not kept for the backward pass: each is computed again, with whatever of
    its inputs is gone too, just before the first backward step that reads it.
    """
    order = list(range(flow.turn))
    gone = _gone(flow, dropped)
    here = set(range(flow.turn)) - gone

    def ensure(target: int) -> None:
        stack = [target]
        while stack:
            at = stack[-1]
            missing = [read for read in flow.steps[at].reads if read < flow.turn and read not in here]
            if missing:
                stack += reversed(missing)
                continue
            stack.pop()
            if at not in here:
                here.add(at)
                order.append(at)

    for at in range(flow.turn, len(flow.steps)):
        for read in flow.steps[at].reads:
            if read < flow.turn and read not in here:
                ensure(read)
        order.append(at)
    return tuple(order)


def _gone(flow: Flow, dropped: frozenset[int]) -> set[int]:
    """Results that are not there when the backward pass begins: those dropped, and those that only forward steps read."""
    kept = set(flow.kept) | {at for at in flow.outputs if at < flow.turn}
    return (set(range(flow.turn)) - kept) | (set(dropped) - set(flow.outputs))
