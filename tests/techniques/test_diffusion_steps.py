"""Denoising passes (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp


def run(*apply, model="dit-xl-2", machine="h100-sxm", **task):
    return rp.estimate(model, on=machine, task=rp.Sample(**task), apply=apply)


def test_fewer_steps_are_fewer_steps():
    assert run("step-reduction:steps=50").time_s == run(steps=50).time_s
    with pytest.raises(rp.RidgepointError, match="already"):
        run("step-reduction:steps=50", steps=20)


def test_plain_steps_save_a_quarter_when_half_are_plain():
    """Adaptive guidance: half of the steps plain, exactly 25 % of the evaluations."""
    flops = [sum(c.flop for c in run(*a, batch=8).cost.components if not c.label.startswith("decoder")) for a in
             ((), ("guidance-skipping:plain=0.5",))]  # fmt: skip
    assert 1 - flops[1] / flops[0] == pytest.approx(0.25, abs=0.005)


def test_all_plain_is_guidance_distilled():
    skipped, distilled = run("guidance-skipping:plain=1"), run("guidance-distillation")
    assert skipped.time_s == pytest.approx(distilled.time_s)


def test_unguided_models_have_nothing_to_skip():
    with pytest.raises(rp.RidgepointError, match="no guidance"):
        run("guidance-skipping", model="flux.1-dev")


def test_one_step_leaves_encoder_and_decoder():
    """InstaFlow: with one step the rest of the pipeline becomes visible."""
    est = run("step-distillation", model="sd-1.5", machine="a100-sxm-80gb")
    rest = sum(c.time_s for c in est.cost.components if c.label.startswith("decoder"))
    assert rest / est.time_s > 0.2
    assert 0.01 < est.time_s < 0.2


def test_a_cascade_of_resolutions_lies_between_its_stages():
    low, high = run(model="sdxl", image_px=1024).time_s, run(model="sdxl", image_px=2048).time_s
    both = run("resolution-cascade:px=1024,share=0.5", model="sdxl", image_px=2048).time_s
    assert low < both < high
