"""Measured beside predicted (issue 7): both sides tell every second once, and what is not known is said."""

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
    assert sum(row.predicted_s or 0.0 for row in beside.kinds) == pytest.approx(beside.whole.predicted_s)
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


def test_components_stand_beside_each_other_where_both_name_them():
    """Operators of a module that the model tells apart (``add`` in ``blocks.*``) are found by the operators around them."""
    made = Recording()
    made.add("user_annotation", "module:layers.3", 0.0, 100.0)
    made.add("user_annotation", "module:layers.3.feed", 5.0, 40.0)
    made.op("aten::linear", 10.0, 30.0)
    made.op("aten::norm", 50.0, 20.0)
    made.op("aten::empty", 52.0, 4.0)
    found = compare(read(made), Named(estimate()), runs=1)  # type: ignore[arg-type]
    rows = {row.name: row.measured_s and row.measured_s * 1e6 for row in found.components}
    assert rows["layers.*.feed"] == pytest.approx(30.0)
    assert rows["layers.*.norm"] == pytest.approx(20.0)


class Named:
    """An estimate whose components carry the names of a captured model."""

    def __init__(self, est: rp.Estimate) -> None:
        self.est = est

    def __getattr__(self, name: str) -> Any:
        return getattr(self.est, name)

    @property
    def cost(self) -> Any:
        from dataclasses import replace
        from types import SimpleNamespace

        first, second = self.est.cost.components[:2]
        return SimpleNamespace(
            components=[replace(first, label="layers.*.feed"), replace(second, label="layers.*.norm")]
        )


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
    import json

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
