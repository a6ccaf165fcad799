"""Sums over ranks beside computation (design §6)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp


def gain(name: str, prompt: float = 8192.0, on: str = "4xrtx-4090@link=25G", **plan) -> float:
    task, layout = rp.Prefill(batch=1, prompt=prompt), rp.Plan(**{"tp": 4, **plan})
    runs = [rp.estimate("llama-2-13b", on=on, task=task, plan=layout, apply=a) for a in ([], [name])]
    return float(runs[0].time_s / runs[1].time_s)


def share(on: str = "4xrtx-4090@link=25G") -> float:
    found = rp.estimate("llama-2-13b", on=on, task=rp.Prefill(batch=1, prompt=8192), plan=rp.Plan(tp=4))
    return float(sum(float(np.sum(c.time_s)) for c in found.cost.components if c.kind == "collective") / found.time_s)


@pytest.mark.parametrize("name", ["comm-overlap-split", "comm-overlap-stale"])
def test_the_gain_is_at_most_what_is_hidden(name):
    """With a part f of the time on the link at most 1 / max(f, 1 − f) is won."""
    part = share()
    assert 1.05 < gain(name) <= 1.01 / max(part, 1.0 - part)


def test_splitting_few_tokens_loses():
    """Weights are read once per part, tiles stay empty."""
    assert gain("comm-overlap-split", prompt=64.0) < 1.0


def test_slow_links_gain_more():
    assert gain("comm-overlap-split") > gain("comm-overlap-split", on="4xa100-sxm-80gb")


def test_multiprocessors_for_communication_are_taken_from_products():
    assert gain("comm-overlap-split:multiprocessors=0") > gain("comm-overlap-split:multiprocessors=32")


def test_a_stale_residual_sends_what_was_sent():
    task, plan = rp.Decode(batch=8, context=1024), rp.Plan(tp=8)
    before, after = (
        rp.estimate("llama-3.1-70b", on="8xh100-sxm", task=task, plan=plan, apply=a).cost
        for a in ([], ["comm-overlap-stale"])
    )
    assert sum(before.flop.values()) == pytest.approx(sum(after.flop.values()))
    assert after.time_s < before.time_s
