"""Tokens left out on the way (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.techniques.token_pruning import profile


def time(model, task, *apply, machine="h100-sxm"):
    return rp.estimate(model, on=machine, task=task, apply=apply).time_s


@pytest.mark.parametrize("cascade", [False, True])
def test_a_profile_covers_all_layers(cascade):
    assert sum(layers for layers, _ in profile(0.3, 0.5, cascade)) == pytest.approx(1.0)


def test_keeping_everything_costs_the_scores():
    """Selection is never free: with all tokens kept pruning is slower."""
    task = rp.Forward(batch=64)
    assert time("vit_large_patch16_224", task, "token-pruning:keep=1") > time("vit_large_patch16_224", task)


def test_half_of_the_tokens_from_the_start_halve_a_large_batch():
    task = rp.Forward(batch=256)
    gain = time("vit_large_patch16_224", task) / time("vit_large_patch16_224", task, "token-pruning:start=0,keep=0.5")
    assert 1.5 < gain < 2.2


def test_recovering_the_length_costs_a_layer():
    task = rp.Forward(batch=64)
    plain, full = (time("vit_large_patch16_224", task, f"token-pruning:recover={r}") for r in ("false", "true"))
    assert 1.0 < full / plain < 1.2


def test_networks_without_attention_have_no_tokens():
    with pytest.raises(rp.RidgepointError, match=r"no attention|repeats no layers"):
        time("resnet50", rp.Forward(), "token-pruning")


def test_halting_helps_prefill_in_proportion_and_batches_little():
    """QuickSilver: 39.6 % of the operations; a decode step of a batch still reads all weights."""
    values = "token-halting:halted=0.6,at=0.4,fused=0.05"
    long = rp.Prefill(batch=8, prompt=2048)
    plain, halted = (rp.estimate("llama-2-7b", on="h100-sxm", task=long, apply=a) for a in ((), (values,)))
    saved = 1 - sum(c.flop for c in halted.cost.components) / sum(c.flop for c in plain.cost.components)
    assert saved == pytest.approx(1 - 0.95 * (1 - 0.6 * 0.6), abs=0.06)
    assert halted.time_s < plain.time_s
    assert halted.memory["kv"] < plain.memory["kv"]
    task = rp.Decode(batch=64, context=128)
    assert time("llama-2-7b", task) / time("llama-2-7b", task, values) < 1.2
