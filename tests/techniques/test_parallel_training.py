"""Cuts of a training step over devices (design §6)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp


def piped(*apply: str, batch: float = 8.0, **plan) -> rp.Estimate:
    task = rp.Train(batch=batch, seq=2048)
    layout = rp.Plan(**{"pp": 8, "dp": 1, "micro_batch": 1, **plan})
    return rp.estimate("llama-2-13b", on="8xa100-sxm-80gb", task=task, plan=layout, apply=apply)


def test_interleaving_divides_the_bubble():
    """Narayanan et al. 2021: (p − 1)/(v·m) of the ideal step; with m = p = 8 from 1.875 to 1.219 of it with 4 chunks."""
    gain = piped().time_s / piped("pipeline-interleaved:chunks=4").time_s
    assert gain == pytest.approx(1.875 / 1.219, rel=0.15)


def test_with_many_micro_batches_no_schedule_matters():
    base = piped(batch=512.0).time_s
    for name in ("pipeline-interleaved", "pipeline-split-backward"):
        assert base / piped(name, batch=512.0).time_s < 1.05


def test_twice_the_memory_removes_the_bubble():
    """Qi et al. 2023: ZB-H2 holds 2p − 1 micro-batches where 1F1B holds p."""
    first, second = piped("pipeline-split-backward"), piped("pipeline-split-backward:memory=2", batch=64.0)
    assert second.memory["activations"] > 1.5 * first.memory["activations"]
    times = [
        piped(*a, batch=16.0).time_s for a in (("pipeline-split-backward:memory=2",), ("pipeline-split-backward",), ())
    ]
    assert times == sorted(times)
    assert times[0] < 0.95 * times[1] < 0.9 * times[2]


def test_the_head_matters_where_the_vocabulary_is_large():
    """256k words beside 26 layers of width 2,304 against 32k words beside layers of width 5,120."""

    def gain(model: str) -> float:
        task, plan = rp.Train(batch=64, seq=2048), rp.Plan(pp=8, dp=1, micro_batch=1)
        both = [
            rp.estimate(model, on="8xh100-sxm", task=task, plan=plan, apply=a) for a in ([], ["vocabulary-parallel"])
        ]
        return float(both[0].time_s / both[1].time_s)

    assert gain("gemma-2-2b") > 1.3 * gain("llama-2-13b")


def test_sequence_parallelism_divides_what_tensor_parallelism_leaves_whole():
    """Korthikanti et al. 2022: of 34 bytes a token and unit 10 are not divided by tensor parallelism."""

    def kept(*apply: str) -> float:
        task, plan = rp.Train(batch=8, seq=4096), rp.Plan(tp=8, sequence_parallel=False)
        found = rp.estimate("llama-2-13b", on="8xa100-sxm-80gb", task=task, plan=plan, apply=apply)
        return float(found.memory["activations"])

    assert kept("sequence-parallel") < 0.5 * kept()


@pytest.mark.parametrize("exchange", ["ring", "all_to_all", "all_gather"])
def test_activations_fall_with_the_context_parallel_degree(exchange):
    def kept(*apply: str) -> float:
        task, plan = rp.Train(batch=1, seq=65536), rp.Plan(tp=1, dp=1, recompute="full")
        return float(
            rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=task, plan=plan, apply=apply).memory["activations"]
        )

    assert kept(f"context-parallel:degree=8,exchange={exchange}") == pytest.approx(kept() / 8, rel=0.1)


def test_unfused_attention_keeps_only_its_own_keys_in_a_ring():
    """Li et al. 2021: per-device activations fall by the number of devices, keys and values too."""

    def kept(cp: int) -> float:
        plan = rp.Plan(tp=1, dp=1, cp=cp, context_exchange="ring", fused_attention=False)
        task = rp.Train(batch=8, seq=512)
        return float(rp.estimate("bert-large", on="8xa100-sxm-80gb", task=task, plan=plan).memory["activations"])

    assert kept(8) == pytest.approx(kept(1) / 8, rel=0.05)


def test_keys_that_go_round_cost_with_the_context_and_partial_results_do_not():
    """Shyam et al. 2024: ring decoding moves the cache, a tree moves one vector of a head."""

    def moved(context: float, *apply: str) -> float:
        task, plan = rp.Decode(batch=1, context=context), rp.Plan(tp=1, dp=1, cp=8)
        found = rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=task, plan=plan, apply=apply)
        return sum(float(np.sum(c.time_s)) for c in found.cost.components if c.label.endswith("context_exchange"))

    assert moved(1e6) == pytest.approx(moved(1e5))
    assert moved(1e6, "keys-around-ring") > 5.0 * moved(1e5, "keys-around-ring")


def test_larger_micro_batches_deepen_the_bubble():
    """Hagemann et al. 2023: with a pipeline one sequence per micro-batch is best, without one it is not."""
    assert piped("larger-micro-batch:sequences=4", batch=32.0).time_s > piped(batch=32.0).time_s
