"""Simulations over HTTP: the same figures as in Python, bounded, refused in the envelope (design §10)."""

from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.serving.outcome import Slo
from ridgepoint.web import serving

LOAD = {"rate": 8, "prompt": "lognormal:512", "output": "64", "requests": 200, "seed": 3}
BODY: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "machine": "2xh100-sxm",
    "load": LOAD,
    "goals": {"ttft": "500ms", "tpot": "50ms"},
}


def test_it_is_the_simulation_of_python(page: Any) -> None:
    found = page.post("/api/simulate", json={**BODY, "view": True})
    assert found.status_code == 200
    told = found.json()
    drawn = rp.poisson_requests(8.0, 200, "lognormal:512", "64", seed=3)
    own = rp.simulate("llama-3.1-8b", on="2xh100-sxm", requests=drawn, slo=Slo(0.5, 0.05), seed=3)
    first = own.summary("ttft_s")
    assert first is not None
    assert told["ttft_s"]["p99"] == pytest.approx(first.p99)
    assert told["goodput"]["requests_per_s"] == pytest.approx(own.goodput_per_s)
    assert told["plan"]["replicas"] == 2
    assert sum(told["shares"].values()) == pytest.approx(1.0)
    assert "keep the goals" in told["view"]["verdict"]
    assert told["view"]["charts"].count("<svg") >= 6


def test_the_command_asks_the_same(page: Any) -> None:
    """What it says can be typed: the command line gives the same percentiles."""
    from tests.cli.conftest import answer

    told = page.post("/api/simulate", json={**BODY, "plan": {"tp": 2}, "engine": "sglang"}).json()
    words = told["command"].split()
    assert words[:5] == ["ridgepoint", "simulate", "llama-3.1-8b", "--on", "2xh100-sxm"]
    typed = answer(*words[1:], "--json").document
    assert typed["ttft_s"] == told["ttft_s"]
    assert typed["plan"] == told["plan"]


def test_overload_is_the_verdict(page: Any) -> None:
    load = {**LOAD, "rate": 500, "requests": 1000, "output": "512"}
    told = page.post(
        "/api/simulate", json={**BODY, "machine": "t4", "model": "gpt2", "load": load, "view": True}
    ).json()
    assert "does not keep up" in told["view"]["verdict"]
    assert any("overloaded" in warning for warning in told["warnings"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"load": {**LOAD, "requests": 5001}}, "load.requests"),
        ({"load": {**LOAD, "requests": 0}}, "load.requests"),
        ({"load": {**LOAD, "rate": "many"}}, "load.rate"),
        ({"load": {**LOAD, "rate": -1}}, "load.rate"),
        ({"load": {**LOAD, "rate": True}}, "load.rate"),
        ({"load": {**LOAD, "prompt": "gauss:3"}}, "gauss"),
        ({"load": {**LOAD, "output": "900k", "requests": 5000}}, "tokens in all"),
        ({"load": {**LOAD, "prompt": "2M", "requests": 1}}, "in a request"),
        ({"load": {**LOAD, "trace": "/etc/passwd"}}, "has no 'trace'"),
        ({"load": {**LOAD, "concurrency": 100000}}, "load.concurrency"),
        ({"goals": {"ttft": "soon"}}, "soon"),
        ({"goals": {"ttft": "0s"}}, "goals.ttft"),
        ({"engine": "mine"}, "engine"),
        ({"engine": {"a": 1}}, "engine"),
        ({"machine": "16x8xh100-sxm"}, "128 replicas"),
        ({"apply": ["kv-quantization"]}, "kv-quantization is on"),
        ({"plan": {"compiled": False}}, "plan.compiled"),
        ({"model": "resnet50"}, "generates no tokens"),
        ({"model": "llama-3.1-405b", "machine": "t4"}, ""),
        ({"load": []}, "load is not a JSON object"),
    ],
)
def test_what_is_wrong_or_too_much_is_said(page: Any, change: dict[str, Any], says: str) -> None:
    found = page.post("/api/simulate", json={**BODY, **change})
    assert found.status_code == 400
    error = found.json()["error"]
    assert says in error["message"]
    assert error["hint"]


def test_too_many_at_once_are_refused(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PATIENCE_S", 0.01)
    taken = [serving._SLOTS.acquire(blocking=False) for _ in range(serving.AT_ONCE)]
    try:
        assert all(taken)
        assert page.post("/api/simulate", json=BODY).json()["error"]["kind"] == "busy"
    finally:
        for _ in taken:
            serving._SLOTS.release()
    assert page.post("/api/simulate", json=BODY).status_code == 200


@pytest.mark.parametrize("path", ["/api/simulate.html", "/api/advise.html", "/api/sweep.html", "/api/report"])
def test_every_view_has_its_report(page: Any, path: str) -> None:
    body = {"model": "gpt2", "machine": "t4", "task": {"name": "decode", "batch": 4, "context": 512}}
    if path.startswith("/api/sweep"):
        body["vary"] = {"batch": "1:8:log2"}
    found = page.post(path, json=body)
    assert found.status_code == 200
    assert found.text.startswith("<!doctype html>")
    assert len(found.content) < 500_000
    assert "attachment" in found.headers["content-disposition"]


def test_charts_over_time_have_the_size_of_what_happened() -> None:
    """The area of the columns is what arrived, and every share is one."""
    from ridgepoint.report.html_simulation import pictures
    from ridgepoint.serving.series import series

    drawn = rp.poisson_requests(8.0, 300, "256", "64", seed=1)
    found = rp.simulate("gpt2", on="t4", requests=drawn)
    told = series(found)
    width = np.diff(told["end_s"])[0]
    assert np.sum(told["arrivals_per_s"]) * width == pytest.approx(300, rel=0.01)
    named = {picture.name: picture for picture in pictures(found)}
    assert set(named) == {"latencies", "shares", "requests", "tokens", "cache", "work", "arrivals", "power", "limits"}
    assert all("nan" not in picture.svg for picture in named.values())
