"""`ridgepoint advise --task serve` (issue 10; design §10)."""

from __future__ import annotations

import pytest

ASK = ("advise", "llama-3.1-8b", "--on", "h100-sxm", "--task", "serve", "--prompt", "1k", "--output", "256")
GOALS = ("--ttft", "500ms", "--tpot", "20ms")


def test_the_document_has_the_keys_of_the_contract(run):
    found = run(*ASK, *GOALS, "--rate", "10", "--json").document
    assert set(found) >= {"baseline", "remedies", "objective", "citations"}
    wanted = {"technique", "parameters", "applies", "reason", "speedup", "throughput_gain", "memory_ratio", "fits"}
    assert all(set(r) >= wanted | {"quality", "papers", "evidence"} for r in found["remedies"])
    assert found["remedies"][0]["throughput_gain"] > 1.0
    assert found["baseline"]["requests_per_s"] > 5.0


def test_the_page_names_goals_rate_and_remedies(run):
    page = run(*ASK, *GOALS, "--rate", "10", "--combine", "--all").out
    for words in ("requests/s", "What would help", "Together", "What does not apply", "at 10.0 requests/s"):
        assert words in page


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (("--batch", "4"), "bad_option"),
        (("--memory", "10G"), "bad_option"),
        (("--engine", "vlm"), "unknown_engine"),
        (("--rate", "-3"), "bad_option"),
        (("--objective", "memory"), "unknown_objective"),
    ],
    ids=["batch", "memory", "engine", "rate", "objective"],
)
def test_what_is_wrong_is_refused(run, options, kind):
    assert run(*ASK, *options, "--json").error["kind"] == kind


def test_a_rate_belongs_to_serving(run):
    error = run("advise", "llama-3.1-8b", "--on", "h100-sxm", "--rate", "3", "--json").error
    assert error["kind"] == "bad_option"
    assert "--task serve" in error["hint"]
