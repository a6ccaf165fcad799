"""Other models for some queries (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp


def run(task, *apply, model="llama-3.1-8b"):
    return rp.estimate(model, on="h100-sxm", task=task, apply=apply)


def test_a_swap_is_the_other_model():
    task = rp.Decode(batch=8)
    swapped = run(task, "model-swap:to=llama-3.2-3b")
    assert swapped.time_s == run(task, model="llama-3.2-3b").time_s
    assert swapped.memory.entries == run(task, model="llama-3.2-3b").memory.entries


@pytest.mark.parametrize("to", ["resnet50", "bert-base", "llama-3.1-8b", "no-such-model"])
def test_a_swap_must_do_the_task(to):
    with pytest.raises(rp.RidgepointError, match="does not apply"):
        run(rp.Decode(), f"model-swap:to={to}")


@pytest.mark.parametrize("escalate", [0.0, 0.25, 1.0])
def test_a_cascade_is_the_weighted_sum(escalate):
    """t_small + p · t_large, the formula of every cascade in the papers."""
    task = rp.Forward(batch=8)
    small, large = (run(task, model=m).time_s for m in ("resnet18", "resnet152"))
    both = run(task, f"cascade:small=resnet18,escalate={escalate}", model="resnet152").time_s
    assert both == pytest.approx(small + escalate * large, rel=0.02)


def test_routing_everything_to_the_small_model_costs_it_and_the_router():
    task = rp.Generate(batch=8, prompt=512, output=128)
    small = run(task, model="llama-3.2-1b")
    routed = run(task, "query-routing:share=1,router=none")
    assert routed.time_s == pytest.approx(small.time_s, rel=0.01)
    assert run(task, "query-routing:share=1").time_s > routed.time_s
    assert routed.memory["small_weights"] == small.memory["weights"]


def test_both_models_must_fit():
    task = rp.Decode(batch=1)
    plain = run(task)
    assert run(task, "query-routing").memory.total_bytes > plain.memory.total_bytes
