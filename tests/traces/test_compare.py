"""Measured beside predicted (issue 7): both sides tell every second once, and what is not known is said."""

import json
from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.traces.compare import compare
from ridgepoint.traces.events import columns
from ridgepoint.traces.file import parsed
from ridgepoint.traces.profile import Profile, profile
from tests.traces.kineto import Recording
from tests.traces.test_profile import gpu, read


def estimate(machine: str = "h100-sxm") -> rp.Estimate:
    return rp.estimate("llama-3.1-8b", on=machine, task=rp.Decode(batch=1, context=2048))


def test_both_sides_sum_to_their_wholes():
    beside = compare(read(gpu()), estimate(), runs=2)
    assert beside.whole.measured_s == pytest.approx(150e-6)
    assert sum(row.measured_s or 0.0 for row in beside.kinds) == pytest.approx(beside.whole.measured_s)
    assert sum(row.predicted_s or 0.0 for row in beside.kinds) == pytest.approx(beside.whole.predicted_s, rel=1e-5)
    assert beside.components == ()  # modules of this trace are no components of the model
    assert not beside.within


def test_a_device_of_many_counts_for_one():
    """A trace of two equal devices says the same about one execution as a trace of one."""
    made, both = Recording(), Recording()
    for device in (0, 1):
        both.kernel("gemm", 10.0, 40.0, call=(1.0, 2.0), device=device)
    made.kernel("gemm", 10.0, 40.0, call=(1.0, 2.0))
    one, two = (compare(read(m), estimate(), runs=1) for m in (made, both))
    assert one.kinds == two.kinds


def test_steps_are_executions():
    made = gpu()
    for i in range(3):
        made.add("user_annotation", f"ProfilerStep#{i}", 100.0 * i, 100.0)
    beside = compare(read(made), estimate())
    assert beside.runs == 3.0
    assert beside.warnings == ()


def test_time_outside_the_steps_is_said():
    made = gpu()
    made.add("user_annotation", "ProfilerStep#1", 0.0, 200.0)
    (warning,) = compare(read(made), estimate()).warnings
    assert "100 µs of 300 µs lie outside" in warning


def test_components_stand_beside_each_other_where_both_name_them():
    """Operators of a module that the model tells apart (``norm`` in ``layers``) are found by the operators around them."""
    made = Recording()
    made.add("user_annotation", "module:layers.attention.qkv", 5.0, 40.0)
    made.op("aten::linear", 10.0, 30.0)
    made.add("user_annotation", "module:layers", 50.0, 40.0)
    made.op("aten::norm", 52.0, 20.0)
    made.op("aten::empty", 54.0, 4.0)
    made.op("aten::embedding", 95.0, 3.0)
    found = compare(read(made), estimate(), runs=1)
    rows = {row.name: row.measured_s and row.measured_s * 1e6 for row in found.components}
    assert rows["layers.attention.qkv"] == pytest.approx(30.0)
    assert rows["layers.norm"] == pytest.approx(20.0)
    assert rows["embedding"] == pytest.approx(3.0)
    assert rows["layers.attention.attention"] is None


def test_work_that_a_slow_host_hides_is_no_gain():
    """A host that sets the pace is responsible for the time; the kernels beside it still take theirs."""
    est = rp.estimate(
        "llama-3.1-8b",
        on="h100-sxm",
        task=rp.Decode(batch=1, context=2048),
        plan=rp.Plan(graph_capture=False, compiled=False),
    )
    rows = {row.name: row.predicted_s for row in compare(read(gpu()), est, runs=1).kinds}
    assert (rows["gemm"] or 0.0) > 3e-3
    assert sum(seconds or 0.0 for seconds in rows.values()) == pytest.approx(est.time_s, rel=1e-4)


@pytest.mark.parametrize(
    ("machine", "device", "said"),
    [
        ("h100-sxm", "NVIDIA H100 80GB HBM3", None),
        ("a100-sxm-80gb", "NVIDIA A100-SXM4-80GB", None),
        ("h100-sxm", "NVIDIA A100-SXM4-80GB", "was recorded on NVIDIA A100-SXM4-80GB"),
        ("8xh100-sxm", "NVIDIA H100 80GB HBM3", None),
    ],
)
def test_another_device_is_said(machine, device, said):
    document = gpu().document()
    document["deviceProperties"][0]["name"] = device
    beside = compare(_profile(document), estimate(machine), runs=1)
    assert (beside.warnings == ()) if said is None else (said in beside.warnings[0])


def _profile(document: dict[str, Any]) -> Profile:
    return profile(columns(parsed(json.dumps(document).encode()), "test"))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(RidgepointError, match="not with a sweep"):
        compare(
            read(gpu()),
            rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=np.array([1.0, 2.0]), context=10)),
        )
    with pytest.raises(RidgepointError, match="--runs is 0"):
        compare(read(gpu()), estimate(), runs=0.0)


def test_unknown_executions_are_said():
    assert "--runs" in compare(read(gpu()), estimate()).warnings[0]


def test_products_stand_beside_each_other_by_their_sizes():
    """Names of modules and kernels change with every library, sizes do not (``record_shapes=True``)."""
    made = Recording()
    for i, dims in enumerate(([[1, 14336], [14336, 4096]], [[1, 4096], [4096, 777]], [[8], [8]])):
        name = "aten::mm" if i < 2 else "aten::add"
        made.op(name, 100.0 * i, 20.0)["args"]["Input Dims"] = dims
        made.kernel("nvjet", 100.0 * i + 30, 40.0, call=(100.0 * i + 5, 3.0))
    rows = {row.name: row for row in compare(read(made), estimate(), runs=1).products}
    down = rows["1 × 14,336 × 4,096"]
    assert down.measured_s == pytest.approx(40e-6)
    component = next(c for c in estimate().cost.components if c.label == "layers.feed.down")
    launch = float(component.busy_s["launch"])
    assert down.predicted_s == pytest.approx(float(component.time_s) - launch, rel=1e-3)
    assert rows["1 × 4,096 × 777"].predicted_s is None
    assert compare(read(gpu()), estimate(), runs=1).products == ()
