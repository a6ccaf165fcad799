"""The JSON document of an estimate, from Python (design §3, §10)."""

import json
import math

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.document import document, plain


# design §10
def test_to_dict_is_the_document() -> None:
    est = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=32, context=8192))
    assert est.to_dict() == document(est)
    assert json.loads(json.dumps(est.to_dict(), allow_nan=False)) == est.to_dict()


# design §10
def test_a_sweep_gives_lists_of_its_shape() -> None:
    doc = rp.estimate(
        "llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=np.array([1.0, 64.0, 4096.0]), context=8192)
    ).to_dict()
    assert doc["task"] == {"name": "decode", "batch": [1, 64, 4096], "context": 8192}
    assert len(doc["time_s"]) == len(doc["bottleneck"]) == len(doc["memory"]["max_context"]) == 3
    assert doc["memory"]["fits"] == [True, False, False]
    assert [len(op["time_s"]) for op in doc["ops"]] == [3] * len(doc["ops"])
    json.dumps(doc, allow_nan=False)


# design §10
def test_a_sweep_says_at_each_point_what_the_point_says_alone() -> None:
    sweep = rp.estimate(
        "llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=np.array([1.0, 64.0]), context=8192)
    ).to_dict()
    alone = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=64, context=8192)).to_dict()
    assert sweep["time_s"][1] == pytest.approx(alone["time_s"])
    assert sweep["bottleneck"][1] == alone["bottleneck"]
    ops = {op["name"]: op for op in sweep["ops"]}
    assert {name: ops[name]["bound_by"][1] for name in ops} == {op["name"]: op["bound_by"] for op in alone["ops"]}


# design §10
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 1), (0.1, 0.1), (1e300, 1e300), (math.inf, None), (math.nan, None), (True, True), (None, None), ("x", "x"),
        (np.float64(2.0), 2), (np.bool_(False), False), (np.array(3.0), 3), (np.array([[1.5, math.inf]]), [[1.5, None]]),
        ((1.0, 2.5), [1, 2.5]), (np.array(["a"]), ["a"]),
    ],
)  # fmt: skip
def test_plain_values(value: object, expected: object) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


# design §3
def test_utilization_never_exceeds_the_peaks() -> None:
    for task in (rp.Prefill(prompt=8192), rp.Decode(batch=64, context=8192), rp.Train(batch=4)):
        used = rp.estimate("llama-3.1-8b", on="h100-sxm", task=task).to_dict()["utilization"]
        assert 0.0 < used["arithmetic"] < 1.0
        assert 0.0 < used["memory"] < 1.0
    bound = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(), mode="bound").to_dict()["utilization"]
    assert bound["memory"] == pytest.approx(1.0, rel=0.01)
