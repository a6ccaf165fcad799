"""``ridgepoint sweep`` (design §10)."""

import csv
import json
from pathlib import Path

from tests.cli.conftest import Run

BASE = ("sweep", "llama-3.1-8b", "--on", "h100-sxm", "--task", "decode")


def test_rows_for_people_and_for_programs(run: Run) -> None:
    page = run(*BASE, "--vary", "batch=1:64:x8", "--vary", "context=1k,128k")
    assert page.code == 0
    assert "llama-3.1-8b on h100-sxm · decode" in page.out
    assert "3 batch × 2 context: 6 points" in page.out
    assert "most tokens per second" in page.out
    told = run(*BASE, "--vary", "batch=1:64:x8", "--vary", "context=1k,128k", "--json").document
    assert [row["batch"] for row in told["rows"]] == [1, 1, 8, 8, 64, 64]
    assert not told["rows"][-1]["fits"]


def test_files_hold_all_rows_and_a_front_only_its_own(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    assert run(*BASE, "--vary", "batch=1:256:log2", "--vary", "weights=bf16,fp8", "--out", str(out)).code == 0
    assert len(list(csv.DictReader(out.read_text().splitlines()))) == 18
    out = tmp_path / "front.json"
    front = ("--pareto", "latency,throughput", "--out", str(out))
    page = run(*BASE, "--vary", "batch=1:256:log2", "--vary", "weights=bf16,fp8", *front)
    assert "Points that none beats in latency and throughput" in page.out
    rows = json.loads(out.read_text())["rows"]
    assert 0 < len(rows) < 18
    best = sorted(rows, key=lambda row: row["tpot_s"])
    assert [row["tokens_per_s"] for row in best] == sorted(row["tokens_per_s"] for row in rows)


def test_what_is_wrong_is_said_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    assert run(*BASE, "--json").error["kind"] == "bad_vary"
    assert run(*BASE, "--vary", "btch=1", "--json").error["hint"] == "did you mean batch?"
    assert run(*BASE, "--vary", "batch=1", "--out", "rows.xls", "--json").error["kind"] == "bad_option"
    out = tmp_path / "rows.csv"
    assert run(*BASE, "--vary", "tp=3", "--out", str(out), "--json").error["kind"] == "bad_plan"
    assert (
        run(*BASE, "--vary", "batch=1", "--pareto", "beauty", "--out", str(out), "--json").error["kind"] == "bad_column"
    )
    assert not out.exists()


def test_what_has_no_answer_is_counted(run: Run) -> None:
    page = run(*BASE, "--vary", "tp=1,3")
    assert "1 without an answer" in page.out
    assert "1 point: tp × pp × cp × dp = 3 devices" in " ".join(page.out.split())


def test_what_varies_has_no_value_besides(run: Run) -> None:
    """A value that was said and then dropped is a silent wrong answer."""
    said = run(*BASE, "--batch", "4", "--vary", "batch=1,2", "--json").error
    assert said["message"] == "--batch and --vary both say batch"
    assert run(*BASE, "--vary", "task=decode,prefill", "--json").error["kind"] == "bad_vary"
    assert run(*BASE, "--vary", "machine=l4,t4", "--json").error["message"] == "--on and --vary both say machine"
