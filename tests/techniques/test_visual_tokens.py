"""Visual tokens pruned and compressed (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError

LLAVA = "llava-1.5-7b"


def run(task, *apply, model=LLAVA, machine="a100-sxm-80gb", plan=None):
    return rp.estimate(model, on=machine, task=task, plan=plan, apply=apply)


def test_pruning_all_but_text_is_the_text_alone():
    """The layers behind see exactly the kept tokens: keep 0 before the first layer costs what the text alone costs."""
    pruned = run(rp.Prefill(batch=8, prompt=640), "visual-token-pruning:keep=0")
    text = run(rp.Prefill(batch=8, prompt=64))
    assert pruned.time_s == pytest.approx(text.time_s, rel=0.02)
    assert pruned.memory["kv"] == pytest.approx(text.memory["kv"])


def test_the_cache_and_decode_steps_shrink_with_it():
    plain = run(rp.Decode(batch=32, context=2048))
    pruned = run(rp.Decode(batch=32, context=2048), "visual-token-pruning:visual=1536,keep=0.1")
    assert pruned.memory["kv"] / plain.memory["kv"] == pytest.approx(1 - 0.9 * 1536 / 2048)
    assert pruned.time_s < plain.time_s


def test_little_is_gained_where_weights_bind():
    """One short prompt on a fast chip reads weights whatever its length: pruning early cannot help decode steps there."""
    task = rp.Decode(batch=1, context=640)
    assert 1.0 <= run(task).time_s / run(task, "visual-token-pruning:keep=0.1").time_s < 1.1


def test_training_gains_with_the_tokens_left():
    """ShowUI: a third of the visual tokens dropped in training; between no gain and the linear bound plus attention."""
    task = rp.Train(batch=8, seq=1400)
    plain = run(task, model="qwen2-vl-2b", machine="h100-sxm")
    pruned = run(task, "visual-token-pruning:visual=1300,keep=0.67", model="qwen2-vl-2b", machine="h100-sxm")
    assert 1.1 < plain.time_s / pruned.time_s < 1.6


def test_more_visual_tokens_than_tokens_are_refused():
    with pytest.raises(RidgepointError, match="cannot hold"):
        run(rp.Prefill(prompt=100), "visual-token-pruning")


def test_compression_without_a_cache_costs_a_pass_first():
    """VoCo: the gain is in the reuse; compressing for each prompt anew gains nothing."""
    task = rp.Prefill(batch=8, prompt=640)
    plain, cached = run(task), run(task, "visual-token-compression")
    fresh = run(task, "visual-token-compression:cached=false")
    assert cached.time_s < plain.time_s < fresh.time_s
    assert cached.memory["kv"] / plain.memory["kv"] == pytest.approx((640 - 575) / 640)


def test_voco_saves_less_time_than_operations():
    """94.8 % of the operations (VoCo-LLaMA); time falls less, since weights are read all the same."""
    task = rp.Prefill(batch=1, prompt=606)
    plain, few = run(task), run(task, "visual-token-compression")
    saved = 1 - sum(c.flop for c in few.cost.components) / sum(c.flop for c in plain.cost.components)
    assert saved == pytest.approx(0.948, abs=0.01)
    assert 1 - few.time_s / plain.time_s < saved
