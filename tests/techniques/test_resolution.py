"""Fewer pixels (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp


def run(task, *apply, model="resnet50"):
    return rp.estimate(model, on="h100-sxm", task=task, apply=apply)


def test_a_smaller_input_is_the_network_at_that_size():
    assert run(rp.Forward(batch=8), "smaller-input:px=128").time_s == run(rp.Forward(batch=8, image_px=128)).time_s


def test_resizing_a_large_picture_costs():
    task = rp.Forward(batch=64)
    assert run(task, "smaller-input:px=128,source_px=4096").time_s > run(task, "smaller-input:px=128").time_s


def test_fragments_of_a_large_video_frame_cost_almost_nothing_of_it():
    """FAST-VQA: 99.5 % fewer operations than the whole 1080p frame."""
    whole, part = run(rp.Forward(image_px=1440)), run(rp.Forward(image_px=1440), "smaller-input:px=112")
    flop = [sum(c.flop for c in e.cost.components) for e in (whole, part)]
    assert 1 - flop[1] / flop[0] == pytest.approx(0.994, abs=0.003)


def test_larger_inputs_are_refused():
    with pytest.raises(rp.RidgepointError, match="already"):
        run(rp.Forward(), "smaller-input:px=512")


def test_key_frames_approach_the_small_frames():
    task = rp.Forward(batch=16)
    small = run(rp.Forward(batch=16, image_px=112)).time_s
    rare = run(task, "key-frames:every=100000,channels=0").time_s
    assert rare == pytest.approx(small, rel=0.01)
    assert run(task, "key-frames:every=1").time_s == pytest.approx(run(task).time_s)


def test_fusion_keeps_part_of_the_cost():
    """AR-Seg's saving is 67 %, below what the small frames alone would save."""
    task = rp.Forward(batch=1, image_px=720)
    flop = [
        sum(c.flop for c in run(task, *a, model="segformer-b0").cost.components)
        for a in ((), ("key-frames:every=12,px=360,channels=128",), ("key-frames:every=12,px=360,channels=0",))
    ]
    assert flop[2] < flop[1] < flop[0]
