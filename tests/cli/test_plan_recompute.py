"""`ridgepoint plan recompute`: the plan beside the usual rules, and refusals that say what to do."""

import json

import pytest

ARGUMENTS = (
    "plan",
    "recompute",
    "gpt2-xl",
    "--on",
    "a100-sxm-40gb",
    "--batch",
    "8",
    "--seq",
    "1k",
    "--micro-batch",
    "8",
)


def test_the_command_prints_the_plan_beside_the_rules(run):
    answer = run(*ARGUMENTS, "--memory", "39G")
    assert answer.code == 0, answer.err
    for words in ("keep everything", "√n", "planned", "What runs again", "feed"):
        assert words in answer.out, words
    assert all(len(line) <= 100 for line in answer.out.splitlines())
    document = json.loads(run(*ARGUMENTS, "--memory", "39G", "--json").out)
    assert [way["name"] for way in document["ways"]] == ["none", "sqrt", "full", "planned"]
    assert document["ways"][-1]["memory_gb"] <= document["memory_gb"] == 39.0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--memory", "10G"), "does_not_fit"),
        (("--memory", "400G"), "not possible"),
        (("--recompute", "full"), "leave it out"),
        (("--batch", "1.5"), "whole number"),
        (("--seq", "1024.5"), "whole number"),
    ],
)
def test_bad_input_is_refused(run, more, says):
    answer = run(*ARGUMENTS, *more, "--json")
    assert answer.code == 2
    assert says in answer.out


def test_a_length_of_a_network_without_sequences_is_refused(run):
    """As `analyze` does: left out in silence it would be part of no answer."""
    answer = run("plan", "recompute", "resnet-50", "--on", "h100-sxm", "--batch", "8", "--seq", "100", "--json")
    assert "reads no sequences" in answer.error["message"]
