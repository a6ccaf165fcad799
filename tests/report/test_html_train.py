"""Training pages: a row per stage with its passes and its memory, readable without sight, loading nothing (design §9)."""

import re

import pytest

import ridgepoint as rp
from ridgepoint.report.html_train import pipeline_sections, train_plan_page
from ridgepoint.report.schedule import pipeline_page
from ridgepoint.report.svg_gantt import gantt_svg
from ridgepoint.training.schedule import simulate


def step(**plan):
    task = rp.Train(batch=32, seq=2048)
    return rp.estimate("llama-3.2-1b", on="8xa100-sxm-80gb", task=task, plan=rp.Plan(**{"pp": 4, "tp": 1, **plan}))


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zero_bubble"])
def test_a_step_with_stages_shows_its_passes_and_its_memory(schedule):
    text = "".join(pipeline_sections(step(schedule=schedule)))
    assert text.count('aria-label="stage ') == 8  # four rows in each of both charts
    assert "forward of micro-batch 0" in text
    assert ("gradient of weights" in text) == (schedule == "zero_bubble")
    assert "Memory over the step" in text
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", text)


def test_a_step_without_stages_shows_neither():
    assert list(pipeline_sections(step(pp=1))) == []


def test_passes_too_narrow_to_see_are_drawn_together():
    """Thousands of passes would make a page nobody can open: a run of one kind becomes one mark that says so."""
    line = simulate([1.0] * 2, [2.0] * 2, microbatches=2000, schedule="gpipe")
    svg = gantt_svg(line)
    assert svg.count("<rect") < 500
    assert "of micro-batch 0 to" in svg


def test_idle_time_said_is_that_of_the_simulator():
    line = simulate([1.0] * 4, [2.0] * 4, microbatches=4, schedule="1f1b")
    assert line.idle_s(0) / line.makespan_s == pytest.approx(3 / 7)
    assert gantt_svg(line).count("idle 43 %") == 2 * 4  # title and label of four rows


def test_the_plan_is_one_page():
    plan = rp.plan_train("llama-3.2-1b", on="8xa100-sxm-80gb", batch=32, seq=2048, top=2, pp=2)
    page = train_plan_page(plan, "ridgepoint plan train …")
    for words in ("Layouts", "runner-up", "Pipeline, pass by pass", "Memory over the step", "Assumptions"):
        assert words in page, words
    assert "<script" not in page


def test_the_terminal_shows_the_same():
    from rich.console import Console

    console = Console(width=80, no_color=True)
    with console.capture() as captured:
        console.print(pipeline_page(step(), 80))
    lines = captured.get().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert sum(line.startswith("stage") for line in lines) == 8
