"""`ridgepoint trace` (design §10, issue 7)."""

import json
from pathlib import Path

import pytest

from tests.traces.kineto import Recording
from tests.traces.test_profile import gpu

ROOT = Path(__file__).parents[2]
FORWARD = str(ROOT / "docs" / "examples" / "small_net.trace.json.gz")
LLAMA = ("--model", "llama-3.1-8b", "--on", "h100-sxm", "--task", "decode", "--batch", "1", "--context", "2k")


@pytest.fixture
def recorded(tmp_path) -> str:
    return str(gpu().write(tmp_path / "gpu.json"))


def test_the_page_of_a_run_on_the_processor(run):
    page = run("trace", FORWARD).out
    for words in ("processor · 2 steps", "Device-bound", "Time by op", "aten::mkldnn_convolution", "blocks.*.conv"):
        assert words in page


def test_the_page_of_a_run_on_a_device(run, recorded):
    page = run("trace", recorded).out
    for words in ("NVIDIA H100 80GB HBM3", "Communication", "50 % beside computation", "Launch to start", "Host-bound"):
        assert words in page
    assert max(map(len, page.splitlines())) <= 100


def test_the_document(run, recorded):
    found = run("trace", recorded, "--json").document
    (device,) = found["devices"]
    assert device["busy_s"] + device["idle_s"] == pytest.approx(found["span_s"])
    assert device["communication_exposed_s"] == pytest.approx(30e-6)
    assert sum(op["time_s"] for op in found["ops"]) == pytest.approx(found["busy_s"])
    assert found["launches"]["kernels"] == 5
    assert found["verdict"] == "host"
    assert found["comparison"] is None


def test_a_prediction_beside_it(run, recorded):
    found = run("trace", recorded, *LLAMA, "--runs", "3", "--json").document["comparison"]
    assert found["runs"] == 3
    assert found["measured_s"] == pytest.approx(100e-6)
    assert found["ratio"] == pytest.approx(found["predicted_s"] / found["measured_s"])
    assert {row["name"] for row in found["kinds"]} >= {"gemm", "collective", "host", "attention"}
    page = run("trace", recorded, *LLAMA).out
    assert "Measured beside predicted" in page
    assert "--runs says otherwise" in page


def test_the_page_as_a_file(run, recorded, tmp_path):
    assert run("trace", recorded, *LLAMA, "--html", "t.html").code == 0
    page = (tmp_path / "t.html").read_text()
    for words in ("Where the span goes", "Measured beside predicted", "c10d::allreduce_", "Content-Security-Policy"):
        assert words in page


def test_charts_as_files(run, recorded, tmp_path):
    assert run("trace", recorded, "--chart", "span=a.svg", "--chart", "ops=b.svg").code == 0
    assert "exposed communication" in (tmp_path / "a.svg").read_text()
    assert "aten::addmm" in (tmp_path / "b.svg").read_text()
    assert run("trace", recorded, "--chart", "nothing=c.svg", "--json").error["kind"] == "unknown_chart"


def test_names_in_a_trace_cannot_break_a_page(run, tmp_path):
    made = Recording()
    made.op("<script>alert(1)</script>", 0.0, 10.0)
    made.op("[bold]aten::mm[/bold]", 20.0, 10.0)
    run("trace", str(made.write(tmp_path / "t.json")), "--html", "t.html")
    assert "<script>" not in (tmp_path / "t.html").read_text()
    assert "[bold]aten::mm[/bold]" in run("trace", str(tmp_path / "t.json")).out


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (("--on", "h100-sxm"), "bad_usage"),
        (("--batch", "4"), "bad_usage"),
        (("--runs", "4"), "bad_usage"),
        (("--model", "llama-3.1-8b"), "bad_request"),
        (("--model", "lama-3.1-8b", "--on", "h100-sxm"), "unknown_model"),
        ((*LLAMA, "--runs", "-1"), "bad_option"),
    ],
)
def test_wrong_options_are_refused(run, recorded, options, kind):
    assert run("trace", recorded, *options, "--json").error["kind"] == kind


@pytest.mark.parametrize(("text", "kind"), [("", "bad_trace"), ("{}", "bad_trace"), (None, "bad_file")])
def test_wrong_files_are_refused(run, tmp_path, text, kind):
    if text is not None:
        (tmp_path / "t.json").write_text(text)
    error = run("trace", "t.json", "--json").error
    assert error["kind"] == kind
    assert "t.json" in error["message"]


def test_nothing_is_written_when_it_is_refused(run, tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"traceEvents": []}))
    assert run("trace", "t.json", "--html", "out.html").code == 2
    assert not (tmp_path / "out.html").exists()


def test_what_analyze_exports_is_read_back(run, tmp_path):
    scenario = ("llama-3.1-8b", "--on", "h100-sxm", "--task", "decode", "--batch", "8", "--context", "4k")
    expected = run("analyze", *scenario, "--perfetto", "a.json.gz", "--json").document
    found = run("trace", "a.json.gz", "--model", *scenario, "--runs", "1", "--json").document
    assert found["span_s"] == pytest.approx(expected["time_s"], rel=1e-5)
    assert found["comparison"]["ratio"] == pytest.approx(1.0, rel=1e-5)
    assert all(row["ratio"] == pytest.approx(1.0, rel=1e-2) for row in found["comparison"]["components"])


def test_what_plan_train_exports_is_read_back(run, tmp_path):
    plan = ("llama-3.2-1b", "--on", "8xh100-sxm", "--global-batch", "16", "--seq", "2k")
    best = run("plan", "train", *plan, "--pp", "4", "--perfetto", "p.json", "--json").document["layouts"][0]
    found = run("trace", "p.json", "--json").document
    assert len(found["devices"]) == 4
    assert found["span_s"] == pytest.approx(best["step_time_s"], rel=0.02)


def test_a_captured_model_is_exported(run, tmp_path):
    pytest.importorskip("torch")
    target = f"{ROOT / 'docs' / 'examples' / 'small_net.py'}:build"
    made = run(
        "analyze", target, "--input", "image: float32[B,3,64,64]", "--on", "h100-sxm", "--perfetto", "c.json", "--json"
    )
    found = run("trace", "c.json", "--json").document
    assert found["span_s"] == pytest.approx(made.document["time_s"], rel=1e-4)
    assert "blocks.*.conv" in {row["name"] for row in found["components"]}


def test_serving_curves_have_no_time_line(run):
    scenario = ("llama-3.1-8b", "--on", "h100-sxm", "--task", "serve", "--prompt", "1k", "--output", "100")
    assert run("analyze", *scenario, "--perfetto", "a.json", "--json").error["kind"] == "bad_option"
