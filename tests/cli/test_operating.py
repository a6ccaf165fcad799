"""`ridgepoint analyze --task serve`: the operating curve."""

from __future__ import annotations

import pytest

ASK = ("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--task", "serve")


def test_the_document_is_a_curve_with_a_knee(run):
    found = run(*ASK, "--prompt", "1k", "--output", "256", "--json").document
    curve = found["curve"]
    assert len({len(column) for column in curve.values()}) == 1
    assert found["knee"]["concurrency"] in curve["concurrency"]
    assert found["knee"]["freed_gb"] > 0.0
    assert curve["tokens_per_s"][0] < max(curve["tokens_per_s"])


def test_the_page_shows_the_knee_and_what_it_frees(run):
    page = run(*ASK, "--prompt", "1k").out
    for words in ("Operating curve", "knee", "queues", "memory free"):
        assert words in page


@pytest.mark.parametrize(
    "options",
    [("--batch", "4"), ("--context", "1k"), ("--bound",), ("--plot",), ("--save", "a.toml"), ("--size", "a=1")],
)
def test_options_of_other_tasks_are_refused(run, options):
    assert run(*ASK, *options, "--json").error["kind"] == "bad_option"


def test_networks_and_models_that_do_not_fit_are_refused(run):
    assert (
        run("analyze", "llama-3.1-405b", "--on", "h100-sxm", "--task", "serve", "--json").error["kind"]
        == "does_not_fit"
    )
    assert run("analyze", "resnet50", "--on", "h100-sxm", "--task", "serve", "--json").code == 2
