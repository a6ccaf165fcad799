"""Eager library code waits for the host where kernels are short (design §4)."""

from typing import Any

import pytest

import ridgepoint as rp
from ridgepoint.plan import Plan

EAGER = Plan(compiled=False, graph_capture=False, fused_attention=False)


def test_one_short_sequence_through_eager_bert_takes_the_hosts_time() -> None:
    """FasterTransformer's published tables: TorchScript's BERT-base takes about 11 ms on a T4 and 6.8 ms on a V100 for one
    sequence of 32 tokens and as long for one of 128, most of which a device's own kernels do not explain.
    """
    for machine, measured in (("t4", 11.065e-3), ("v100-sxm-16gb", 6.785e-3)):
        short, longer = (
            float(rp.estimate("bert-base", on=machine, task=rp.Forward(batch=1, seq=seq), plan=EAGER).time_s)
            for seq in (32, 64)
        )
        assert short == pytest.approx(measured, rel=0.5)
        assert longer == pytest.approx(short, rel=0.05)


def test_captured_graphs_take_the_host_away() -> None:
    """The same kernels in one graph take a fraction of the eager time, compiled ones in between."""
    times = [
        float(rp.estimate("bert-base", on="a100-sxm-80gb", task=rp.Forward(batch=1, seq=32), plan=plan).time_s)
        for plan in (Plan(graph_capture=True), Plan(graph_capture=False), EAGER)
    ]
    assert times == sorted(times)
    assert times[2] > 3.0 * times[0]


def test_long_kernels_hide_the_host() -> None:
    eager, captured = (
        float(rp.estimate("bert-base", on="t4", task=rp.Forward(batch=64, seq=384), plan=plan).time_s)
        for plan in (EAGER, Plan(compiled=False, graph_capture=True, fused_attention=False))
    )
    assert eager == pytest.approx(captured, rel=0.02)


def test_a_processor_interprets_and_computes_one_after_the_other() -> None:
    """The cores that compute wait while the interpreter runs, so that small networks gain little from fewer operations."""
    times = [
        float(rp.estimate("distilbert-base", on="xeon-8280", task=rp.Forward(batch=1, seq=64), plan=plan).time_s)
        for plan in (Plan(compiled=False, graph_capture=True), Plan(compiled=False))
    ]
    table = rp.find_machine("xeon-8280").coefficients.host
    assert times[1] - times[0] > 40 * table.eager_s
    est = rp.estimate("distilbert-base", on="xeon-8280", task=rp.Forward(batch=1, seq=64), plan=Plan(compiled=False))
    assert est.bound_s < times[0], "the physical limit knows no interpreter"


def sums_s(**plan: Any) -> float:
    est = rp.estimate(
        "llama-3.1-70b", on="8xh100-sxm", task=rp.Decode(batch=16, context=1024), plan=rp.Plan(tp=8, **plan)
    )
    return float(sum(c.time_s for c in est.cost.components if c.label.endswith("all_reduce")))


def test_library_code_sums_over_ranks_by_nccl():
    """The one-kernel sums of serving engines need buffers that they registered; code without an engine has NCCL's, whose
    short messages take two to five times as long (measured: 256 kB on eight H100)."""
    engine, eager, told = sums_s(), sums_s(compiled=False), sums_s(custom_all_reduce=False)
    assert eager == told
    assert 2.0 < eager / engine < 5.0
    assert sums_s(compiled=False, custom_all_reduce=True) == engine


def test_training_sums_over_ranks_by_nccl():
    def step_s(**plan: Any) -> float:
        task = rp.Train(batch=8, seq=64)
        return float(rp.estimate("llama-3.2-1b", on="8xh100-sxm", task=task, plan=rp.Plan(tp=8, **plan)).time_s)

    assert step_s() == step_s(custom_all_reduce=False)
