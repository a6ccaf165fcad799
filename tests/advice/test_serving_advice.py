"""Advice on deployments: techniques in the steady state, ranked by what they let a deployment serve (issue 10; design §6)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.advice.serving import Goals, serving_advice
from ridgepoint.serving.deployment import deployment
from ridgepoint.serving.loops import open_loop
from ridgepoint.serving.operating import operating
from ridgepoint.serving.scheduling import Speculation
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.techniques.registry import techniques

GIVEN = deployment("llama-3.1-8b", "h100-sxm")
GOALS = Goals(rate=10.0, ttft_s=0.5, tpot_s=0.02)


@pytest.fixture(scope="module")
def found():
    return serving_advice(GIVEN, 1024, 256, GOALS)


def test_every_technique_is_tried_and_either_helps_or_says_why_not(found):
    """Design §6: nothing disappears."""
    assert [r.name for r in found.tried] == list(techniques())
    assert all(r.after is not None or r.reason for r in found.tried)
    counted = (found.remedies, found.presuming, found.useless, found.refused)
    assert sum(map(len, counted)) == len(found.tried)


def test_remedies_are_ranked_by_what_is_served_within_the_goals(found):
    gains = [found.gain(r.after) for r in found.remedies]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] >= 1.005
    best = found.remedies[0].after
    first, each = best.at(best.requests_per_s)
    assert first <= 0.5 * 1.001
    assert each <= 0.02 * 1.001


def test_without_techniques_it_is_the_steady_state_of_the_deployment(found):
    """Were the baseline another model than the operating curve, gains would compare two models."""
    loop = open_loop(operating(GIVEN, 1024, 256).pace)
    assert found.baseline.requests_per_s == pytest.approx(loop.most_within(0.5, 0.02))


@pytest.mark.parametrize(
    ("text", "plan"),
    [("kv-quantization:format=fp8", {"kv": "fp8"}), ("weight-only-quantization:format=int4", {"weights": "int4"})],
)
def test_a_technique_that_is_a_format_equals_a_deployment_in_that_format(text, plan):
    """Two ways to say the same: as a technique on the deployment, and in its plan."""
    by_technique = serving_advice(GIVEN, 1024, 256, GOALS, apply=[text]).baseline
    by_plan = open_loop(operating(replace(GIVEN, plan=replace(GIVEN.plan, **plan)), 1024, 256).pace)
    assert by_technique.requests_per_s == pytest.approx(by_plan.most_within(0.5, 0.02), rel=0.05)
    assert by_technique.at(10.0) == pytest.approx(by_plan.at(10.0), rel=0.05)


def test_speculation_agrees_with_its_simulation():
    text = "speculative-decoding:drafts=3,acceptance=0.8"
    after = serving_advice(GIVEN, 1024, 256, Goals(rate=3.0), apply=[text]).baseline
    drafting = replace(GIVEN, speculation=Speculation.geometric(3, 0.8, "llama-3.2-1b"))
    run = simulate_requests(drafting, rp.poisson_requests(3.0, 1500, "1024", "256"))
    told = after.at(3.0)
    assert told is not None
    assert told[1] == pytest.approx(run.tpot_s[200:1400].mean(), rel=0.1)


def test_more_memory_for_requests_is_more_at_once(found):
    named = {r.name: r.after for r in found.tried}
    assert named["kv-quantization"].capacity == pytest.approx(2.0 * found.baseline.capacity, rel=0.03)
    assert named["weight-only-quantization"].capacity > found.baseline.capacity


def test_latency_is_compared_at_the_rate_and_what_cannot_take_it_queues():
    found = serving_advice(GIVEN, 1024, 256, Goals(rate=10.0), "latency")
    best = found.remedies[0].after
    assert best is not None
    assert best.latency_s(10.0) < found.baseline.latency_s(10.0)
    beyond = serving_advice(GIVEN, 1024, 256, Goals(rate=25.0), "latency")
    assert beyond.baseline.at(25.0) is None
    first = beyond.remedies[0].after
    assert first is not None
    assert np.isinf(beyond.gain(first))


def test_beyond_what_anything_takes_techniques_are_ranked_by_the_most_that_they_take():
    found = serving_advice(GIVEN, 1024, 256, Goals(rate=1000.0), "latency")
    first = found.remedies[0].after
    assert first is not None
    assert found.gain(first) == pytest.approx(first.loop.most / found.baseline.loop.most)


def test_goals_that_the_deployment_cannot_keep_are_reached_by_techniques_or_not_at_all():
    """At 6 ms per token bf16 weights cannot keep the goal whatever the load; narrower ones can."""
    found = serving_advice(GIVEN, 1024, 256, Goals(tpot_s=0.006))
    assert found.baseline.requests_per_s == 0.0
    keeping = [r.after for r in found.remedies if r.after is not None and r.after.requests_per_s > 0.0]
    assert keeping
    assert all(np.isinf(found.gain(after)) for after in keeping)


def test_the_waterfall_never_falls_and_combines_what_is_compatible(found):
    served = [found.baseline.requests_per_s, *(step.after.requests_per_s for step in found.steps)]
    assert served == sorted(served)
    assert len({step.name for step in found.steps}) == len(found.steps)


def test_several_replicas_serve_in_proportion():
    two = serving_advice(deployment("llama-3.1-8b", "2xh100-sxm", rp.Plan(tp=1)), 1024, 256, replace(GOALS, rate=20.0))
    one = serving_advice(GIVEN, 1024, 256, GOALS)
    assert two.baseline.requests_per_s == pytest.approx(2.0 * one.baseline.requests_per_s, rel=0.01)
    assert two.baseline.usd_per_million == pytest.approx(one.baseline.usd_per_million, rel=0.01)


@pytest.mark.parametrize(
    ("goals", "objective", "kind"),
    [
        (GOALS, "speed", "unknown_objective"),
        (Goals(rate=-1.0), "throughput", "bad_goal"),
        (Goals(tpot_s=0.0), "cost", "bad_goal"),
    ],
)
def test_what_is_wrong_is_said(goals, objective, kind):
    with pytest.raises(rp.RidgepointError) as refused:
        serving_advice(GIVEN, 1024, 256, goals, objective)
    assert refused.value.kind == kind
