"""The plan of one flow of results within a memory budget: exact by CP-SAT (``[search]``), or by the heuristic without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ridgepoint.errors import RidgepointError
from ridgepoint.training.remat.exact import SECONDS, TIMES, available, solved
from ridgepoint.training.remat.flow import Flow, Run, order_without, run
from ridgepoint.training.remat.heuristic import improved, leanest, square_root

MOST_STEPS = 160
"""Steps up to which a plan is exact by itself; more take minutes and are asked for."""


@dataclass(frozen=True)
class FlowPlan:
    """An order within a budget, beside what keeping everything and the √n scheme take.

    ``method`` is exact, heuristic or none (everything fits); ``bound_s``: no order within the budget is faster, where known.
    """

    flow: Flow
    budget_bytes: float
    best: Run
    everything: Run
    square_root: Run
    method: str
    proved: bool
    bound_s: float | None

    @property
    def extra(self) -> float:
        """Seconds over those of the step without recomputation: 0.1 is a tenth longer."""
        return self.best.time_s / self.everything.time_s - 1.0

    @property
    def recomputed(self) -> list[tuple[str, int, float, float]]:
        """(name, times again, seconds, bytes of its result) of what runs again, in order."""
        steps = self.flow.steps
        return [
            (steps[at].name, count, count * steps[at].time_s, steps[at].bytes)
            for at, count in sorted(self.best.again().items())
        ]


def plan_flow(
    flow: Flow, budget_bytes: float, exact: bool | None = None, times: int = TIMES, seconds: float = SECONDS
) -> FlowPlan:
    """The fastest order of ``flow`` in ``budget_bytes``: exact where the solver is there and the flow is small (or ``exact``
    says so), else by the heuristic.

    Errors: ``does_not_fit`` with the least that was found to be enough, ``missing_extra`` for an exact plan without OR-Tools.
    """
    everything = run(flow, order_without(flow, frozenset()))
    root = run(flow, order_without(flow, square_root(flow)))
    if everything.peak_bytes <= budget_bytes:
        return FlowPlan(flow, budget_bytes, everything, everything, root, "none", True, everything.time_s)
    known = improved(flow, budget_bytes)
    wanted = exact if exact is not None else available() and len(flow.steps) <= MOST_STEPS
    answer = solved(flow, budget_bytes, times, seconds, known) if wanted else None
    if answer is not None and (known is None or answer.run.time_s <= known.time_s * (1.0 + 1e-9)):
        return FlowPlan(flow, budget_bytes, answer.run, everything, root, "exact", answer.proved, answer.bound_s)
    if known is None:
        raise _too_little(flow, budget_bytes)
    return FlowPlan(flow, budget_bytes, known, everything, root, "heuristic", False, None)


def _too_little(flow: Flow, budget_bytes: float) -> RidgepointError:
    lean = leanest(flow)
    return RidgepointError(
        "does_not_fit",
        f"no order of the {len(flow.steps):,} steps was found in {budget_bytes / 1e9:,.3g} GB: one of them alone needs "
        f"{flow.least_bytes / 1e9:,.3g} GB with what it reads",
        f"{lean.peak_bytes / 1e9:,.3g} GB are enough (at {lean.time_s / flow.time_s:.2f}× the time); or take a smaller batch",
    )


def names(counted: Sequence[tuple[str, int, float, float]]) -> list[tuple[str, int, float, float]]:
    """Equal names together: (name, how often, seconds, bytes), the most seconds first."""
    found: dict[str, tuple[int, float, float]] = {}
    for name, count, time, size in counted:
        before = found.get(name, (0, 0.0, 0.0))
        found[name] = (before[0] + count, before[1] + time, before[2] + count * size)
    return sorted(((name, *each) for name, each in found.items()), key=lambda row: -row[2])
