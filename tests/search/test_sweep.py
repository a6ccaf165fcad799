"""Sweeps: every point is the estimate of its scenario; what has no answer says why (design §10)."""

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.request import Request, to_scenario
from ridgepoint.search.axes import parse_axis
from ridgepoint.search.pareto import front
from ridgepoint.search.sweep import sweep_request
from ridgepoint.search.table import csv_text, document, indices

VARY = {"batch": [1, 16, 64], "weights": ["bf16", "int4"], "context": [1024, 32768], "tp": [1, 2, 4]}


@pytest.fixture(scope="module")
def decode() -> rp.Sweep:
    return rp.sweep("llama-3.1-8b", on="4xh100-sxm", task="decode", vary=VARY)


# design §2: scalar ≡ array
def test_every_point_is_the_estimate_of_its_scenario(decode: rp.Sweep) -> None:
    for at in indices(decode):
        point: dict[str, Any] = {**decode.at(at)}
        task = rp.Decode(batch=point["batch"], context=point["context"])
        plan = rp.Plan(weights=point["weights"], tp=point["tp"])
        est = rp.estimate("llama-3.1-8b", on="4xh100-sxm", task=task, plan=plan)
        assert decode["time_s"][at] == pytest.approx(est.time_s, rel=1e-9)
        assert decode["bound_s"][at] == pytest.approx(est.bound_s, rel=1e-9)
        assert decode["tokens_per_s"][at] == pytest.approx(est.tokens_per_s, rel=1e-9)
        assert decode["memory_gb"][at] == pytest.approx(est.memory.total_bytes / 1e9, rel=1e-9)
        assert decode["energy_j"][at] == pytest.approx(est.energy_j, rel=1e-9)
        assert decode["cost_usd"][at] == pytest.approx(est.cost_usd, rel=1e-9)
        assert decode["fits"][at] == est.memory.fits
        assert decode["bottleneck"][at] == est.bottleneck
        for resource, share in est.shares.items():
            assert decode[f"share.{resource}"][at] == pytest.approx(share, abs=1e-9)


def test_the_order_of_axes_is_the_users(decode: rp.Sweep) -> None:
    other = rp.sweep("llama-3.1-8b", on="4xh100-sxm", task="decode", vary=dict(reversed(VARY.items())))
    assert other.shape == decode.shape[::-1]
    assert np.array_equal(other["time_s"].T, decode["time_s"])


def test_shares_sum_to_one_at_every_point(decode: rp.Sweep) -> None:
    shares = [column for name, column in decode.columns.items() if name.startswith("share.")]
    assert np.allclose(sum(shares), 1.0)


def test_models_machines_tasks_and_figures_vary() -> None:
    machines = ["h100-sxm", "8xh200-sxm", "epyc-9654"]
    found = rp.sweep("gpt2", on="t4", vary={"model": ["gpt2", "llama-3.1-8b"], "machine": machines, "batch": [1, 8]})
    one = rp.estimate("llama-3.1-8b", on="epyc-9654", task=rp.Generate(batch=8))
    assert found["time_s"][1, 2, 1] == pytest.approx(one.time_s)
    assert np.isnan(found["cost_usd"][0, 2, 0]), "no price is known, which is not a price of zero"
    figures = rp.sweep("gpt2", on="h100-sxm", task="decode", vary={"machine.hbm": ["1T", "2T", "4T"], "batch": [1, 2]})
    assert np.all(np.diff(figures["time_s"], axis=0) < 0.0), "more bandwidth, less time"
    tasks = rp.sweep("gpt2", on="h100-sxm", vary={"task": ["prefill", "decode"], "batch": [1]})
    assert np.isfinite(tasks["time_s"]).all()
    assert np.isnan(tasks["ttft_s"][1, 0])


def test_a_technique_is_applied_to_what_varies() -> None:
    """Applied before the axis is set, a technique that changes what varies would be lost in silence."""
    found = rp.sweep(
        "llama-3.1-8b", on="h100-sxm", task="decode", vary={"apply": "none;kv-quantization", "context": "1k,64k"}
    )
    task = rp.Decode(context=65536)
    alone = rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=["kv-quantization"])
    assert found["time_s"][1, 1] == pytest.approx(alone.time_s)
    assert found["time_s"][1, 1] < found["time_s"][0, 1]


