"""Parameters fetched for a context, and logits of tuned siblings (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.models.parameters import total_parameters

PHONE = "snapdragon-8-gen-3@storage=2G"


def small(*apply, task=None, on=PHONE):
    return rp.estimate("smollm2-135m", on=on, task=task or rp.Generate(batch=1, prompt=512, output=64), apply=apply)


def test_the_block_is_part_of_the_active_parameters():
    """hierarchical-memory-pretraining: 160M anchor + 18M fetched, while the bank of 4.6B is not on the device."""
    plain, grown = small(), small("fetched-parameters:fetched=18e6")
    extra = total_parameters(grown.scenario.model) - total_parameters(plain.scenario.model)
    assert extra == pytest.approx(18e6, rel=0.02)
    assert grown.memory["weights"] - plain.memory["weights"] == pytest.approx(2 * 18e6, rel=0.02)


def test_the_fetch_takes_the_tiers_time_once_per_context():
    fast, slow = (small("fetched-parameters", on=f"snapdragon-8-gen-3@storage={rate}") for rate in ("2G", "0.2G"))
    assert slow.ttft_s - fast.ttft_s == pytest.approx(36e6 * (1 / 0.2e9 - 1 / 2e9), rel=0.3)
    assert slow.tpot_s == pytest.approx(fast.tpot_s)


def test_a_decode_step_bears_its_part_of_a_fetch_where_a_context_is_short():
    task = rp.Decode(batch=1, context=512)
    kept, short = (small(f"fetched-parameters:tokens={n}", task=task) for n in (0, 4))
    assert short.tpot_s > kept.tpot_s


def test_contexts_of_a_batch_have_blocks_of_their_own():
    with pytest.raises(rp.RidgepointError, match="batch of one"):
        small("fetched-parameters", task=rp.Decode(batch=4, context=512))


def fused(*apply, batch=1):
    task = rp.Decode(batch=batch, context=1024)
    return rp.estimate("llama-3.1-70b", on="4xh100-sxm", task=task, apply=apply)


def test_siblings_cost_their_passes():
    plain = fused()
    one = rp.estimate("llama-3.2-1b", on="4xh100-sxm", task=rp.Decode(batch=1, context=1024), plan=rp.Plan(tp=4, dp=1))
    mixed = fused("logits-fusion:trials=1")
    assert mixed.tpot_s - plain.tpot_s == pytest.approx(2 * one.tpot_s, rel=0.2)
    assert mixed.memory["sibling_weights"] == pytest.approx(2 * one.memory["weights"], rel=0.01)


def test_without_experts_nothing_is_fused():
    assert fused("logits-fusion:experts=0").tpot_s == pytest.approx(fused().tpot_s)


def test_only_models_with_one_vocabulary_can_be_fused():
    with pytest.raises(rp.RidgepointError, match="another vocabulary"):
        fused("logits-fusion:small=qwen2.5-0.5b")
