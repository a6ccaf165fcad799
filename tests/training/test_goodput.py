"""Failures and critical batches against their published closed forms."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.training.critical_batch import critical_batch
from ridgepoint.training.goodput import best_interval_s, goodput, useful_fraction
from ridgepoint.training.planner import plan_train


@given(st.floats(0.01, 100.0), st.floats(1e3, 1e7))
def test_dalys_interval_is_near_the_best_one(checkpoint_s, mtbf_s):
    """Numerically: no interval within a factor of four of it is better by more than 0.1 %."""
    best = best_interval_s(checkpoint_s, mtbf_s)
    at_best = useful_fraction(best, checkpoint_s, 60.0, mtbf_s)
    for factor in (0.25, 0.5, 0.8, 1.25, 2.0, 4.0):
        assert useful_fraction(best * factor, checkpoint_s, 60.0, mtbf_s) <= at_best * 1.001


def test_short_checkpoints_follow_young():
    """√(2CM) (Young 1974)."""
    assert best_interval_s(1.0, 1e8) == pytest.approx((2e8) ** 0.5, rel=1e-3)


def test_the_published_cluster():
    """Llama 3: 419 interruptions in 54 days on 16,384 devices: one in about three hours, above 90 % useful."""
    machine = find_machine("2048x8xh100-sxm")
    found = goodput(405e9, machine)
    assert found.mtbf_s / 3600 == pytest.approx(54 * 24 / 419, rel=0.05)
    assert 0.9 < found.fraction < 1.0


def test_more_failures_and_blocking_checkpoints_cost_time():
    machine = find_machine("64x8xh100-sxm")
    usual = goodput(70e9, machine)
    assert goodput(70e9, machine, mtbf_hours=1000.0).fraction < usual.fraction
    assert goodput(70e9, machine, background=False).fraction <= usual.fraction
    with pytest.raises(RidgepointError):
        goodput(70e9, machine, mtbf_hours=0.0)


def test_the_critical_batch_doubles_tokens_and_steps():
    """At B = B_crit both are twice their minimum (McCandlish et al. 2018)."""
    one = critical_batch(70e9, 1.0, 1.4e12)
    at = critical_batch(70e9, one.tokens, 1.4e12)
    assert (at.more_tokens, at.more_steps) == pytest.approx((2.0, 2.0))


def test_checkpoints_that_stop_the_training_and_long_restarts_cost_time():
    """Daly 2006: more of both leaves less; background checkpoints stop it for the copy to the host alone."""
    asked: dict[str, Any] = {"on": "8xa100-sxm-80gb", "batch": 16, "seq": 1024, "top": 1, "mtbf_hours": 500.0}
    plain, blocking, slow = (
        plan_train("llama-3.2-1b", **{**asked, **more}).goodput
        for more in ({}, {"background": False}, {"restart_s": 7200.0})
    )
    assert blocking.fraction < plain.fraction
    assert slow.fraction < plain.fraction
    assert blocking.checkpoint_s > plain.checkpoint_s
    refused: list[tuple[dict[str, Any], str]] = [({"restart_s": -1.0}, "restart"), ({"mtbf_hours": 0.0}, "failures")]
    for wrong, says in refused:
        with pytest.raises(RidgepointError, match=says):
            plan_train("llama-3.2-1b", **{**asked, **wrong})
