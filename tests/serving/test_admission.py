"""Admission control: requests that wait too long are dropped, counted and said (issue 10)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.serving.deployment import Deployment, deployment
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.serving.summary import document

PLAIN = deployment("llama-3.1-8b", "h100-sxm")


def shedding(after_s: float | None, **more: Any) -> Deployment:
    return replace(PLAIN, scheduling=replace(PLAIN.rules, shed_after_s=after_s), **more)


def test_nobody_is_dropped_where_nobody_waits_that_long():
    load = rp.poisson_requests(rate=5.0, count=500, prompt="lognormal:1k", output="100")
    kept, plain = (simulate_requests(shedding(after), load) for after in (2.0, None))
    assert kept.shed == 0
    assert np.array_equal(kept.columns["done_s"], plain.columns["done_s"])


def test_under_overload_what_is_served_is_served_in_time_and_all_are_accounted_for():
    load = rp.poisson_requests(rate=80.0, count=4000, prompt="lognormal:1k", output="lognormal:200")
    kept, plain = (simulate_requests(shedding(after), load) for after in (0.5, None))
    assert 0 < kept.shed == kept.failed < len(load)
    assert int(kept.completed.sum()) + kept.shed == len(load)
    waited = (kept.columns["began_s"] - kept.columns["arrived_s"])[kept.completed]
    assert waited.max() <= 0.5 + PLAIN.software.request_s + 1e-9
    assert plain.queue.overloaded
    assert not kept.queue.overloaded
    assert np.percentile(kept.ttft_s, 90) < 0.5 * np.percentile(plain.ttft_s, 90)
    assert "dropped after 500 ms" in " ".join(kept.warnings)
    assert document(kept)["requests"]["shed"] == kept.shed


def test_clients_whose_request_was_dropped_send_the_next():
    load = rp.client_requests(600, 2400, "2k", "100")
    kept = simulate_requests(shedding(0.2), load)
    assert kept.shed > 0
    assert int(kept.completed.sum()) + kept.shed == len(load)


def test_requests_that_wait_for_an_adapter_or_a_batch_are_dropped_too():
    load = rp.poisson_requests(rate=10.0, count=400, prompt="1k", output="200")
    slots = simulate_requests(shedding(0.3, adapters=rp.Adapters(100, rank=16, slots=4)), load)
    assert slots.shed > 0
    assert int(slots.completed.sum()) + slots.shed == len(load)
    batches = replace(PLAIN.rules, policy="static", shed_after_s=1.0, static_batch=8)
    static = simulate_requests(replace(PLAIN, scheduling=batches), load)
    assert static.shed > 0
    assert int(static.completed.sum()) + static.shed == len(load)


def test_a_deadline_is_positive():
    with pytest.raises(RidgepointError, match="dropped after 0 s"):
        shedding(0.0)
