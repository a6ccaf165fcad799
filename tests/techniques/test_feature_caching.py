"""Results reused from step to step (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp

MODEL = "pixart-alpha-1024"


def run(*apply, model=MODEL, **task):
    return rp.estimate(model, on="a100-sxm-80gb", task=rp.Sample(**task), apply=apply)


def test_long_intervals_end_at_the_reuse():
    """Even when nearly all steps are cached, kept results are read and added: the gain is bounded."""
    gains = [run().time_s / run(f"feature-caching:every={n}").time_s for n in (2, 4, 1000)]
    assert 1.0 < gains[0] < 2.0 < gains[1] < 4.0
    assert gains[1] < gains[2] < 200.0


def test_computing_everything_anew_changes_nothing():
    anew = run("feature-caching:every=3,attention=1,cross=1,feed=1,rest=1")
    assert anew.time_s == pytest.approx(run().time_s)


def test_a_schedule_by_component_gains_what_its_component_costs():
    """ECAD caches components apart: the sum of parts is the whole."""
    whole = run().time_s
    schedules = ("attention=0,feed=1", "attention=1,feed=0", "attention=0,feed=0")
    saved = [whole - run(f"feature-caching:every=2,cross=1,rest=1,{kept}").time_s for kept in schedules]
    assert saved[0] + saved[1] == pytest.approx(saved[2], rel=0.01)


def test_unets_cache_their_convolutions():
    assert 1.3 < run(model="sdxl").time_s / run("feature-caching", model="sdxl").time_s < 2.0


def test_attention_sharing_is_limited_by_the_attention():
    """DiTFastAttn: 88 % of attention saved gives 1.6 times only, at high resolution."""
    flop = [sum(c.flop for c in run(*a, image_px=2048).cost.components if ".attention" in c.label and "cross" not in c.label)
            for a in ((), ("attention-sharing:reused=0.6,shared=0.4",))]  # fmt: skip
    assert flop[1] == pytest.approx(flop[0] * 0.4 * 0.5, rel=0.05)
    assert run(image_px=2048).time_s / run("attention-sharing:reused=0.6,shared=0.4", image_px=2048).time_s < 4.0


def test_kept_results_take_memory():
    assert run("attention-sharing").memory["feature_cache"] > 1e8
