"""Power, prices, and what goes wrong in long runs (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.techniques.power import addition_saving

STEP = rp.Train(batch=64, seq=2048)


def run(*apply: str, task=STEP, on: str = "8xh100-sxm", **plan) -> rp.Estimate:
    return rp.estimate("llama-3.1-8b", on=on, task=task, plan=rp.Plan(**plan), apply=apply)


@pytest.mark.parametrize("limit", [0.5, 0.7])
def test_power_stays_under_its_cap_and_arithmetic_slows_by_less(limit):
    """Dynamic power falls faster than the clock: a third of the power costs less than a third of the rate."""
    task = rp.Prefill(batch=8, prompt=4096)
    free, capped = (run(*a, task=task, on="h100-sxm") for a in ((), (f"power-cap:limit={limit}",)))
    assert capped.power_w <= 700.0 * limit * 1.01
    assert 1.0 < capped.time_s / free.time_s < 1.0 / limit
    assert capped.energy_j < free.energy_j


def test_interruptions_repeat_work_of_all_devices():
    """Eight devices, one interruption an hour each, 90 s lost: a fifth more time."""
    slow = run("spot-devices:discount=0,interruptions=1,lost_s=90")
    assert slow.time_s / run().time_s == pytest.approx(1.2)
    assert run("spot-devices:discount=0.5,interruptions=0").cost_usd == pytest.approx(run().cost_usd / 2)


def test_a_checkpoint_writes_weights_and_states():
    """2 + 12 bytes per parameter and device over its share of the node's drives."""
    on = "8xh100-sxm@storage=16G"
    extra = run("checkpoints:every=1,background=false", on=on).time_s - run(on=on).time_s
    memory = run(on=on).memory
    assert extra == pytest.approx((memory["weights"] + memory["optimizer"]) / 2e9, rel=0.25)
    seldom = run("checkpoints:every=100,background=false", on=on).time_s - run(on=on).time_s
    assert seldom == pytest.approx(extra / 100, rel=0.05)


def test_in_the_background_it_takes_the_longer():
    on = "8xh100-sxm@storage=1000G"
    assert run("checkpoints:every=1", on=on).time_s < run("checkpoints:every=1,background=false", on=on).time_s


def test_the_slowest_of_more_devices_is_slower():
    def lost(on: str) -> float:
        return float(run("stragglers:spread=0.1", on=on, zero_stage=1).time_s / run(on=on, zero_stage=1).time_s)

    assert 1.05 < lost("8xh100-sxm") < lost("8x8xh100-sxm") < 1.4


def test_what_the_sheet_does_not_state_is_refused():
    with pytest.raises(RidgepointError, match="price"):
        rp.estimate("llama-3.2-1b", on="k80", task=rp.Decode(), apply=["spot-devices"])


def test_cheaper_multiplications_save_energy_and_no_time():
    """l-mul: 95 % of a multiplication's energy and 80 % of a dot product's; a model saves less, for it moves data too."""
    assert addition_saving(3.7, 0.1, 0.0) < 0.05
    assert addition_saving(3.7, 0.1, 0.9) == pytest.approx(0.2, abs=0.05)
    task = rp.Prefill(batch=8, prompt=2048)
    plain, cheap = (
        rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=a) for a in ([], ["approximate-multiplication"])
    )
    assert cheap.time_s == plain.time_s
    assert 0.6 * plain.energy_j < cheap.energy_j < 0.8 * plain.energy_j
    half = rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=["approximate-multiplication:share=0.25"])
    assert cheap.energy_j < half.energy_j < plain.energy_j


@pytest.mark.parametrize("machine", ["h100-sxm", "mi300x", "a100-sxm-80gb", "l4"])
def test_a_cap_slows_reading_on_every_device_that_states_its_limit_and_never_does_nothing(machine):
    """Also where nobody measured the energy of a product: the clock falls, and products with it."""
    for task in (rp.Prefill(batch=8, prompt=2048), rp.Decode(batch=256, context=1024)):
        free, half, third = (
            run(*a, task=task, on=machine) for a in ((), ("power-cap:limit=0.5",), ("power-cap:limit=0.35",))
        )
        assert 1.0 < half.time_s / free.time_s < third.time_s / free.time_s < 2.5
        assert third.power_w < half.power_w < free.power_w


def test_a_cap_is_the_same_clock_as_that_of_a_deployment():
    """One rule for both (issue 10): ``simulate --power-cap`` and the technique."""
    from ridgepoint.cost.energy import under_cap
    from ridgepoint.machines.catalog import find_machine
    from ridgepoint.serving.deployment import deployment

    given = deployment("llama-3.1-8b", "mi300x", power_cap_w=375.0)
    capped = under_cap(find_machine("mi300x"), 375.0)
    assert capped.device.chip.clock / given.machine.device.chip.clock == pytest.approx(given.frequency)


def test_a_cap_below_what_an_idle_device_draws_does_not_apply():
    with pytest.raises(RidgepointError, match="when idle"):
        run("power-cap:limit=0.2", task=rp.Decode(batch=1, context=128), on="a100-sxm-80gb")
