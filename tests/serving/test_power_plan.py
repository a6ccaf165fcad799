"""What a power budget serves (POLCA's question; issue 10: how many servers under a megawatt, with capping)."""

from __future__ import annotations

from typing import Any

import pytest

import ridgepoint as rp
from ridgepoint.serving.offers import Space
from ridgepoint.serving.outcome import Slo
from ridgepoint.serving.power_plan import REST, plan_power

LOAD = rp.poisson_requests(1.0, 800, "lognormal:1k", "lognormal:200", seed=3)
ASK: dict[str, Any] = {"requests": LOAD, "devices": ("h100-sxm",), "slo": Slo(0.5, 0.04), "space": Space(splits=False)}


@pytest.fixture(scope="module")
def found():
    return plan_power("llama-3.1-8b", budget_w=1e5, **ASK)


def test_what_is_provisioned_fits_the_budget_and_one_more_would_not(found):
    for on in found.found:
        for given in (on.full, on.best):
            assert given.replicas * given.provisioned_w <= 1e5 < (given.replicas + 1) * given.provisioned_w
            assert given.provisioned_w == pytest.approx(given.offer.devices * 700.0 * (given.cap + REST))


def test_the_answer_keeps_the_goals_and_draws_no_more_than_its_caps(found):
    for on in found.found:
        assert on.best.rate >= on.full.rate
        for given in (on.full, on.best):
            assert given.attainment >= 0.9
            assert 0.0 < given.drawn_w <= given.offer.devices * 700.0 * given.cap * 1.001


def test_twice_the_budget_serves_twice_as_much(found):
    double = plan_power("llama-3.1-8b", budget_w=2e5, **ASK)
    assert double.found[0].best.rate == pytest.approx(2.0 * found.found[0].best.rate, rel=0.03)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"budget_w": -1.0}, "bad_budget"),
        ({"budget_w": 500.0}, "no_plan"),
        ({"budget_w": 1e5, "slo": Slo()}, "no_goal"),
    ],
)
def test_what_is_wrong_is_said(changes, kind):
    with pytest.raises(rp.RidgepointError) as refused:
        plan_power("llama-3.1-8b", **(ASK | changes))
    assert refused.value.kind == kind
