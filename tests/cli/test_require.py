"""`ridgepoint require` (design §10)."""

from __future__ import annotations

import pytest

ASK = ("require", "llama-3.1-8b", "--prompt", "4k", "--output", "512", "--ttft", "0.5", "--tpot", "20ms")


def test_the_document_says_what_a_platform_must_have(run):
    found = run(*ASK, "--users", "100", "--on", "h100-sxm,mi300x", "--json").document
    platform = found["platform"]
    assert platform["flop_per_s"]["least"] < platform["flop_per_s"]["balanced"]
    assert platform["capacity_gb"] == pytest.approx(platform["weights_gb"] + platform["kv_gb"])
    assert {m["machine"] for m in found["machines"]} == {"h100-sxm", "mi300x"}


def test_the_page_lists_machines_and_says_when_none_does(run):
    page = run(*ASK, "--users", "100", "--on", "h100-sxm").out
    assert "A platform must have" in page
    assert "h100-sxm" in page
    none = run(*ASK[:-1], "100us", "--on", "h100-sxm").out
    assert "No machine of the catalogue does" in none
    assert "× the goal" in none


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (("--users", "0"), "bad_goal"),
        (("--users", "many"), "bad_count"),
        (("--on", "h100-smx"), "unknown_machine"),
        (("--weights", "bf61"), "unknown_format"),
        (("--engine", "vlm"), "unknown_engine"),
    ],
)
def test_what_is_wrong_is_refused(run, options, kind):
    assert run(*ASK, *options, "--json").error["kind"] == kind


def test_a_context_beyond_the_model_is_said_wherever_serving_is_asked_about(run):
    """Figures of a request that the model was not made for are none that anybody can have."""
    ask = ("--prompt", "200k", "--output", "256", "--json")
    for command in (
        ("require", "llama-3.1-8b", *ask, "--ttft", "100s", "--tpot", "1s", "--on", "h100-sxm"),
        ("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--task", "serve", *ask),
        ("simulate", "llama-3.1-8b", "--on", "h100-sxm", "--rate", "0.01", "--requests", "3", *ask),
        ("plan", "serve", "llama-3.1-8b", "--devices", "h100-sxm", "--rate", "0.01", "--requests", "50",
         "--ttft", "1000s", "--no-splits", *ask),
    ):  # fmt: skip
        assert any("205,056 tokens" in warning for warning in run(*command).document["warnings"]), command[0]
    assert not run(*ASK, "--on", "h100-sxm", "--json").document["warnings"]
