"""Rematerialisation planned exactly and by the heuristic, against every order of small flows (issue: planner)."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.training.remat.flow import Flow, Step, order_without, run
from ridgepoint.training.remat.heuristic import improved, leanest, square_root
from ridgepoint.training.remat.planner import plan_flow
from tests.training.remat.brute_force import least_time


def chain(n: int, size: float = 1.0, gradient: float = 0.0) -> Flow:
    """A chain of equal layers: each backward step reads its layer's result and the gradient of the next one."""
    forward = [Step(f"f{i}", 1.0, size, (i - 1,) if i else ()) for i in range(n)]
    back = [
        Step(f"b{i}", 1.0, gradient, tuple(x for x in (i, i - 1, 2 * n - 2 - i if i < n - 1 else -1) if x >= 0))
        for i in reversed(range(n))
    ]
    return Flow((*forward, *back), n)


@st.composite
def flows(draw, most=4):
    """A random forward pass, and one backward step for each of its steps in reverse."""
    n = draw(st.integers(2, most))
    forward = []
    for i in range(n):
        reads = draw(st.sets(st.integers(0, i - 1), min_size=1, max_size=2)) if i else set()
        forward.append(
            Step(f"f{i}", float(draw(st.integers(1, 5))), float(draw(st.integers(1, 5))), tuple(sorted(reads)))
        )
    back: list[Step] = []
    for i in reversed(range(n)):
        reads = {n + len(back) - 1} if back else {n - 1}
        reads |= {r for r in (i, *forward[i].reads) if draw(st.booleans())}
        back.append(Step(f"b{i}", float(draw(st.integers(1, 5))), float(draw(st.integers(0, 2))), tuple(sorted(reads))))
    return Flow((*forward, *back), n)


@given(flows(), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_the_solver_finds_what_trying_every_order_finds(flow, more):
    """Two computations of each result at most, as Moccasin's default."""
    pytest.importorskip("ortools")
    from ridgepoint.training.remat.exact import solved

    budget = flow.least_bytes + more
    wanted = least_time(flow, budget, times=2)
    answer = solved(flow, budget, times=2, seconds=20.0)
    assert (answer is None) == (wanted is None)
    if answer is not None:
        assert answer.proved
        assert answer.run.time_s == wanted == answer.bound_s
        assert answer.run.peak_bytes <= budget


@given(flows(most=5), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_the_heuristic_is_never_better_than_every_order_and_keeps_the_budget(flow, more):
    budget = flow.least_bytes + more
    found = improved(flow, budget)
    if found is not None:
        assert found.peak_bytes <= budget
        wanted = least_time(flow, budget, times=len(flow.steps))
        assert wanted is not None
        assert found.time_s >= wanted - 1e-9


def test_the_heuristic_is_near_the_best_order():
    """Over 60 fixed random flows with budgets between the leanest and everything: what it misses, and by how much."""
    rng = random.Random(7)
    ratios, missed, asked = [], 0, 0
    for _ in range(60):
        n = rng.randint(3, 5)
        forward = [
            Step(
                f"f{i}",
                rng.randint(1, 5),
                rng.randint(1, 5),
                (i - 1, *([rng.randrange(i)] if rng.random() < 0.3 else [])),
            )
            if i
            else Step("f0", 1.0, 2.0)
            for i in range(n)
        ]
        back = [
            Step(f"b{i}", 1.0, 1.0, tuple(sorted({n + k - 1 if k else n - 1, i, *forward[i].reads})))
            for k, i in enumerate(reversed(range(n)))
        ]
        flow = Flow((*forward, *back), n)
        everything = run(flow, order_without(flow, frozenset())).peak_bytes
        budget = (flow.least_bytes + everything) / 2
        wanted = least_time(flow, budget, times=4)
        if wanted is None:
            continue
        asked += 1
        found = improved(flow, budget)
        if found is None:
            missed += 1
        else:
            ratios.append(found.time_s / wanted)
    assert asked >= 40
    assert missed <= asked // 10
    assert sum(ratios) / len(ratios) < 1.05


def test_nothing_is_recomputed_where_everything_fits():
    flow = chain(6)
    whole = run(flow, order_without(flow, frozenset()))
    plan = plan_flow(flow, whole.peak_bytes)
    assert plan.method == "none"
    assert plan.extra == 0.0
    assert plan.recomputed == []


def test_a_chain_of_n_needs_two_root_n():
    """Chen et al. 2016: √n segments of √n layers, at one more forward pass at most."""
    for n in (16, 64, 144, 400):
        flow = chain(n)
        dropped = run(flow, order_without(flow, square_root(flow)))
        assert run(flow, order_without(flow, frozenset())).peak_bytes == n
        assert dropped.peak_bytes <= 2 * n**0.5 + 2
        assert dropped.time_s <= flow.time_s + n


def test_less_memory_never_takes_less_time():
    flow = chain(24)
    low = leanest(flow).peak_bytes
    times = [plan_flow(flow, budget, exact=False).best.time_s for budget in range(24, round(low) - 1, -1)]
    assert times == sorted(times)


def test_too_little_memory_is_refused_with_what_is_enough():
    flow = chain(9, size=1e9)
    with pytest.raises(RidgepointError, match="no order") as refused:
        plan_flow(flow, 1e9, exact=False)
    enough = float(str(refused.value.hint).split(" GB")[0])
    assert plan_flow(flow, enough * 1e9, exact=False).best.peak_bytes <= enough * 1e9


def test_orders_that_read_what_is_not_there_are_refused():
    flow = chain(3)
    with pytest.raises(RidgepointError, match="runs before"):
        run(flow, (1, 0, 2, 3, 4, 5))
    with pytest.raises(RidgepointError, match="never run"):
        run(flow, (0, 1, 2))
    with pytest.raises(RidgepointError, match="runs twice"):
        run(flow, (0, 1, 2, 3, 3, 4, 5))


def test_an_exact_plan_without_the_extra_is_refused(monkeypatch):
    import importlib.util

    true = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "ortools" else true(name, *a))
    with pytest.raises(RidgepointError, match="OR-Tools"):
        plan_flow(chain(6), 4.0, exact=True)
