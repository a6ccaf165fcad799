"""`ridgepoint plan rlhf`: the page, the document, the file and refusals (design §10)."""

import pytest

MODELS = ("--actor", "llama-3.2-1b", "--reference", "llama-3.2-1b", "--on", "8xa100-sxm-40gb")
ARGUMENTS = ("plan", "rlhf", *MODELS, "--batch", "64", "--prompt", "512", "--output", "256")


def test_the_page_shows_calls_memory_and_what_binds(run):
    answer = run(*ARGUMENTS)
    assert answer.code == 0, answer.err
    for words in (
        "per iteration",
        "generate",
        "reference scores",
        "actor trains",
        "Twice as fast",
        "kept GB",
        "usable",
    ):
        assert words in answer.out, words
    assert all(len(line) <= 100 for line in answer.out.splitlines())


def test_the_document_adds_up(run):
    document = run(*ARGUMENTS, "--json").document
    assert document["time_s"] == pytest.approx(sum(call["time_s"] + call["move_s"] for call in document["calls"]))
    assert document["critical"] == [call["name"] for call in document["calls"]]
    assert sum(document["shares"].values()) == pytest.approx(1.0)
    assert document["memory"]["peak_gb"] <= document["memory"]["usable_gb"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--actor"),
        (("--actor", "llama-3.2-1b"), "--on"),
        (("--actor", "resnet50", "--on", "t4"), "transformers"),
        (("--actor", "llama-3.2-1b", "--on", "t4", "--batch", "0"), "whole number"),
        (("--actor", "llama-3.2-1b", "--on", "t4", "--rest-on-host", "critic"), "unknown model"),
        (("--actor", "llama-3.2-1b", "--graph", "x.toml"), "beside"),
        (("--graph", "missing.toml"), "missing.toml"),
    ],
)
def test_refusals_say_what_to_do(run, arguments, says):
    error = run("plan", "rlhf", *arguments, "--json").error
    assert says in f"{error['message']} {error['hint']}", error
