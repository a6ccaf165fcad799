"""The JSON interface: the same answers as the Python one, errors in the envelope, nothing read from paths (design §10)."""

import csv
import io
import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.request import to_scenario
from ridgepoint.scenario_file import read_request
from ridgepoint.techniques.registry import techniques
from ridgepoint.web.routes import ROUTES
from ridgepoint.web.scenarios import LABELS, read_scenario
from tests.web.conftest import LLAMA

SMALL = {
    "model_type": "llama",
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 2048,
    "vocab_size": 32000,
    "torch_dtype": "bfloat16",
}


def refused(response: Any, status: int, kind: str) -> dict[str, str]:
    assert response.status_code == status, response.text
    error: dict[str, str] = response.json()["error"]
    assert error.keys() == {"kind", "message", "hint"}
    assert error["kind"] == kind, error
    return error


def test_an_estimate_is_that_of_python(page: Any) -> None:
    answer = page.post("/api/estimate", json={**LLAMA, "plan": {"weights": "fp8"}, "view": True}).json()
    est = rp.estimate(
        "llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=32, context=8192), plan=rp.Plan(weights="fp8")
    )
    assert answer["time_s"] == est.time_s
    assert answer["memory"]["max_batch"] == est.max_batch
    assert answer["command"] == (
        "ridgepoint analyze llama-3.1-8b --on h100-sxm --task decode --batch 32 --context 8k --weights fp8"
    )
    assert answer["view"]["roofline"].startswith("<figure")
    assert "style=" not in json.dumps(answer["view"]), "the policy would drop it"


def test_a_pasted_configuration_is_a_model(page: Any) -> None:
    model = {"config": SMALL, "name": "mine"}
    known = page.post("/api/model", json={"model": model}).json()
    assert known["layers"] == 4
    assert known["usual_task"] == "generate"
    answer = page.post("/api/estimate", json={**LLAMA, "model": model}).json()
    assert answer["model"] == "mine"
    assert "config.json" in answer["command"]
    found = page.post("/api/sweep", json={**LLAMA, "model": model, "vary": {"batch": "1:8:log2"}}).json()
    assert len(found["rows"]) == 4
    both = page.post("/api/sweep", json={**LLAMA, "model": model, "vary": {"model": ["gpt2", "bert-large"]}})
    assert both.status_code == 200
    wrong = refused(
        page.post("/api/model", json={"model": {"config": {**SMALL, "hidden_size": -1}}}), 400, "bad_config"
    )
    assert "hidden_size" in wrong["message"]


@pytest.mark.parametrize("name", ["llama-3.1-8b", "resnet50", "bert-large", "flux.1-dev", "t5-base"])
def test_every_task_that_a_model_is_said_to_have_has_an_answer(page: Any, name: str) -> None:
    known = page.post("/api/model", json={"model": name}).json()
    for task, sizes in known["tasks"].items():
        own = {k: v for k, v in sizes.items() if k in page.get("/api/choices").json()["tasks"][task]}
        inputs = {k: v for k, v in sizes.items() if k not in own}
        body = {"model": name, "machine": "h100-sxm", "task": {"name": task, **own, "inputs": inputs}}
        answer = page.post("/api/estimate", json=body)
        assert answer.status_code == 200, answer.text


def test_lists_hold_everything(page: Any) -> None:
    models = {m["name"] for m in page.get("/api/models").json()}
    assert {"llama-3.1-8b", "resnet50"} <= models
    machines = {m["name"] for m in page.get("/api/machines").json()}
    assert {"h100-sxm", "dgx-h100"} <= machines
    assert {t["name"] for t in page.get("/api/techniques").json()} == {*techniques()}


