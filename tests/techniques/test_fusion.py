"""Fewer passes over memory (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp

EAGER = rp.Plan(compiled=False)


def run(model, task, *apply, plan=None, machine="h100-sxm"):
    return rp.estimate(model, on=machine, task=task, plan=plan, apply=apply)


def moved(est):
    return sum(c.bytes for c in est.cost.components)


def test_fused_training_moves_fewer_bytes_and_computes_as_much():
    """data-movement-transformers: traffic falls by up to a quarter, BERT trains 1.19 times in the same operations."""
    task = rp.Train(batch=8, seq=512)
    eager, fused = (
        run("bert-large", task, *a, plan=EAGER, machine="v100-sxm-32gb") for a in ((), ("operator-fusion",))
    )
    assert 0.7 < moved(fused) / moved(eager) < 1.0
    assert 1.0 < eager.time_s / fused.time_s < 1.4
    assert [sum(c.flop for c in e.cost.components if c.kind == "gemm") for e in (eager, fused)] == pytest.approx(
        [sum(c.flop for c in eager.cost.components if c.kind == "gemm")] * 2
    )


def test_fused_plans_have_nothing_left_to_fuse():
    with pytest.raises(rp.RidgepointError, match="already"):
        run("bert-large", rp.Forward(), "operator-fusion")


def test_epilogues_leave_the_other_input_of_additions():
    """A residual addition cannot be free: its second operand is in memory."""
    task = rp.Forward(batch=64)
    plain, fused = run("resnet50", task), run("resnet50", task, "epilogue-fusion")
    assert fused.time_s < plain.time_s
    left = {c.label: c.bytes for c in fused.cost.components}
    assert all(size == 0.0 for label, size in left.items() if label.endswith("conv2_norm"))
    assert all(size > 0.0 for label, size in left.items() if label.endswith("norm3"))


def test_token_models_fuse_their_nonlinearity_only():
    task = rp.Prefill(batch=8, prompt=2048)
    plain, fused = (run("llama-3.1-8b", task, *a) for a in ((), ("epilogue-fusion",)))
    saved = [c.label for c in plain.cost.components if c.bytes and not _bytes(fused, c.label)]
    assert saved == ["layers.feed.activation"]


def _bytes(est, label):
    return sum(c.bytes for c in est.cost.components if c.label == label)


def test_layouts_only_help_where_something_is_copied():
    with pytest.raises(rp.RidgepointError, match="copies nothing"):
        run("llama-3.1-8b", rp.Prefill(), "layout-selection")
    task = rp.Forward(batch=64)
    gains = [
        run(m, task).time_s / run(m, task, "layout-selection").time_s
        for m in ("swin_base_patch4_window7_224", "dit-xl-2")[:1]
    ]
    assert 1.0 < gains[0] < 2.0
