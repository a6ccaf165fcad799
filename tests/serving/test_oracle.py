"""The simulator beside an independent one on SimPy that steps token by token (tests/serving/oracle): the same first and
last tokens, request by request, whatever the scheduler, the cache, the router and what befalls replicas (issue 10).
"""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.serving.failures import Failures
from ridgepoint.serving.handover import transfer
from ridgepoint.serving.scaling import Scaling
from ridgepoint.serving.simulate import simulate_requests
from tests.serving.both import both
from tests.serving.systems import bare, documents, load

pytest.importorskip("simpy")


def beside(system, requests, seed=0, **how):
    """Both simulations; asserts that they tell the same of every request."""
    found, jobs, _ = both(system, requests, seed, **how)
    first, done = (np.array([getattr(job, name) for job in jobs]) for name in ("first", "done"))
    assert np.allclose(found.columns["first_s"], first, rtol=1e-6, atol=1e-9)
    assert np.allclose(found.columns["done_s"], done, rtol=1e-6, atol=1e-9)
    return found, jobs


@pytest.mark.parametrize(
    ("rate", "blocks", "budget", "most"),
    [(12.0, None, 8192, 64), (40.0, 700, 2048, 64), (60.0, 300, 512, 16), (3.0, None, 256, 8)],
)
@pytest.mark.parametrize("chunked", [True, False])
def test_steps_chunks_and_sequences_put_back(rate, blocks, budget, most, chunked):
    """Were a run of decode steps skipped wrongly, a cache grown late or a request put back out of order, they would differ."""
    requests = load(rate, 300, "uniform:16:1800", "uniform:1:250")
    system = bare(blocks=blocks, token_budget=budget, max_sequences=most, chunked=chunked)
    found, _ = beside(system, requests)
    assert (found.put_back > 0) == (blocks is not None)


def test_priorities_decide_who_begins_and_who_goes():
    requests = load(60.0, 300, "uniform:16:1500", "uniform:20:250", seed=4).with_urgent(0.3)
    found, _ = beside(bare(blocks=400, max_sequences=32), requests)
    assert found.put_back > 20


@pytest.mark.parametrize(("rate", "blocks"), [(10.0, None), (40.0, 600), (80.0, 260)])
def test_prefixes_are_found_shared_and_evicted_alike(rate, blocks):
    found, jobs = beside(bare(blocks=blocks, token_budget=1024), documents(400, rate), prefix=True)
    cached = np.array([job.cached for job in jobs])
    assert np.array_equal(found.columns["cached_tokens"], cached)
    assert cached.sum() > 10_000


@pytest.mark.parametrize("routing", ["round_robin", "least_loaded", "power_of_two"])
def test_replicas_behind_a_router(routing):
    requests = load(60.0, 500, "uniform:16:1800", "uniform:1:250", seed=5)
    found, _ = beside(bare("4xh100-sxm", rp.Plan(tp=1, dp=4), blocks=600, routing=routing), requests, seed=3)
    assert set(found.columns["replica"].tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("rate", "blocks"), [(20.0, None), (40.0, 400)])
def test_caches_handed_over(rate, blocks):
    """Transfers one at a time and layer by layer, room at the receiver, and sequences that are put back there."""
    requests = load(rate, 300, "uniform:16:1800", "uniform:1:250", seed=6)
    system = bare("4xh100-sxm", rp.Plan(tp=1, dp=4), blocks=blocks, prefill_replicas=2)
    sends = (*transfer(system, system.cache(1000.0)), system.model.main.depth)
    found, _ = beside(system, requests, readers=2, transfer=sends)
    assert (found.put_back > 0) == (blocks is not None)


@pytest.mark.parametrize("prefill", [0, 1])
def test_failures(prefill):
    """What is lost with a replica begins again elsewhere, in order, with the tokens that were sent."""
    requests = load(25.0, 500, "uniform:16:1800", "uniform:1:250", seed=7)
    system = bare("4xh100-sxm", rp.Plan(tp=1, dp=4), prefill_replicas=prefill, failures=Failures(8.0, 3.0))
    sends = (*transfer(system, system.cache(1000.0)), system.model.main.depth)
    events = simulate_requests(system, requests).events
    found, _ = beside(system, requests, readers=prefill, transfer=sends, events=events)
    assert found.columns["restarted"].sum() > 10


def test_replicas_that_come_and_go():
    requests = rp.poisson_requests(20.0, 600, "uniform:16:1200", "uniform:1:250", seed=8)
    system = bare("4xh100-sxm", rp.Plan(tp=1, dp=4), scaling=Scaling(8.0, 1, start_s=3.0, every_s=2.0, patience_s=4.0))
    events = simulate_requests(system, requests).events
    assert {event.what for event in events} >= {"starts", "up", "leaves"}
    beside(system, requests, events=events, up=1)
