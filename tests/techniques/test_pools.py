"""Prompts on some devices, decode on others (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp


def run(*apply, machine="8xh100-sxm", batch=64, prompt=4096, output=256, tp=1):
    task = rp.Generate(batch=batch, prompt=prompt, output=output)
    return rp.estimate("llama-3.1-8b", on=machine, task=task, plan=rp.Plan(tp=tp), apply=apply)


def apart(devices, **sizes):
    return run(f"prefill-decode-disaggregation:prefill_devices={devices}", **sizes)


def test_the_slower_pool_sets_the_pace():
    """Few prefill devices: prompts bind. Many: decoding alone binds, and more prompt devices only take from it."""
    prompts = [apart(n, prompt=16384, output=64).tpot_s for n in (1, 2, 4)]
    assert prompts[0] / prompts[1] == pytest.approx(2.0, rel=0.02)
    assert prompts[1] / prompts[2] == pytest.approx(2.0, rel=0.2)
    light = apart(1, prompt=128, output=1024)
    alone = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Generate(batch=10, prompt=128, output=1024))
    assert light.tpot_s == pytest.approx(alone.tpot_s, rel=0.01)


def test_the_cache_travels_once_before_the_second_token():
    """Splitwise: prompt tokens × bytes per token over the link, beside the prefill of one prompt."""
    one = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Prefill(batch=1, prompt=4096))
    size = 4096 * 131072
    est = apart(4)
    assert est.ttft_s - one.ttft_s == pytest.approx(size / 450e9, rel=0.6)


def test_a_slow_link_delays_the_first_token():
    nodes = apart(8, machine="2x8xh100-sxm", tp=1)
    assert nodes.ttft_s > apart(4).ttft_s


@pytest.mark.parametrize(("machine", "devices"), [("8xh100-sxm", 8), ("2x8xh100-sxm", 4)])
def test_pools_are_whole_nodes_or_parts_of_one(machine, devices):
    with pytest.raises(rp.RidgepointError, match="devices"):
        apart(devices, machine=machine)


def test_power_and_memory_are_those_of_both_pools():
    est = apart(4)
    assert est.devices == 8
    assert any("decoding device" in line for line in est.assumptions)
