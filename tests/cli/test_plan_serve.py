"""`ridgepoint plan serve` (design §10)."""

from __future__ import annotations

import pytest

ASK = ("plan", "serve", "llama-3.1-8b", "--devices", "a100-sxm-80gb,h100-sxm", "--rate", "5", "--requests", "600")
GOALS = ("--ttft", "500ms", "--tpot", "40ms")


def test_the_document_has_the_keys_of_the_contract(run):
    found = run(*ASK, *GOALS, "--json").document
    assert set(found) >= {"fleet", "cost_usd_per_hour", "alternatives"}
    assert set(found["fleet"][0]) >= {"machine", "count", "layout"}
    assert found["verified"]["attainment"] >= 0.9
    assert found["cost_usd_per_hour"] == pytest.approx(sum(m["cost_usd_per_hour"] for m in found["fleet"]))


def test_the_page_compares_with_single_types(run):
    page = run(*ASK, *GOALS).out
    for words in ("Cheapest fleet", "Simulated", "One device type alone", "Cost against latency"):
        assert words in page


def test_a_configuration_is_printed(run):
    assert run(*ASK, *GOALS, "--emit", "vllm").out.count("vllm serve") == 1


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ((), "no_goal"),
        ((*GOALS, "--emit", "helm"), "unknown_target"),
        ((*GOALS, "--engine", "vlm"), "unknown_engine"),
        (("--tpot", "10us"), "no_plan"),
        ((*GOALS, "--trace", "none.csv"), "bad_file"),
    ],
    ids=["goal", "target", "engine", "impossible", "file"],
)
def test_what_is_wrong_is_refused(run, options, kind):
    assert run(*ASK, *options, "--json").error["kind"] == kind


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--devices", "h100-sxm", "--rate", "5", "--power", "1M"), "--rate"),
        (("--devices", "h100-sxm", "--spare", "1", "--power", "1M"), "--spare"),
        (("--devices", "h100-sxm:8", "--power", "1M"), "a limit in --devices"),
        (("--devices", "h100-sxm", "--rate", "5", "--spare", "-1"), "--spare"),
    ],
)
def test_what_a_budget_does_not_look_at_is_refused(run, options, says):
    """Left out in silence, a limit or a spare would be missing in the answer."""
    assert says in run("plan", "serve", "llama-3.1-8b", *options, *GOALS, "--json").error["message"]
