"""Captured steps as flows: a shortened stack, written out, is the whole stack; its orders keep what liveness says."""

import pytest

pytest.importorskip("torch")

from ridgepoint.capture.pytorch import capture_pass
from ridgepoint.models.networks.captured.memory import memory
from ridgepoint.training.remat.captured import captured_flow
from ridgepoint.training.remat.flow import order_without, run
from ridgepoint.training.remat.planner import plan_flow
from tests.capture import models
from tests.capture.test_modules import played, subject

SIZES = {"batch": 2, "seq": 64}


def flow_of(make, spec, sizes, shorten=True, fused=False):
    graph = capture_pass(subject(make, spec, task="train", shorten=shorten)).graph
    at, _, _ = played(graph, fused=fused, **sizes)
    return captured_flow(at, lambda op: 1.0), at


@pytest.mark.parametrize("fused", [False, True])
def test_a_shortened_stack_written_out_is_the_whole_stack(fused):
    short, _ = flow_of(models.Language, "ids: int64[batch,seq]", SIZES, fused=fused)
    whole, _ = flow_of(models.Language, "ids: int64[batch,seq]", SIZES, shorten=False, fused=fused)
    assert len(short.steps) == len(whole.steps)
    assert short.turn == whole.turn
    for drop in (frozenset(), frozenset(short.kept), frozenset(short.kept[::2])):
        one, other = (run(flow, order_without(flow, drop)) for flow in (short, whole))
        assert one.time_s == other.time_s
        assert one.peak_bytes == pytest.approx(other.peak_bytes)


def test_without_recomputation_memory_is_that_of_the_capture():
    """Liveness of the graph itself, which knows nothing of orders."""
    flow, at = flow_of(models.Language, "ids: int64[batch,seq]", SIZES)
    kept = run(flow, order_without(flow, frozenset())).peak_bytes
    assert kept == pytest.approx(float(memory(at).peak))


def test_half_of_the_memory_costs_less_than_a_forward_pass():
    flow, _ = flow_of(models.Language, "ids: int64[batch,seq]", SIZES, fused=True)
    whole = run(flow, order_without(flow, frozenset())).peak_bytes
    plan = plan_flow(flow, 0.5 * whole, exact=False)
    assert plan.best.peak_bytes <= 0.5 * whole
    assert plan.best.time_s <= flow.time_s + flow.turn
