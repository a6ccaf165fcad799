"""The least time within a memory budget, exactly, by CP-SAT (OR-Tools, the extra ``search``).

After Moccasin (Bartan et al. 2023): every computation of a result opens an interval in which it is kept. Event (k, v) lies
in stage k, which first repeats earlier steps v < k in the program's order and then runs step k for the first time. Each
forward result has up to ``times`` intervals, which begin at an event of its own; a step may only run while each result that
it reads has an open interval. Memory is a cumulative constraint over the events. The number of integer variables grows
with the steps, not with their square.

The order is exact among those that run the steps for the first time in the program's order and repeat each at most once
between two first times and ``times`` − 1 times in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.training.remat.flow import Flow, Run, run

TIMES = 2
SECONDS = 60.0
_UNITS = 1 << 20
"""Sizes and times are whole numbers here: parts of the budget and of the whole time, unless they are whole already."""


@dataclass(frozen=True)
class Solved:
    """An order, and whether it is proved to be the fastest. ``bound_s`` is what no order can be faster than."""

    run: Run
    proved: bool
    bound_s: float


def available() -> bool:
    """Whether the extra is installed."""
    from importlib.util import find_spec

    return find_spec("ortools") is not None


def solved(
    flow: Flow, budget_bytes: float, times: int = TIMES, seconds: float = SECONDS, hint: Run | None = None
) -> Solved | None:
    """The fastest order in ``budget_bytes``; None where there is none (or where none was found in ``seconds``).

    Errors: ``missing_extra`` where OR-Tools is not installed.
    """
    if not available():
        raise RidgepointError("missing_extra", "exact plans need OR-Tools", "pip install 'ridgepoint[search]'")
    from ortools.sat.python import cp_model

    model, program = cp_model.CpModel(), _Program(flow, times)
    program.build(cp_model, model, budget_bytes)
    if hint is not None:
        program.hint(model, hint)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 4
    solver.parameters.random_seed = 0
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    found = run(flow, program.order(solver))
    bound = flow.time_s + solver.best_objective_bound / program.seconds_scale
    return Solved(found, status == cp_model.OPTIMAL, min(bound, found.time_s))


@dataclass
class _Interval:
    """One computation of a result: where it begins and ends (events), and whether it happens."""

    start: Any
    end: Any
    active: Any


class _Program:
    """The variables of one flow, and how an answer reads."""

    def __init__(self, flow: Flow, times: int):
        self.flow, self.times = flow, times
        self.intervals: list[list[_Interval]] = []
        self.seconds_scale = _scale([step.time_s for step in flow.steps], flow.time_s)

    def event(self, stage: int, step: int) -> int:
        """The number of event (stage, step)."""
        return stage * (stage + 1) // 2 + step

    def build(self, cp_model: Any, model: Any, budget_bytes: float) -> None:
        flow, last = self.flow, self.event(len(self.flow.steps) - 1, len(self.flow.steps) - 1)
        room = max(budget_bytes - flow.held_bytes, 0.0)
        scale = _scale([room, *(step.bytes for step in flow.steps)], room)
        sizes = [_up(step.bytes * scale) for step in flow.steps]
        kept, needs = [], []
        for at in range(len(flow.steps)):
            self.intervals.append(self._of_step(cp_model, model, at, last))
            for one in self.intervals[at]:
                length = model.new_int_var(0, last + 1, "")
                kept.append(model.new_optional_interval_var(one.start, length, one.end + 1, one.active, ""))
                needs.append(sizes[at])
        model.add_cumulative(kept, needs, int(room * scale + 1e-6))
        for at in range(len(flow.steps)):
            for one in self.intervals[at]:
                for read in dict.fromkeys(flow.steps[at].reads):
                    self._covers(model, read, one)
        for at in flow.outputs:
            model.add_bool_or([self._at_the_end(model, one, last) for one in self.intervals[at]])
        again = [
            round(flow.steps[at].time_s * self.seconds_scale) * one.active
            for at in range(len(flow.steps))
            for one in self.intervals[at][1:]
        ]
        model.minimize(sum(again) if again else 0)

    def _of_step(self, cp_model: Any, model: Any, at: int, last: int) -> list[_Interval]:
        """The first computation, at event (at, at), and those that may follow in later stages."""
        count = len(self.flow.steps)
        found = [_Interval(self.event(at, at), model.new_int_var(self.event(at, at), last, ""), model.new_constant(1))]
        if at >= self.flow.turn:
            return found
        starts = [self.event(stage, at) for stage in range(at + 1, count)]
        for _ in range(self.times - 1):
            active = model.new_bool_var("")
            start = model.new_int_var_from_domain(cp_model.Domain.from_values(starts), "")
            end = model.new_int_var(0, last, "")
            before = found[-1]
            model.add(end >= start).only_enforce_if(active)
            model.add(start > before.end).only_enforce_if(active)
            model.add_implication(active, before.active)
            found.append(_Interval(start, end, active))
        return found

    def _covers(self, model: Any, read: int, reader: _Interval) -> None:
        """Some interval of ``read`` is open when ``reader`` begins."""
        open_ones = []
        for one in self.intervals[read]:
            chosen = model.new_bool_var("")
            model.add_implication(chosen, one.active)
            model.add(one.start < reader.start).only_enforce_if(chosen)
            model.add(one.end >= reader.start).only_enforce_if(chosen)
            open_ones.append(chosen)
        model.add_bool_or([*open_ones, reader.active.negated()])

    def _at_the_end(self, model: Any, one: _Interval, last: int) -> Any:
        lasts = model.new_bool_var("")
        model.add(one.end == last).only_enforce_if(lasts)
        model.add_implication(lasts, one.active)
        return lasts

    def hint(self, model: Any, known: Run) -> None:
        """A known order, for the search to begin with."""
        seen, stage = dict[int, int](), -1
        for at in known.order:
            number = seen[at] = seen.get(at, -1) + 1
            if number == 0:
                stage = at
            elif number < len(self.intervals[at]):
                model.add_hint(self.intervals[at][number].start, self.event(stage + 1, at))
                model.add_hint(self.intervals[at][number].active, 1)
        for at, each in enumerate(self.intervals):
            for number, one in enumerate(each[1:], 1):
                if number > seen.get(at, 0):
                    model.add_hint(one.active, 0)

    def order(self, solver: Any) -> Sequence[int]:
        """The order that an answer says."""
        events = []
        for at, each in enumerate(self.intervals):
            events.append((self.event(at, at), at))
            events += [(solver.value(one.start), at) for one in each[1:] if solver.boolean_value(one.active)]
        return [at for _, at in sorted(events)]


def _scale(values: Sequence[float], whole: float) -> float:
    if all(float(v).is_integer() and v < 2**40 for v in values):
        return 1.0
    return _UNITS / whole if whole > 0.0 else 1.0


def _up(value: float) -> int:
    """Rounded up, so that an answer fits the true budget."""
    return int(value) if float(value).is_integer() else int(value) + 1
