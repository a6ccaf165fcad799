"""The steady state of continuous batching: limits, conservation of work, queues."""

from __future__ import annotations

import numpy as np
import pytest

from ridgepoint.serving.steady import Load, Service, riding, running, steady


def service(**values):
    return Service(**{"decode_s": 0.01, "prefill_s": 0.2, "shared_prefill_s": 0.15} | values)


def test_one_request_is_its_prefill_and_its_decode_steps():
    found = steady(Load(clients=1.0, output=101.0), service())
    assert found.tpot_s == pytest.approx(0.01)
    assert found.ttft_s == pytest.approx(0.2)
    assert found.service_s == pytest.approx(0.2 + 100 * 0.01)


@pytest.mark.parametrize("clients", [1.0, 2.0, 16.0, 300.0])
@pytest.mark.parametrize("together", [1.0, 4.0, 1e9])
def test_work_is_conserved(clients, together):
    """While one request is served the device does everybody's prefill once and all decode steps."""
    found = steady(Load(clients, output=65.0, together=together), service())
    assert found.service_s == pytest.approx(0.2 + (clients - 1) * 0.15 + 64 * 0.01)
    behind = (min(together, clients) - 1) * 0.15 / 2
    assert 0.2 + behind + 64 * found.tpot_s == pytest.approx(found.service_s)


def test_without_prefill_work_tpot_is_the_step():
    found = steady(Load(clients=50.0, output=10.0), service(prefill_s=0.0, shared_prefill_s=0.0))
    assert found.tpot_s == pytest.approx(0.01)
    assert found.tokens_per_s == pytest.approx(50 * 10 / (9 * 0.01))


def test_one_output_token_is_all_prefill():
    found = steady(Load(clients=4.0, output=1.0), service())
    assert found.service_s == pytest.approx(0.2 + 3 * 0.15)
    assert found.requests_per_s == pytest.approx(4 / 0.65)


def test_clients_beyond_the_capacity_wait_for_room():
    """Little's law: with twice as many clients as fit, one waits as long as it is served."""
    found = steady(Load(clients=64.0, output=100.0), service(capacity=32.9))
    assert found.running == 32.0
    assert found.wait_s == pytest.approx(found.service_s)
    assert found.ttft_s > found.wait_s
    alone = steady(Load(clients=32.0, output=100.0), service(capacity=32.9))
    assert found.tokens_per_s == pytest.approx(alone.tokens_per_s)


def test_a_burst_delays_first_tokens_only():
    calm = steady(Load(clients=32.0, output=100.0), service())
    burst = steady(Load(clients=32.0, output=100.0, burst=0.1), service())
    assert burst.ttft_s - calm.ttft_s == pytest.approx(0.1 * 31 * 0.15 / 2)
    assert burst.tpot_s == calm.tpot_s


def test_arriving_together_moves_work_from_between_tokens_to_before_the_first():
    apart, together = (steady(Load(16.0, 100.0, together=t), service()) for t in (1.0, 16.0))
    assert together.ttft_s > apart.ttft_s
    assert together.tpot_s < apart.tpot_s


def test_chunks_and_lag_cost_decode_steps():
    plain = steady(Load(clients=8.0, output=100.0), service())
    later = steady(Load(clients=8.0, output=100.0), service(chunks=3.0, lag=2.0, request_s=0.05))
    assert later.ttft_s - plain.ttft_s == pytest.approx(4 * 0.01 + 0.05)


def test_at_least_one_request_runs():
    assert running(5.0, 0.2) == 1.0


def test_a_prompt_that_rides_costs_less_but_never_nothing():
    assert riding(0.05, 0.01, 1.0) == pytest.approx(0.04)
    assert riding(0.05, 1.0, 1.0) == pytest.approx(0.0125)


def test_arrays_are_scalars_side_by_side():
    clients = np.array([1.0, 7.0, 64.0])
    every = steady(Load(clients, output=50.0, together=3.0, burst=0.1), service(capacity=20.0))
    for i, one in enumerate(clients):
        single = steady(Load(float(one), output=50.0, together=3.0, burst=0.1), service(capacity=20.0))
        for name in ("running", "ttft_s", "tpot_s", "service_s", "wait_s", "tokens_per_s"):
            assert np.broadcast_to(getattr(every, name), 3)[i] == pytest.approx(float(getattr(single, name)))
