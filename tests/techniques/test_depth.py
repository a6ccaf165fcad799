"""Exits and skipped layers (design §6)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp


def time(task, *apply, model="llama-3.1-8b"):
    return rp.estimate(model, on="h100-sxm", task=task, apply=apply).time_s


def test_exits_that_nobody_takes_cost_their_heads():
    task = rp.Decode(batch=1)
    assert time(task, "early-exit:probability=0") > time(task, "early-exit:probability=0,full_head=false") > time(task)


def test_everybody_leaving_at_the_first_of_one_exit_halves_the_layers():
    task = rp.Decode(batch=1, context=64)
    gain = time(task) / time(task, "early-exit:exits=1,probability=1,full_head=false")
    assert 1.4 < gain < 2.0


def test_exit_gains_fall_with_the_batch():
    """A batch runs a layer as long as one of its samples is there."""
    batch = np.array([1.0, 4.0, 16.0, 64.0])
    task = rp.Decode(batch=batch, context=64)
    gains = time(task) / time(task, "early-exit:full_head=false")
    assert gains[0] > 1.4
    assert np.all(gains[1:] < 1.1)


def test_exits_help_image_batches_in_proportion_to_rows():
    task = rp.Forward(batch=256)
    gain = time(task, model="vit_large_patch16_224") / time(task, "early-exit", model="vit_large_patch16_224")
    assert 1.2 < gain < 1.8


def test_position_depth_keeps_its_gain_at_any_batch():
    """SkipDecode's point: all sequences of a batch skip the same layers."""
    gains = [
        time(rp.Decode(batch=b, context=64)) / time(rp.Decode(batch=b, context=64), "position-depth") for b in (1, 64)
    ]
    assert gains[0] == pytest.approx(gains[1], rel=0.15)
    assert all(1.5 < gain < 2.0 for gain in gains)


def test_position_depth_leaves_the_prefill():
    task = rp.Generate(batch=4, prompt=4096, output=2)
    plain, changed = (rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=a) for a in ((), ("position-depth",)))
    assert changed.ttft_s == pytest.approx(plain.ttft_s)
    assert changed.tpot_s < plain.tpot_s


def test_sequences_that_skip_differently_read_all_weights():
    task = rp.Decode(batch=64, context=64)
    own, common = (time(task) / time(task, f"layer-skip-routing:skip=0.5,common={c}") for c in ("false", "true"))
    assert own < 1.2 < common
