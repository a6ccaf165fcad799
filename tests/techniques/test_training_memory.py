"""Memory of training: what recomputation, sharding, narrow states and offloading free, and what they cost (design §6)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp

STEP = rp.Train(batch=8, seq=4096)


def run(
    *apply: str, model: str = "llama-2-7b", on: str = "8xa100-sxm-80gb", task: rp.Train = STEP, **plan
) -> rp.Estimate:
    return rp.estimate(model, on=on, task=task, plan=rp.Plan(**plan), apply=apply)


def test_full_recomputation_costs_one_forward_pass_of_three():
    """Chen et al. 2016: a third more arithmetic; without it the products' operations would be the same."""
    matrix = [
        sum(f for key, f in e.cost.flop.items() if key.startswith("matrix")) for e in (run(), run("recompute-full"))
    ]
    assert matrix[1] / matrix[0] == pytest.approx(4 / 3, rel=0.02)


def test_segments_of_the_square_root_keep_least():
    """L/k inputs and k layers: both much smaller and much larger segments keep more."""

    def kept(segment: int) -> float:
        return float(run(f"recompute-segments:segment={segment}").memory["activations"])

    best = run("recompute-segments").memory["activations"]
    assert best <= min(kept(k) for k in (1, 2, 4, 8, 16, 32)) * 1.001
    assert kept(32) > kept(8)


def test_a_segment_of_all_layers_keeps_all_of_them():
    assert run("recompute-segments:segment=32").memory["activations"] >= 0.99 * run().memory["activations"]


@pytest.mark.parametrize(("stage", "bytes_per_parameter"), [(1, 4 + 12 / 8), (2, 14 / 8), (3, 14 / 8)])
def test_zero_keeps_what_its_paper_says(stage, bytes_per_parameter):
    """Rajbhandari et al. 2020, with fp32 gradients below stage 2: gradients and states over N = 8 replicas."""
    memory = run(f"zero:stage={stage}").memory
    parameters = 6.738e9
    assert (memory["gradients"] + memory["optimizer"]) / parameters == pytest.approx(bytes_per_parameter, rel=0.02)


def test_only_stage_three_sends_more_for_one_micro_batch():
    """Stages 1 and 2 move what an all-reduce moves; stage 3 half as much again."""

    def sent(*apply: str) -> float:
        found = run(*apply, micro_batch=1)
        return sum(float(np.sum(c.bytes)) for c in found.cost.components if c.kind == "collective")

    assert sent("zero:stage=3") > 1.2 * sent("zero:stage=2")


def test_states_in_fewer_bits_take_less_and_are_read_faster():
    wide, narrow = run(model="llama-3.2-1b"), run("optimizer-8bit", model="llama-3.2-1b")
    assert narrow.memory["optimizer"] / wide.memory["optimizer"] == pytest.approx(6 / 12)
    assert narrow.time_s < wide.time_s


def test_offloaded_states_leave_the_device_and_cost_time():
    here, away = run(on="a100-sxm-80gb"), run("offload-optimizer", on="a100-sxm-80gb")
    assert "optimizer" not in away.memory.entries
    assert away.time_s > here.time_s


def test_storage_is_slower_than_host_memory():
    """A step of little arithmetic waits for where the states are."""
    small = rp.Train(batch=1, seq=512)
    host = run("offload-optimizer", on="a100-sxm-80gb@storage=3G", task=small)
    nvme = run("offload-optimizer:tier=nvme", on="a100-sxm-80gb@storage=3G", task=small)
    assert nvme.time_s > host.time_s


def test_offloading_activations_is_free_where_layers_compute_longer_than_they_copy():
    """Bytes per layer grow with tokens as its products do: a wide model hides the copies, a narrow one does not."""

    def slower(model: str) -> float:
        task = rp.Train(batch=4, seq=2048)
        runs = [
            run(*apply, model=model, on="h100-sxm", task=task, recompute="none")
            for apply in ((), ("offload-activations",))
        ]
        return float(runs[1].time_s / runs[0].time_s)

    assert slower("llama-2-13b") < slower("llama-3.2-1b")


def test_the_next_stage_is_what_zero_means_by_itself():
    """Without a stage, `zero` takes a plan one stage further, so that advice has something to offer at every stage."""
    plan = rp.Plan(zero_stage=1)
    task = rp.Train(batch=64, seq=2048)
    two = rp.estimate("llama-2-7b", on="8xa100-sxm-80gb", task=task, plan=plan, apply=("zero",))
    assert two.scenario.plan.zero_stage == 2.0


def test_kept_activations_undo_recomputation():
    """All kept is the plan without recomputation, in time and in memory."""
    task = rp.Train(batch=16, seq=2048)

    def run(recompute: str, *apply: str) -> rp.Estimate:
        plan = rp.Plan(recompute=recompute, zero_stage=3)
        return rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=task, plan=plan, apply=apply)

    kept, plain = run("full", "keep-activations"), run("none")
    assert kept.time_s == pytest.approx(plain.time_s)
    assert kept.memory["activations"] == pytest.approx(plain.memory["activations"])
