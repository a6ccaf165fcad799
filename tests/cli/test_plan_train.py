"""`ridgepoint plan train`: the table, the document, and refusals that say what to do (design §10)."""

import json

import pytest

ARGUMENTS = ("plan", "train", "llama-3.2-1b", "--on", "8xa100-sxm-80gb", "--global-batch", "32", "--seq", "2k")


def test_the_page_says_what_was_asked_for(run):
    answer = run(*ARGUMENTS, "--tokens", "1T", "--top", "3")
    assert answer.code == 0, answer.err
    for words in (
        "layouts searched",
        "MFU",
        "bubble",
        "Bottleneck:",
        "runner-up",
        "Critical batch",
        "Failures",
        "days",
    ):
        assert words in answer.out, words
    assert all(len(line) <= 100 for line in answer.out.splitlines())


def test_the_document_has_layouts_best_first(run):
    document = run(*ARGUMENTS, "--json", "--tp", "2").document
    times = [layout["step_time_s"] for layout in document["layouts"]]
    assert times == sorted(times)
    assert document["searched"] >= len(times)
    assert {layout["tp"] for layout in document["layouts"]} == {2}


def test_scaling_adds_both_curves(run):
    document = run(*ARGUMENTS, "--json", "--scaling", "--schedule", "1f1b", "--recompute", "none").document
    strong, weak = document["scaling"]["strong"], document["scaling"]["weak"]
    assert [p["devices"] for p in strong] == [8, 32, 128, 512, 2048, 8192, 32768, 131072]
    assert weak[1]["batch"] == 4 * weak[0]["batch"]
    rates = [p["tokens_per_s_per_device"] for p in strong if p["tokens_per_s_per_device"] is not None]
    assert rates[-1] < rates[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--global-batch", "3M-tokens", "--seq", "7k"), "whole ones"),
        (("--global-batch", "12", "--tp", "3"), "nearest"),
        (("--global-batch", "16", "--seq", "1024.5"), "whole number"),
        (("--global-batch", "12", "--objective", "fame"), "time, cost"),
        (("--global-batch", "12", "--tokens", "many"), "15T"),
        (("--global-batch", "12", "--max-memory", "3G"), "would fit"),
    ],
)
def test_refusals_name_what_would_do(run, arguments, says):
    error = run("plan", "train", "llama-3.2-1b", "--on", "8xa100-sxm-80gb", *arguments, "--json").error
    assert says in f"{error['message']} {error['hint']}", error


def test_networks_are_planned_over_samples(run):
    asked = ("plan", "train", "resnet50", "--on", "8xh100-sxm")
    page = run(*asked, "--global-batch", "1024", "--top", "2")
    assert page.code == 0, page.err
    assert "samples/s" in page.out
    assert "tokens" not in page.out
    assert run(*asked, "--global-batch", "1M-tokens", "--json").error["kind"] == "bad_count"
    assert run(*asked, "--global-batch", "1024", "--emit", "fsdp", "--json").error["kind"] == "bad_model"


def test_emit_prints_the_configuration_alone(run):
    """What is printed can be redirected into a file: notes go to the other stream (design §10)."""
    answer = run(*ARGUMENTS, "--emit", "deepspeed", "--pp", "1", "--cp", "1", "--tp", "1")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["train_batch_size"] == 32
    assert "start it on 1 × 8 devices" in answer.err
    document = run(*ARGUMENTS, "--emit", "deepspeed", "--pp", "1", "--cp", "1", "--tp", "1", "--json").document
    assert json.loads(document["emit"]["text"]) == json.loads(answer.out)


@pytest.mark.parametrize(("target", "kind"), [("megatrn", "unknown_target"), ("torchtitan", "not_expressible")])
def test_emit_refuses_in_one_sentence(run, target, kind):
    error = run(*ARGUMENTS, "--emit", target, "--json").error
    assert error["kind"] == kind
    assert error["hint"]


def test_a_plan_without_a_pipeline_is_printed_all_the_same(run):
    """--gantt has nothing to draw then, which is no reason to keep what was searched for."""
    answer = run(*ARGUMENTS, "--pp", "1", "--top", "1", "--gantt")
    assert answer.code == 0
    assert "Bottleneck:" in answer.out
    assert "--gantt draws nothing" in answer.err
