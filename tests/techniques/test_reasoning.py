"""How many tokens are generated (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp

MODEL = "llama-3.2-3b"


def run(task, *apply, model=MODEL):
    return rp.estimate(model, on="h100-sxm", task=task, apply=apply)


def test_cutting_tokens_cuts_decode_time_and_leaves_ttft():
    task = rp.Generate(batch=4, prompt=1024, output=1000)
    plain, short = run(task), run(task, "shorter-reasoning:cut=0.5")
    assert short.ttft_s == plain.ttft_s
    assert short.time_s / plain.time_s == pytest.approx(0.5, abs=0.03)
    assert short.scenario.task.output == 500


def test_samples_are_cheap_while_weights_bind_and_dear_when_they_do_not():
    few, many = rp.Generate(batch=1, prompt=128, output=64), rp.Generate(batch=512, prompt=128, output=64)
    ratios = [run(t, "repeated-sampling:samples=4").time_s / run(t).time_s for t in (few, many)]
    assert ratios[0] < 1.3 < 2.0 < ratios[1] <= 4.2


def test_an_adaptive_budget_halves_the_samples():
    """adaptive-lm-compute: half of the samples at equal quality."""
    task = rp.Generate(batch=256, prompt=128, output=64)
    full, half = (run(task, f"repeated-sampling:samples=8,spent={s}") for s in (1, 0.5))
    assert half.time_s < full.time_s
    assert half.memory["kv"] == pytest.approx(full.memory["kv"] / 2)


def test_a_judge_reads_all_answers():
    task = rp.Generate(batch=4, prompt=128, output=64)
    plain = run(task, "repeated-sampling:samples=8")
    judged = run(task, "repeated-sampling:samples=8,judge=llama-3.1-8b")
    assert judged.time_s > plain.time_s
    assert judged.memory["judge_weights"] > 1.5e10
    with pytest.raises(rp.RidgepointError, match="reads no text"):
        run(task, "repeated-sampling:judge=resnet50")


def test_a_cap_bounds_what_an_attack_can_cost():
    """verbose-images: outputs 7.87 times longer cost nearly that much more, and with a cap no more than the cap."""
    usual, attacked = (rp.Generate(batch=1, prompt=576, output=n) for n in (100, 787))
    assert run(attacked).time_s / run(usual).time_s == pytest.approx(7.87, rel=0.15)
    assert run(attacked, "output-cap:tokens=100").time_s == pytest.approx(run(usual).time_s)
    assert run(usual, "output-cap:tokens=200").time_s == pytest.approx(run(usual).time_s)
