"""Techniques on plans whose attention is not one fused kernel: they must reach it all the same (design §6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

import ridgepoint as rp
from ridgepoint.estimates import Estimate
from ridgepoint.scenario import Edit, scenario


@pytest.mark.parametrize("task", [rp.Decode(batch=4, context=8192), rp.Generate(batch=2, prompt=2048, output=256)])
def test_techniques_reach_attention_that_is_not_fused(task):
    """Fewer cached tokens must shorten a step whatever kernels attend to them; otherwise memory falls and time does not."""
    plan = rp.Plan(fused_attention=False)
    before = rp.estimate("llama-2-7b", on="a100-sxm-80gb", task=task, plan=plan)
    after = rp.estimate("llama-2-7b", on="a100-sxm-80gb", task=task, plan=plan, apply=["token-eviction:budget=256"])
    labels = {c.label for c in after.cost.components}
    assert "layers.attention.attention.scores" in labels
    assert "layers.attention.attention" not in labels
    assert after.memory["kv"] < before.memory["kv"]
    assert after.time_s < before.time_s


def test_taken_apart_after_an_edit_that_changes_nothing_is_as_built():
    """An edit alone must not change what unfused attention costs."""
    plan = rp.Plan(fused_attention=False)
    for model, task in (("llama-3.1-8b", rp.Prefill(batch=2, prompt=1024)), ("whisper-base", rp.Generate(output=16))):
        given = scenario(model, "a100-sxm-80gb", task, plan)
        kept = replace(given, edits=(Edit("nothing", lambda built, given, values: built, {}),))
        assert Estimate(kept).time_s == pytest.approx(Estimate(given).time_s, rel=1e-9)
        assert Estimate(kept).memory.entries == Estimate(given).memory.entries


@pytest.mark.parametrize("name", ["even-context-split", "eight-bit-attention"])
def test_what_changes_the_fused_kernel_wants_one(name):
    task = rp.Generate(prompt=1024, output=16)
    with pytest.raises(rp.RidgepointError, match="fused-attention first"):
        rp.estimate("llama-2-7b", on="h100-sxm", task=task, plan=rp.Plan(fused_attention=False), apply=[name])


def test_conditions_find_attention_that_is_not_fused():
    """Low rank is as good for separate kernels; it must not be refused for want of one fused kernel."""
    task, plan = rp.Forward(batch=8, seq=512), rp.Plan(fused_attention=False)
    before, after = (
        rp.estimate("bert-base", on="a100-sxm-80gb", task=task, plan=plan, apply=apply).time_s
        for apply in ([], ["low-rank-attention:rank=64"])
    )
    assert after < before
