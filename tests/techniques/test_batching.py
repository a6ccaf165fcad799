"""How requests share a device (design §6); the balance of work is the oracle of the schedule."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp

SCHEDULES = ("continuous-batching", "chunked-prefill", "prefill-beside-decode")


def run(*apply, batch=32, prompt=2048, output=256, model="llama-3.1-8b", machine="h100-sxm"):
    task = rp.Generate(batch=batch, prompt=prompt, output=output)
    return rp.estimate(model, on=machine, task=task, apply=apply)


def test_a_larger_batch_is_that_batch():
    assert run("batch-growth:times=2").time_s == run(batch=64).time_s


@pytest.mark.parametrize("batch", [4, 32])
def test_the_steady_state_conserves_work(batch):
    """While one request is served the device reads a prompt for each of the batch and makes its 255 further tokens."""
    alone, static = run(batch=1), run(batch=batch)
    est = run("continuous-batching", batch=batch)
    assert est.ttft_s == pytest.approx(alone.ttft_s)
    assert est.tpot_s == pytest.approx(static.tpot_s + (batch - 1) * alone.ttft_s / 255, rel=0.01)
    assert est.time_s == pytest.approx(batch * alone.ttft_s + 255 * static.tpot_s, rel=0.01)


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_request_has_nothing_to_interleave(name):
    with pytest.raises(rp.RidgepointError, match="nothing to interleave"):
        run(name, batch=1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_first_tokens_come_sooner_and_the_rate_keeps_up(name):
    static, changed = run(), run(name)
    assert changed.ttft_s < static.ttft_s / 8
    assert changed.tokens_per_s > 0.95 * static.tokens_per_s


def test_small_chunks_wait_for_many_steps():
    """A prompt in more pieces comes later to its first token; tiny pieces fill no step and read the cache over and over."""
    fine, coarse = run("chunked-prefill:chunk=256"), run("chunked-prefill:chunk=2048")
    assert fine.ttft_s > coarse.ttft_s
    assert run("chunked-prefill:chunk=16").time_s > fine.time_s


def test_chunks_do_the_same_products_as_whole_prompts():
    """Merging rows loses none: operations of the feed-forward part agree."""
    flop = [
        sum(c.flop for c in run(a, output=2048).cost.components if ".feed." in c.label)
        for a in ("continuous-batching", "chunked-prefill")
    ]
    assert flop[1] == pytest.approx(flop[0], rel=0.03)


def test_sharing_a_device_is_never_more_than_taking_turns():
    """Overlap ≤ Seq (design §3): side by side is at best the larger demand and at worst the sum."""
    turns, beside = run("continuous-batching"), run("prefill-beside-decode")
    alone = run(batch=1).ttft_s
    assert max(run().tpot_s, alone * 31 / 255) * 0.98 <= beside.tpot_s <= turns.tpot_s


def test_schedules_sweep_over_batches_with_one_request():
    """A sweep may hold a point without others: no infinity there."""
    batch = np.array([1.0, 8.0, 64.0])
    for name in SCHEDULES:
        est = run(name, batch=batch)
        assert np.all(np.isfinite(est.time_s))
        assert est.ttft_s[0] == pytest.approx(run(batch=1).ttft_s, rel=1.0)
