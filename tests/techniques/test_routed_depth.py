"""Tokens with different amounts of work (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.techniques.routed_depth import active


def run(task, *apply, model="llama-2-7b", machine="h100-sxm"):
    return rp.estimate(model, on=machine, task=task, apply=apply)


def flop(est):
    return sum(c.flop for c in est.cost.components)


def test_depths_do_the_stated_part_of_the_work():
    """1 − f + f · keep of the layers' operations, attention less."""
    task = rp.Prefill(batch=8, prompt=512)
    plain, changed = run(task), run(task, "mixture-of-depths:converted=0.9,keep=0.3")
    assert flop(changed) / flop(plain) == pytest.approx(1 - 0.9 + 0.9 * 0.3, abs=0.03)


def test_depths_without_a_converted_layer_change_nothing():
    task = rp.Prefill(batch=8)
    assert run(task, "mixture-of-depths:converted=0").time_s == pytest.approx(run(task).time_s)


def test_depths_train_faster_too():
    """γ-MoD reports 31 % less training time of LLaVA-HR: forward and backward follow the tokens."""
    task = rp.Train(batch=8, seq=2048)
    assert run(task, "mixture-of-depths:converted=0.9,keep=0.5").time_s < 0.8 * run(task).time_s


def test_one_recursion_is_the_model():
    assert active(1.0, 0.2) == [1.0]
    task = rp.Prefill(batch=8)
    same = run(task, "mixture-of-recursions:recursions=1")
    assert same.time_s == pytest.approx(run(task).time_s)
    assert same.memory["weights"] == run(task).memory["weights"]


def test_recursions_share_weights_but_not_their_traffic():
    """All tokens at full depth: memory falls, a batch-1 step reads as many bytes as before."""
    task = rp.Decode(batch=1, context=64)
    plain, shared = run(task), run(task, "mixture-of-recursions:recursions=4,last=1")
    assert shared.memory["weights"] < 0.3 * plain.memory["weights"]
    assert shared.time_s >= plain.time_s


def test_routing_everything_to_the_large_part_costs_the_router():
    task = rp.Prefill(batch=8)
    assert run(task, "routed-feed-forward:skip=0,small=0,width=0.25").time_s > run(task).time_s


def test_slices_of_the_large_part_take_no_memory():
    task = rp.Prefill(batch=8)
    own, nested = (run(task, f"routed-feed-forward:nested={n}").memory["weights"] for n in ("false", "true"))
    assert own > nested == run(task).memory["weights"]
