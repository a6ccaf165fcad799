"""Layers that learn from losses of their own (design §6): what the backward pass no longer does, and what the heads cost."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.ops import Conv, Gemm
from ridgepoint.techniques.local_learning import outputs


def run(*apply: str, batch: float = 128.0, micro: float | None = None) -> rp.Estimate:
    plan = rp.Plan(weights="fp32", micro_batch=micro)
    return rp.estimate("vgg11", on="rtx-3090", task=rp.Train(batch=batch, image_px=64), plan=plan, apply=apply)


def flop(est: rp.Estimate, ending: str) -> float:
    return sum(float(c.flop) for c in est.cost.components if c.label.endswith(ending) and c.kind in ("gemm", "conv"))


def test_no_gradient_is_handed_to_the_layer_before():
    """What is left of a layer's three products is its own and the gradient of its weights."""
    whole, local = run(), run("local-losses")
    assert flop(whole, ".grad_input") > 0.0
    assert flop(local, ".grad_input") == 0.0
    assert flop(local, ".grad_weight") == pytest.approx(flop(whole, ".grad_weight"))


def test_the_heads_cost_six_operations_per_sample_value_and_class():
    local = run("local-losses:classes=100")
    conv = next(op for op, _ in local.cost.occurrences if isinstance(op, Conv) and op.label.endswith("stage1.conv1"))
    samples, width = outputs(conv)
    found = sum(float(c.flop) for c in local.cost.components if "stage1.conv1.local_" in c.label and c.kind == "gemm")
    assert found == pytest.approx(6.0 * float(samples * width) * 100.0)


def test_many_classes_cost_more_than_the_backward_pass_saved():
    assert float(run("local-losses:classes=10").time_s) < float(run().time_s)
    assert float(run("local-losses:classes=5000").time_s) > float(run().time_s)


def test_one_layers_activations_are_kept_however_small_the_micro_batches():
    kept = [
        float(run("local-losses", micro=m).memory["activations"] / run(micro=m).memory["activations"])
        for m in (128, 32)
    ]
    assert kept[0] == pytest.approx(kept[1], rel=1e-6)
    assert 0.1 < kept[0] < 0.6


def test_sweeps_agree_with_single_points():
    batches = np.array([32.0, 128.0])
    swept = np.asarray(run("local-losses", batch=batches).time_s)  # type: ignore[arg-type]
    assert swept == pytest.approx([float(run("local-losses", batch=b).time_s) for b in batches], rel=1e-9)
    assert isinstance(outputs(Gemm(m=2.0, n=3.0, k=4.0)), tuple)
