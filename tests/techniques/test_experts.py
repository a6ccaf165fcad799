"""Mixtures of experts on several devices (design §6)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp

MANY = rp.Plan(tp=1, dp=16, ep=16)


def run(
    *apply: str, model: str = "deepseek-v2-lite", on: str = "2x8xa100-sxm-80gb", task=None, plan: rp.Plan = MANY
) -> rp.Estimate:
    return rp.estimate(model, on=on, task=task or rp.Prefill(batch=64, prompt=1024), plan=plan, apply=apply)


def exchanged(found: rp.Estimate) -> float:
    return sum(float(np.sum(c.time_s)) for c in found.cost.components if c.kind == "collective")


def test_what_stays_local_is_not_sent():
    whole, half = run(), run("expert-placement-affinity:local=0.5")
    assert exchanged(half) < 0.65 * exchanged(whole)
    assert exchanged(run("expert-placement-affinity:local=1")) == pytest.approx(0.0, abs=1e-9)


def test_one_exchange_in_place_of_two_halves_them():
    assert exchanged(run("expert-placement-affinity:local=0,exchanges=1")) == pytest.approx(
        exchanged(run()) / 2, rel=0.02
    )


def test_the_shortcut_gains_at_most_the_exchanges():
    """Cai et al. 2024: 1 / (1 − share of the all-to-alls)."""
    before = run()
    part = exchanged(before) / before.time_s
    gain = before.time_s / run("expert-shortcut").time_s
    assert 1.0 < gain <= 1.02 / (1.0 - part)


def test_balance_gains_what_the_busiest_rank_waited():
    """Only expert products shrink, by the ratio of imbalances: less than that for the whole layer."""

    def at(imbalance: float, *apply: str) -> float:
        plan = rp.Plan(tp=8, ep=8, expert_imbalance=imbalance)
        found = run(*apply, model="mixtral-8x7b", on="8xh100-sxm", task=rp.Prefill(batch=8, prompt=2048), plan=plan)
        return float(found.time_s)

    assert 1.2 < at(2.0) / at(2.0, "expert-placement-balanced") < 2.0
    assert at(2.0, "expert-placement-balanced") == pytest.approx(at(1.0))


def test_padding_costs_its_factor_in_expert_products():
    alone = rp.Plan(tp=8)
    task = rp.Prefill(batch=4, prompt=2048)

    def experts(*apply: str) -> float:
        found = run(*apply, model="mixtral-8x7b", on="8xh100-sxm", task=task, plan=alone)
        return sum(float(np.sum(c.flop)) for c in found.cost.components if ".experts." in c.label and c.kind == "gemm")

    assert experts("expert-capacity:factor=2") / experts() == pytest.approx(2.0)


def test_one_hot_dispatch_is_quadratic_in_the_tokens():
    """2·T·S·h with S = T·k·factor places: twice the tokens cost four times the products."""

    def masks(prompt: float) -> float:
        task = rp.Prefill(batch=1, prompt=prompt)
        found = run(
            "expert-capacity:one_hot=true", model="mixtral-8x7b", on="8xh100-sxm", task=task, plan=rp.Plan(tp=8)
        )
        assert found.memory["masks"] > 0.0
        return sum(float(np.sum(c.flop)) for c in found.cost.components if c.label.endswith("_mask"))

    assert masks(4096.0) / masks(2048.0) == pytest.approx(4.0)


def test_fewer_experts_per_token_read_fewer_weights_for_one_token():
    plan = rp.Plan(tp=8)
    task = rp.Decode(batch=1, context=1024)
    two, one = (
        run(*a, model="mixtral-8x7b", on="8xh100-sxm", task=task, plan=plan)
        for a in ((), ("experts-per-token:count=1",))
    )
    parts = [sum(c.bytes for c in e.cost.components if ".experts." in c.label and c.kind == "gemm") for e in (two, one)]
    assert parts[0] / parts[1] == pytest.approx(2.0, rel=0.05)


def test_whole_experts_are_as_many_bytes_as_slices_of_all():
    plan = rp.Plan(tp=8)
    task = rp.Decode(batch=64, context=1024)
    sliced, whole = (
        run(*a, model="mixtral-8x7b", on="8xh100-sxm", task=task, plan=plan)
        for a in ((), ("expert-parallel:degree=8",))
    )
    assert whole.memory["weights"] == pytest.approx(sliced.memory["weights"], rel=0.01)
