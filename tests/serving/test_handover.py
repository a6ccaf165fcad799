"""Prompts on devices of one type, decoding on those of another: Splitwise's heterogeneous pools (issue 10)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.serving.deployment import Deployment, deployment
from ridgepoint.serving.handover import transfer
from ridgepoint.serving.series import series
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.serving.summary import document

TP8 = rp.Plan(tp=8)
LOAD = rp.poisson_requests(rate=6.0, count=400, prompt="lognormal:1k", output="lognormal:150")


def apart(read: str, decode: str, **more: Any) -> Deployment:
    return deployment("llama-2-70b", decode, TP8, reading=deployment("llama-2-70b", read, TP8), **more)


def test_two_nodes_of_one_type_are_what_one_machine_of_two_nodes_is():
    """The general case with equal types must be the special one, to the last digit."""
    two = simulate_requests(apart("8xh100-sxm", "8xh100-sxm"), LOAD)
    one = simulate_requests(deployment("llama-2-70b", "2x8xh100-sxm", TP8, prefill_replicas=1), LOAD)
    for name in ("first_s", "done_s"):
        assert np.array_equal(two.columns[name], one.columns[name])
    assert two.energy_j == pytest.approx(one.energy_j)
    assert two.cost_usd == pytest.approx(one.cost_usd)
    assert two.devices == one.devices == 16


def test_first_tokens_are_those_of_the_devices_that_read_and_further_ones_those_that_decode():
    both = simulate_requests(apart("8xh100-sxm", "8xa100-sxm-80gb"), LOAD)
    fast, slow = (simulate_requests(apart(name, name), LOAD) for name in ("8xh100-sxm", "8xa100-sxm-80gb"))
    assert np.array_equal(both.ttft_s, fast.ttft_s)
    assert both.tpot_s.mean() == pytest.approx(slow.tpot_s.mean(), rel=0.1)
    slower, dollars, faster = ((one.cost_usd or 0.0) / one.span_s for one in (slow, both, fast))
    assert slower < dollars < faster
    assert slow.ttft_s.mean() > 1.3 * both.ttft_s.mean()


def test_a_cache_crosses_as_fast_as_the_slower_end():
    """InfiniBand of an A100 carries half of an H100's."""
    mixed, fast = apart("8xh100-sxm", "8xa100-sxm-80gb"), apart("8xh100-sxm", "8xh100-sxm")
    per_token = [transfer(one, one.cache(1024.0))[0] for one in (mixed, fast)]
    assert per_token[0] == pytest.approx(2.0 * per_token[1], rel=0.05)
    back = apart("8xa100-sxm-80gb", "8xh100-sxm")
    assert transfer(back, back.cache(1024.0))[0] == pytest.approx(per_token[0])


def test_the_power_of_both_types_adds_up_over_time():
    found = simulate_requests(apart("8xh100-sxm", "8xa100-sxm-80gb"), LOAD)
    over_time = series(found, 40)
    assert over_time["power_w"].mean() * found.span_s == pytest.approx(found.energy_j, rel=0.01)
    told = document(found)
    assert told["plan"]["reading"]["machine"] == "8xh100-sxm"
    assert told["machine"] == "8xh100-sxm + 8xa100-sxm-80gb"
    assert "HBM2e" in found.deployment.resource_label("hbm")
    assert "HBM3" in found.deployment.resource_label("hbm")


def test_a_cap_on_those_that_decode_saves_power_and_leaves_first_tokens_alone():
    """Splitwise-HHcap: decoding waits for memory, which keeps its clock."""
    free, capped = (
        simulate_requests(apart("8xh100-sxm", "8xh100-sxm", power_cap_w=cap), LOAD) for cap in (None, 350.0)
    )
    assert np.array_equal(free.ttft_s, capped.ttft_s)
    assert capped.tpot_s.mean() < 1.35 * free.tpot_s.mean()
    assert (capped.energy_j or 0.0) < (free.energy_j or 0.0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prefill_replicas": 1}, "read all prompts"),
        ({"failures": rp.Failures(1e5)}, "--failures and replicas on devices of two types"),
        ({"plan": rp.Plan(tp=8, kv="fp8")}, "keeps the cache in"),
        ({"reading": deployment("llama-2-7b", "8xh100-sxm", TP8)}, "no use to"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(more, said):
    with pytest.raises(RidgepointError, match=said):
        replace(apart("8xh100-sxm", "8xa100-sxm-80gb"), **more).checked()


def test_devices_without_a_way_out_of_their_node_are_refused():
    with pytest.raises(RidgepointError, match="no link between nodes"):
        simulate_requests(
            deployment("llama-3.1-8b", "h100-sxm", reading=deployment("llama-3.1-8b", "rtx-4090")), LOAD.first(10)
        )
