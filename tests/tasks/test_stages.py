"""Pipeline stages one by one: layers, micro-batches in flight, memory (design §2, §3); the simulator is the oracle."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.build import build
from ridgepoint.tasks.layout import complete, execution
from ridgepoint.tasks.memory import stage_ledgers
from ridgepoint.tasks.stages import balanced, in_flight_at
from ridgepoint.training.schedule import simulate

STEP = Train(batch=64, seq=4096)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved", "zero_bubble", "zero_bubble_2"])
def test_micro_batches_in_flight_on_every_stage_are_the_simulators(schedule):
    for p, groups, chunks in itertools.product((2, 3, 4, 6), (1, 2, 4), (1, 2, 3)):
        if schedule != "interleaved" and chunks > 1:
            continue
        plan, m = Plan(schedule=schedule, chunks=chunks), groups * p
        split = [1.0] * p if schedule.startswith("zero") else None
        line = simulate([1.0] * p, [1.0] * p, weights_s=split, microbatches=m, schedule=schedule, chunks=chunks)
        for stage in range(p):
            assert in_flight_at(plan, p, float(m), stage) == line.peak_in_flight(stage), (p, m, chunks, stage)


@given(st.integers(2, 4), st.integers(0, 6), st.floats(0.1, 3.0), st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_no_other_stages_are_faster_than_balanced_ones(p, more, layer, first, last):
    depth = p + more
    extras = [first, *([0.0] * (p - 2)), last]

    def slowest(sizes):
        return max(n * layer + extra for n, extra in zip(sizes, extras, strict=True))

    found = balanced(depth, p, layer, first, last)
    assert sum(found) == depth
    every = (s for s in itertools.product(range(1, depth + 1), repeat=p) if sum(s) == depth)
    assert slowest(found) == pytest.approx(min(map(slowest, every)))


def step(**plan):
    return rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=STEP, plan=Plan(**{"pp": 4, "tp": 2, **plan}))


def test_even_stages_that_are_given_are_the_uniform_ones():
    """Time is that of the default; memory is the fullest stage's own instead of the sum of every stage's largest parts."""
    uniform, given_ = step(), step(stages=(8, 8, 8, 8))
    assert given_.time_s == pytest.approx(uniform.time_s)
    assert 0.85 * uniform.memory.total_bytes < given_.memory.total_bytes <= uniform.memory.total_bytes
    assert given_.memory["activations"] == pytest.approx(uniform.memory["activations"])


def test_balanced_stages_are_faster_and_give_the_head_fewer_layers():
    uniform, even = step(), step(stages="balanced")
    assert even.time_s < 0.95 * uniform.time_s
    (said,) = (text for text in even.assumptions if text.startswith("layers of the pipeline stages"))
    layers = [float(n) for n in said.partition(": ")[2].split(",")]
    assert sum(layers) == 32
    assert layers[-1] < layers[1]


def test_stages_together_hold_the_model_once():
    model, machine = find_model("llama-3.1-8b"), find_machine("8xh100-sxm")
    for sizes in ((8, 8, 8, 8), (3, 10, 10, 9)):
        plan = Plan(pp=4, tp=2, stages=sizes)
        layout = complete(model, machine, plan, True)
        run, _ = execution(model, plan, layout, True)
        each = stage_ledgers(model, machine, run, layout, STEP, plan)
        whole = build(model, machine, STEP, replace(plan, pp=1, stages="uniform", dp=1)).ledger
        for name in ("weights", "gradients", "optimizer"):
            assert sum(float(one[name]) for one in each) == pytest.approx(float(whole[name])), name
        assert [one["logits"] > 0 for one in each] == [False, False, False, True]


@pytest.mark.parametrize("stages", ["16,16", "40", "8,8,8,7", "0,8,8,16", "some", (8.5, 8, 8, 7.5)])
def test_stages_that_do_not_make_up_the_model_are_refused(stages):
    with pytest.raises(rp.RidgepointError, match="stages"):
        _ = step(stages=stages).time_s


def test_a_plan_search_balances_its_best_layouts():
    asked: dict[str, Any] = {"on": "8xh100-sxm", "batch": 64, "seq": 4096, "top": 2, "pp": 4, "schedule": "1f1b"}
    uniform, even = (rp.plan_train("llama-3.1-8b", **asked, stages=stages) for stages in ("uniform", "balanced"))
    assert even.best.step_time_s < uniform.best.step_time_s
