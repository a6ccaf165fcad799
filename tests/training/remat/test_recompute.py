"""``plan_recompute``: within the budget, never slower than the usual rules that fit."""

import pytest

import ridgepoint as rp
from ridgepoint.models.networks.captured.file import VERSION, WorkFile, to_network
from ridgepoint.training.remat.recompute import plan_recompute
from tests.models.networks.captured.graphs import gemm, graph

BUDGETS = (72e9, 74e9, 76e9, 100e9, 150e9)


def test_a_transformer_fits_its_budget_and_beats_full_recomputation():
    times = []
    for budget in BUDGETS:
        found = plan_recompute(
            "llama-3.1-8b", on="8xb200-sxm", batch=64, seq=8192, memory=budget, micro_batch=4, zero_stage=3
        )
        assert found.best.fits
        assert found.best.memory_bytes <= budget
        assert found.best.time_s <= min(way.time_s for way in found.ways if way.fits)
        times.append(found.best.time_s)
        again = sum(time for _, _, time, _ in found.again)
        assert found.best.time_s - found.way("none").time_s == pytest.approx(again, rel=0.05)
    assert times == sorted(times, reverse=True)


def chain_work(n=5):
    """A captured step of ``n`` products in a row: each backward product reads its layer's input."""
    forward = [gemm(i, 2 * n + 1 + i, i + 1, "batch", 1024.0, 1024.0, label=f"layer{i}") for i in range(n)]
    back = [
        gemm(n + 1 + k if k else n, i, n + 2 + k - 1 if k else n + 1, "batch", 1024.0, 1024.0, label=f"back{i}")
        for k, i in enumerate(reversed(range(1, n)))
    ]
    activations = ["batch*1024"] * (2 * n + 1)
    roles = {0: "input"} | {2 * n + 1 + i: "parameter" for i in range(n)}
    return graph([*activations, *([1024.0 * 1024.0] * n)], [*forward, *back], backward=n, roles=roles)


def captured(n=5):
    work = WorkFile(VERSION, "chain", "", "", "fp16", {}, {"w": n * 1024.0 * 1024.0}, {"train": chain_work(n)})
    return to_network(work)


def test_a_captured_step_is_planned_kernel_by_kernel():
    whole = plan_recompute(captured(8), on="t4", batch=65536)
    assert whole.method == "everything fits"
    assert whole.again == ()
    less = whole.way("none").memory_bytes - 3 * 65536 * 1024 * 2
    found = plan_recompute(captured(8), on="t4", batch=65536, memory=less, exact=False)
    assert found.best.fits
    assert found.best.memory_bytes <= less
    assert 1.0 < found.best.time_s / whole.best.time_s < 1.5
    assert found.again


def test_a_captured_step_refuses_what_its_capture_says():
    with pytest.raises(rp.RidgepointError, match="captured training step"):
        _ = rp.estimate(captured(), on="t4", task=rp.Train(batch=8), plan=rp.Plan(recompute="full")).time_s


def test_too_little_memory_says_what_is_needed():
    with pytest.raises(rp.RidgepointError, match="GB with everything recomputed"):
        plan_recompute("llama-3.1-8b", on="8xh100-sxm", batch=64, seq=8192, micro_batch=8)
    with pytest.raises(rp.RidgepointError, match="gradients"):
        plan_recompute(captured(), on="t4", batch=65536, memory=1e9)
    with pytest.raises(rp.RidgepointError, match="not possible"):
        plan_recompute("gpt2", on="t4", memory=100e9)
