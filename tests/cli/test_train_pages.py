"""`plan train --html`, `analyze --task train --html --plot`: the pipeline and its memory in files and on the terminal."""

from pathlib import Path

ASKED = ("--on", "8xa100-sxm-80gb", "--seq", "2k", "--pp", "2")


def test_a_plan_writes_its_page(run, tmp_path: Path):
    where = tmp_path / "plan.html"
    more = ("--global-batch", "32", "--top", "1", "--html", str(where), "--gantt")
    answer = run("plan", "train", "llama-3.2-1b", *ASKED, *more)
    assert answer.code == 0, answer.err
    assert "Pipeline, pass by pass" in where.read_text()
    assert "Memory over the step" in answer.out


def test_a_step_writes_its_page(run, tmp_path: Path):
    where = tmp_path / "step.html"
    more = ("--task", "train", "--batch", "32", "--plot", "--html", str(where))
    answer = run("analyze", "llama-3.2-1b", *ASKED, *more)
    assert answer.code == 0, answer.err
    assert "Memory over the step" in answer.out
    assert "Memory over the step" in where.read_text()
