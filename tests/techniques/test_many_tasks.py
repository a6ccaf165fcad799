"""Several tasks served by one merged model (design §6): what masks store, and what changing the task costs."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.techniques.many_tasks import masked_ratio

MODEL = "vit_large_patch14_clip_224"


def run(*apply: str) -> rp.Estimate:
    return rp.estimate(MODEL, on="a100-sxm-80gb", task=rp.Forward(batch=8), plan=rp.Plan(weights="fp32"), apply=apply)


def weights(*apply: str) -> float:
    return float(run(*apply).memory["weights"])


def test_twenty_tasks_fit_into_less_than_three_checkpoints():
    """Wang et al. 2024: base, merged difference and a bit per weight and task."""
    assert weights("task-masks:tasks=20") / weights() == pytest.approx(2.0 + 20.0 / 32.0)
    assert masked_ratio(20.0, 32.0) == pytest.approx(2.625)


def test_few_tasks_are_smaller_as_checkpoints():
    assert weights("task-checkpoints:tasks=2") < weights("task-masks:tasks=2")
    assert weights("task-checkpoints:tasks=4") > weights("task-masks:tasks=4")


def test_changing_the_task_reads_base_difference_and_mask():
    stays, changes = run("task-masks:tasks=20,switched=0"), run("task-masks:tasks=20")
    assert float(stays.time_s) == pytest.approx(float(run().time_s), rel=1e-9)
    moved = next(c for c in changes.cost.components if c.label == "switch_task")
    assert float(moved.bytes) == pytest.approx(weights() * (3.0 + 1.0 / 32.0))
    assert float(changes.time_s) > float(stays.time_s)
