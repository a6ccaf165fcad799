"""Claims on fleets: what the cheapest one costs for a load within goals (design §7, issue 10)."""

from __future__ import annotations

import msgspec
import pytest

import ridgepoint as rp
from ridgepoint.evidence.claims import Claim, Fleet
from ridgepoint.evidence.fleet_costs import cheapest_usd_per_hour
from ridgepoint.evidence.reproduce import predict

BOTH = Fleet(
    "llama-3.1-8b",
    ["l4@price=0.7", "h100-sxm@price=7.0"],
    rate=1.0,
    prompt="300",
    output="200",
    tpot_s=0.1,
    requests=400,
)


def test_more_kinds_to_choose_from_never_cost_more():
    alone = [cheapest_usd_per_hour(msgspec.structs.replace(BOTH, machines=[name])) for name in BOTH.machines]
    assert cheapest_usd_per_hour(BOTH) <= min(alone) * 1.002


def test_costs_are_whole_devices_at_the_prices_that_the_claim_states():
    cost = cheapest_usd_per_hour(msgspec.structs.replace(BOTH, machines=["l4@price=0.7"]))
    assert cost / 0.7 == pytest.approx(round(cost / 0.7))


def test_a_claim_compares_the_costs_of_its_fleets():
    dear = msgspec.structs.replace(BOTH, machines=["h100-sxm@price=7.0"])
    found = predict(Claim("melange", fleets=(dear, BOTH)), "cost_reduction", "%")
    assert found.before is not None
    assert found.after is not None
    assert found.before == pytest.approx(7.0)
    assert found.value == pytest.approx(100.0 * (1.0 - found.after / found.before))
    impossible = msgspec.structs.replace(BOTH, tpot_s=1e-5)
    assert "keeps the goals" in predict(Claim("melange", fleets=(impossible, BOTH)), "cost_reduction", "%").error


def test_no_fleet_within_the_goals_is_said():
    with pytest.raises(rp.RidgepointError, match="keeps the goals"):
        cheapest_usd_per_hour(msgspec.structs.replace(BOTH, tpot_s=1e-5))