@pytest.mark.parametrize(
    "name", ["h100-sxm", "16x8xh100-sxm@bandwidth=4.8T", "epyc-9654", "custom:bf16=4T,memory=8G,bandwidth=50G"]
)
def test_every_figure_of_a_machine_can_be_changed(page: Any, name: str) -> None:
    known = page.post("/api/machine", json={"machine": name}).json()
    base, _, _ = name.partition("@")
    for figure, value in known["figures"].items():
        joint = "," if ":" in base else "@"
        changed = page.post("/api/machine", json={"machine": f"{base}{joint}{figure}={value}"})
        if "custom" in base and figure in base:
            continue  # said twice
        assert changed.status_code == 200, changed.text
        assert changed.json()["figures"][figure] == pytest.approx(value)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ({}, "bad_request", "no model"),
        ({"model": "llama-3.1-8b"}, "bad_request", "no machine"),
        ({**LLAMA, "model": "llama-3.1-8x"}, "unknown_model", "llama-3.1-8"),
        ({**LLAMA, "machine": "h100-smx"}, "unknown_machine", "h100-smx"),
        ({**LLAMA, "tasks": {}}, "bad_request", "did you mean task"),
        ({**LLAMA, "task": "decode"}, "bad_request", "not a JSON object"),
        ({**LLAMA, "task": {"name": "decod"}}, "unknown_task", "decod"),
        ({**LLAMA, "task": {"name": "decode", "batch": [1, 2]}}, "bad_request", "task.batch"),
        ({**LLAMA, "task": {"name": "decode", "batch": 0}}, "bad_size", "batch"),
        ({**LLAMA, "plan": {"tpp": 2}}, "bad_request", "did you mean tp"),
        ({**LLAMA, "plan": {"tp": 3}}, "bad_plan", "3 devices"),
        ({**LLAMA, "apply": "kv-quantization"}, "bad_request", "apply"),
        ({**LLAMA, "apply": ["kv-quantisation"]}, "unknown_technique", "kv-quantization"),
        ({**LLAMA, "apply": ["kv-quantization"] * 17}, "bad_request", "at most 16"),
        ({**LLAMA, "model": {"config": []}}, "bad_request", "model.config"),
    ],
)
def test_what_is_wrong_is_said(page: Any, body: dict[str, Any], kind: str, said: str) -> None:
    response = page.post("/api/estimate", json=body)
    error = refused(response, 404 if kind.startswith("unknown") else 400, kind)
    assert said in error["message"] + error["hint"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a machine that the command line would read."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text(json.dumps(SMALL))
    (tmp_path / "mine.json").write_text(json.dumps(SMALL))
    (tmp_path / "chip.toml").write_text('name = "chip"')
    monkeypatch.chdir(tmp_path)
    return tmp_path


# over HTTP, names are names of the catalogue
@pytest.mark.parametrize(
    "path", ["secret", "./secret", "mine.json", "{folder}/mine.json", "~/x", "/etc/passwd", "/", "."]
)
def test_no_model_is_read_from_a_path(page: Any, folder: Path, path: str) -> None:
    name = path.format(folder=folder)
    before = rp.find_model("mine.json").main.depth
    assert before == 4, "the command line does read it"
    refused(page.post("/api/estimate", json={**LLAMA, "model": name}), 404, "unknown_model")
    refused(page.post("/api/model", json={"model": name}), 404, "unknown_model")
    refused(page.post("/api/sweep", json={**LLAMA, "vary": {"model": ["gpt2", name]}}), 404, "unknown_model")


@pytest.mark.parametrize(
    "path", ["chip.toml", "./chip.toml", "8xchip.toml", "{folder}/chip.toml", "chip.TOML", "a/b", "~root"]
)
def test_no_machine_is_read_from_a_path(page: Any, folder: Path, path: str) -> None:
    name = path.format(folder=folder)
    for address, body in (
        ("estimate", {**LLAMA, "machine": name}),
        ("machine", {"machine": name}),
        ("sweep", {**LLAMA, "vary": {"machine": [name]}}),
    ):
        error = refused(page.post(f"/api/{address}", json=body), 400, "bad_request")
        assert "files are not read" in error["message"]


def test_no_technique_reads_a_path(page: Any, folder: Path) -> None:
    """Parameters that name a model are looked up in the catalogue, whichever technique has them."""
    checked = 0
    for technique in techniques().values():
        for parameter in technique.parameters:
            if isinstance(parameter.default, str) and not parameter.choices and parameter.name not in LABELS:
                checked += 1
                for name in ("secret", "mine.json", f"{folder}/mine.json"):
                    text = f"{technique.name}:{parameter.name}={name}"
                    refused(page.post("/api/estimate", json={**LLAMA, "apply": [text]}), 404, "unknown_model")
                    body = {**LLAMA, "vary": {"apply": [text]}}
                    refused(page.post("/api/sweep", json=body), 404, "unknown_model")
    assert checked >= 3


def test_sweeps_have_charts_rows_and_limits(page: Any) -> None:
    body = {**LLAMA, "vary": {"batch": "1:64:log2", "context": "1k:64k:x4"}, "column": "bottleneck"}
    answer = page.post("/api/sweep", json=body).json()
    assert answer["points"] == len(answer["rows"]) == 28
    assert answer["view"]["charts"].count("data-x=") == 28
    lines = list(csv.DictReader(io.StringIO(page.post("/api/sweep.csv", json=body).text)))
    assert [float(line["time_s"]) for line in lines] == [row["time_s"] for row in answer["rows"]]
    refusals: list[Any] = [{"batch": "1:5000"}, {"weights": ["bf16"] * 2}, {}, [], {f"x{i}": [1] for i in range(6)}]
    for vary in refusals:
        assert page.post("/api/sweep", json={**LLAMA, "vary": vary}).status_code == 400
    many = {"machine": [f"h100-sxm@price={i + 1}" for i in range(65)]}
    refused(page.post("/api/sweep", json={**LLAMA, "vary": many}), 400, "bad_sweep")
    refused(page.post("/api/sweep", json={**body, "column": "beauty"}), 400, "bad_column")


def test_files_say_the_same_as_the_page(page: Any, tmp_path: Path) -> None:
    body = {**LLAMA, "plan": {"kv": "fp8", "graph_capture": False}, "apply": ["speculative-decoding"]}
    response = page.post("/api/scenario", json=body)
    assert "attachment" in response.headers["content-disposition"]
    assert tomllib.loads(response.text)["task"]["context"] == "8k"
    file = tmp_path / "scenario.toml"
    file.write_text(response.text)
    assert rp.Estimate(to_scenario(read_request(file))).time_s == page.post("/api/estimate", json=body).json()["time_s"]
    report = page.post("/api/report", json=body)
    assert report.headers["content-type"].startswith("text/html")
    assert "llama-3.1-8b on h100-sxm" in report.text


def test_advice_has_a_waterfall_that_ends_where_the_best_steps_lead(page: Any) -> None:
    answer = page.post("/api/advise", json={**LLAMA, "quality": "exact"}).json()
    assert answer["baseline"]["time_s"] > 0.0
    assert answer["view"]["waterfall"].startswith("<p>")
    assert "<figure" in answer["view"]["waterfall"]
    assert answer["command"].endswith("--objective latency --quality exact")
    assert answer["remedies"]
    refused(page.post("/api/advise", json={**LLAMA, "quality": "some"}), 400, "bad_quality")


def test_papers_are_found_and_their_workloads_run(page: Any) -> None:
    found = page.post("/api/papers", json={"question": "cached keys and values too big"}).json()
    assert 0 < len(found) <= 15
    one = page.post("/api/paper", json={"slug": "quantspec"}).json()
    workload = one["workload"]
    body = {key: workload[key] for key in ("model", "machine", "task", "plan")}
    assert page.post("/api/estimate", json=body).status_code == 200
    assert page.post("/api/paper", json={"slug": "no-such-paper"}).status_code == 404
    refused(page.post("/api/paper", json={}), 400, "bad_request")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"a": NaN}', "[" * 100_000, '{"model": 1}', "\xff"])
def test_any_body_gets_an_answer(page: Any, text: str) -> None:
    for route in (r for r in ROUTES if r.method == "POST"):
        response = page.post(route.path, content=text.encode("latin-1"), headers={"content-type": "application/json"})
        assert response.status_code in (200, 400), (route.path, response.text)


_LEAF = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=8)
_TREE = st.recursive(
    _LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["model", "machine", "apply", "task", "plan"]), _TREE)
@settings(max_examples=150)
def test_a_strange_part_is_refused_and_never_a_defect(key: str, value: Any) -> None:
    """Whatever stands in a body, what is raised is an error that says what to do."""
    with suppress(rp.RidgepointError):
        _ = read_scenario({**LLAMA, key: value}).scenario
