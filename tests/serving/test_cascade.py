"""Several models for one stream (design §10): what is passed on, and that nothing is lost or made up."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.serving.simulate import simulate_requests
from tests.serving.systems import bare, load


def test_a_cascade_that_passes_nothing_on_is_its_first_model():
    requests = load(5.0, 100)
    found = rp.simulate_cascade([bare(), bare()], [0.0], requests)
    alone = simulate_requests(bare(), requests)
    assert len(found.outcomes) == 1
    assert np.array_equal(found.columns["done_s"], alone.columns["done_s"])


def test_what_is_passed_on_arrives_when_the_first_answer_is_there():
    requests = load(10.0, 400)
    found = rp.simulate_cascade([bare(), bare("2xh100-sxm")], [0.4], requests)
    first, second = found.outcomes
    on = found.indices[1]
    assert len(on) == pytest.approx(160, abs=40)
    assert np.array_equal(second.requests.arrival_s, first.columns["done_s"][on])
    assert np.array_equal(second.requests.prompt, requests.prompt[on])
    kept = np.setdiff1d(np.arange(400), on)
    assert np.array_equal(found.columns["done_s"][kept], first.columns["done_s"][kept])
    assert np.all(found.columns["first_s"][on] > first.columns["done_s"][on])
    assert found.summary("latency_s").mean > first.summary("latency_s").mean  # type: ignore[union-attr]
    assert found.cost_usd == pytest.approx(first.cost_usd + second.cost_usd)  # type: ignore[operator]


def test_a_router_divides_the_requests():
    requests = load(10.0, 600)
    found = rp.simulate_cascade([bare(), bare(), bare()], [0.3, 0.2], requests, kind="router")
    assert sorted(np.concatenate(found.indices).tolist()) == list(range(600))
    assert [len(index) / 600 for index in found.indices] == pytest.approx([0.5, 0.3, 0.2], abs=0.06)
    assert not np.any(np.isnan(found.columns["done_s"]))


@pytest.mark.parametrize(
    ("parts", "kind"), [([], "cascade"), ([1.5], "cascade"), ([0.5, 0.5], "cascade"), ([0.5], "lottery")]
)
def test_what_is_no_cascade_is_refused(parts, kind):
    with pytest.raises(rp.RidgepointError) as refused:
        rp.simulate_cascade([bare(), bare()], parts, load(1.0, 5), kind=kind)
    assert refused.value.kind == "bad_cascade"


def test_conversations_through_several_models_are_refused():
    turns = rp.session_requests(1.0, 5, "300", "20", turns=2, think_s=1.0)
    with pytest.raises(rp.RidgepointError) as refused:
        rp.simulate_cascade([bare(), bare()], [0.5], turns)
    assert refused.value.kind == "bad_workload"