def test_points_without_an_answer_say_why_and_keep_the_others() -> None:
    found = rp.sweep("llama-3.1-8b", on="8xh100-sxm", task="decode", vary={"tp": [1, 3, 8, 16], "batch": [1, 4]})
    assert found.failed == 4
    assert np.isnan(found["time_s"][1]).all()
    assert np.isfinite(found["time_s"][[0, 2]]).all()
    assert "tp = 3 does not divide" in found["error"][1, 0]
    assert sum(found.reasons.values()) == 4
    rows = document(found)["rows"]
    assert rows[2]["error"]
    assert rows[2]["time_s"] is None
    assert rows[2]["fits"] is None, "neither fits nor does not"


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ({"btch": [1]}, "did you mean batch"),
        ({"image_px": [224]}, "nothing called"),
        ({"tp": [3]}, "3 devices, but h100-sxm has 1"),
        ({"batch": [0]}, "whole number"),
        ({"weights": ["bf61"]}, "unknown format"),
        ({"machine": ["h100-smx"]}, "unknown machine"),
        ({}, "nothing varies"),
        ({"batch": "1:1000000", "context": "1:1000000"}, "1,000,000,000,000 points"),
        ({"batch": [1], "--batch": [2]}, "varies twice"),
    ],
)
def test_a_sweep_without_any_answer_is_an_error(vary: dict[str, object], said: str) -> None:
    with pytest.raises(rp.RidgepointError) as caught:
        rp.sweep("llama-3.1-8b", on="h100-sxm", task="decode", vary=vary)
    assert said in str(caught.value)


def test_arrays_in_a_task_are_refused() -> None:
    with pytest.raises(rp.RidgepointError, match="holds arrays"):
        rp.sweep("gpt2", on="t4", task=rp.Decode(batch=np.array([1.0, 2.0])), vary={"context": [1024]})


def test_warnings_hold_for_every_end_of_an_axis() -> None:
    found = rp.sweep("gpt2", on="t4", task="decode", vary={"context": [512, 65536]})
    assert any("exceed the 1,024" in text for text in found.warnings)


def test_a_request_varies_as_values_do() -> None:
    request = Request("resnet50", "h100-sxm", sizes={"batch": "4"})
    found = sweep_request(request, [parse_axis("image-px=224,512"), parse_axis("weights=fp16,fp8")])
    alone = rp.Estimate(
        to_scenario(Request("resnet50", "h100-sxm", sizes={"batch": 4.0, "image_px": 512.0}, plan={"weights": "fp8"}))
    )
    assert found["time_s"][1, 1] == pytest.approx(alone.time_s)


def test_a_large_sweep_is_one_estimate() -> None:
    vary = {"batch": np.arange(1, 401), "context": np.arange(1024, 1024 + 500)}
    found = rp.sweep("llama-3.1-8b", on="h100-sxm", task="decode", vary=vary)
    assert found.size == 200_000
    assert np.all(np.diff(found["memory_gb"], axis=0) > 0.0)


# design §10
def test_csv_and_json_hold_every_point(decode: rp.Sweep) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(decode))))
    told = json.loads(json.dumps(document(decode), allow_nan=False))
    assert len(rows) == len(told["rows"]) == decode.size == 36
    for line, point in zip(rows, told["rows"], strict=True):
        assert float(line["time_s"]) == point["time_s"]
        assert (line["weights"], float(line["context"])) == (point["weights"], point["context"])
        assert sum(point["shares"].values()) == pytest.approx(1.0)
    assert told["vary"]["tp"] == [1, 2, 4]
    assert told["task"] == "decode"


def test_the_best_fits() -> None:
    found = rp.sweep("llama-3.1-8b", on="h100-sxm", task="decode", vary={"batch": "1:1024:log2", "context": "8k,128k"})
    at = found.best("throughput")
    assert at is not None
    assert found["fits"][at]
    assert found["tokens_per_s"][at] == found["tokens_per_s"][found["fits"]].max() < found["tokens_per_s"].max()
    with pytest.raises(rp.RidgepointError, match="did you mean throughput"):
        found.best("througput")


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60))
@settings(max_examples=200)
def test_a_front_is_what_nothing_dominates(rows: list[tuple[int, int, int]]) -> None:
    goals = np.array(rows, dtype=float)
    beaten = [any(np.all(other >= row) and np.any(other > row) for other in goals) for row in goals]
    assert front(goals).tolist() == [i for i, b in enumerate(beaten) if not b]


def test_a_remark_says_where_it_holds() -> None:
    """A union of what all points rest on contradicts itself: weights are not both bf16 and int4."""
    found = rp.sweep(
        "llama-3.1-8b",
        on="8xh100-sxm",
        task="decode",
        vary={"weights": "bf16,int4", "tp": [1, 2, 8], "context": ["1k", "1M"]},
    )
    formats = [text for text in found.assumptions if "formats: " in text]
    assert [text.partition(":")[0] for text in formats] == ["weights bf16", "weights int4"]
    assert any(text.startswith("decode kernels") for text in found.assumptions), "what holds everywhere stands alone"
    assert [text for text in found.warnings if "idle" in text] == [
        f"tp {tp}: the batch is smaller than the {8 // tp} data-parallel replicas: {8 // tp - 1} of them stay idle"
        for tp in (1, 2)
    ]
    assert any(text.startswith("context 1,048,576: 1,048,576 tokens of context exceed") for text in found.warnings)
