"""Scenarios in TOML files: read strictly, overridden by options, written whole (design §10)."""

from dataclasses import fields
from pathlib import Path

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import device_files, find_device
from ridgepoint.plan import Plan
from ridgepoint.request import PLAN_KEYS, Request
from ridgepoint.scenario_file import read_request, write_request
from tests.cli.conftest import Run

FILE = """
model = "llama-3.1-8b"
machine = "8xh100-sxm"
[task]
name = "decode"
batch = 32
context = "8k"
[plan]
tp = 8
kv = "fp8"
fused_attention = true
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(FILE)
    return path


# design §10
def test_a_file_says_a_whole_scenario(run: Run, scenario: Path) -> None:
    doc = run("analyze", str(scenario), "--json").document
    assert (doc["model"], doc["machine"]) == ("llama-3.1-8b", "8xh100-sxm")
    assert doc["task"] == {"name": "decode", "batch": 32, "context": 8192}
    assert (doc["plan"]["tp"], doc["plan"]["kv"]) == (8, "fp8")


# design §10
def test_options_override_the_file(run: Run, scenario: Path) -> None:
    doc = run("analyze", str(scenario), "--on", "4xh100-sxm", "--tp", "4", "--batch", "8", "--json").document
    assert (doc["machine"], doc["plan"]["tp"], doc["task"]["batch"], doc["task"]["context"]) == (
        "4xh100-sxm",
        4,
        8,
        8192,
    )


# design §10
def test_another_task_keeps_only_the_sizes_that_it_takes(run: Run, scenario: Path) -> None:
    doc = run("analyze", str(scenario), "--task", "prefill", "--json").document
    assert doc["task"] == {"name": "prefill", "batch": 32, "prompt": 1024}


# design §10
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modle = 'x'", ("`modle`", "model")),
        ("model = 3", ("`model`",)),
        ("[model]\nnam = 'x'", ("`model.nam`", "name")),
        ("[model]\n", ("`model`", "name")),
        ("model = 'gpt2'\nmachine = 't4'\ntask = 'decode'", ("`task`", "[task]")),
        ("model = 'gpt2'\nmachine = 't4'\n[task]\nname = 3", ("`task.name`",)),
        ("model = 'gpt2'\nmachine = 't4'\n[task]\nbach = 3", ("`task.bach`", "batch")),
        ("model = 'gpt2'\nmachine = 't4'\n[task]\nbatch = [1]", ("`task.batch`",)),
        ("model = 'gpt2'\nmachine = 't4'\n[task]\nbatch = true", ("task.batch", "count")),
        ("model = 'gpt2'\nmachine = 't4'\n[task]\ncontext = 3", ("task.context", "decode")),
        ("model = 'gpt2'\nmachine = 't4'\n[plan]\ntpp = 3", ("`plan.tpp`", "tp")),
        ("model = 'gpt2'\nmachine = 't4'\n[plan]\nkv = 3", ("plan.kv",)),
        ("model = 'gpt2'\nmachine = 't4'\n[plan]\ncompiled = 3", ("plan.compiled",)),
        ("model = 'gpt2'\nmachine = 't4'\n[plan]\nmemory_fraction = 'x'", ("plan.memory_fraction",)),
        ("model = 'gpt2'\nmachine = ", ("TOML",)),
        ("machine = 't4'", ("model",)),
        ("model = 'gpt2'", ("--on",)),
    ],
)
def test_what_is_wrong_in_a_file_is_named(run: Run, tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    answer = run("analyze", str(path))
    assert answer.code == 2
    assert all(word in answer.err for word in words), answer.err


# design §10
def test_files_beside_the_scenario_are_found_from_anywhere(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    machine = device_files()["t4"]
    (folder / "mine.toml").write_text(machine.read_text())
    (folder / "s.toml").write_text("model = 'gpt2'\n[machine]\nfile = 'mine.toml'\n")
    assert run("analyze", "deep/s.toml", "--json").document["machine_detail"]["title"] == find_device("t4").title


# design §10
def test_save_writes_what_was_said_and_reads_back_the_same(run: Run, tmp_path: Path) -> None:
    said = ("llama-3.1-8b", "--on", "8xh100-sxm", "--task", "train", "--batch", "1k", "--zero", "3", "--no-graphs")
    more = ("--memory-fraction", "0.85", "--weights", "bf16", "--mode", "eager")
    first = run("analyze", *said, *more, "--save", "mine.toml", "--json").document
    again = run("analyze", "mine.toml", "--json").document
    assert first == again
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"], "nothing half-written stays behind"


# design §10
def test_sizes_of_a_networks_input_are_said_by_name(run: Run) -> None:
    first = run("analyze", "resnet50", "--on", "t4", "--size", "image_px=288", "--save", "mine.toml", "--json").document
    assert first["task"] == {"name": "forward", "batch": 1, "image_px": 288}
    assert run("analyze", "mine.toml", "--json").document == first
    assert "image_px" in run("analyze", "resnet50", "--on", "t4", "--size", "nodes=4", "--json").error["hint"]
    assert run("analyze", "gpt2", "--on", "t4", "--size", "nodes=4", "--json").error["kind"] == "bad_option"
    assert run("analyze", "resnet50", "--on", "t4", "--size", "image_px", "--json").error["kind"] == "bad_option"


# design §10
def test_a_plan_in_a_file_may_say_all_that_a_plan_says() -> None:
    """But for what planned recomputation found, op by op: a file says ``recompute = "planned"``."""
    assert set(PLAN_KEYS) == {f.name for f in fields(Plan)} - {"recomputed"}


# design §10
def test_nothing_is_saved_of_a_scenario_that_is_refused(run: Run, tmp_path: Path) -> None:
    assert run("analyze", "gpt2", "--on", "t4", "--tp", "5", "--save", "mine.toml").code == 2
    assert not (tmp_path / "mine.toml").exists()


# design §10
def test_a_folder_that_cannot_be_written_to_is_named(run: Run) -> None:
    error = run("analyze", "gpt2", "--on", "t4", "--save", "nowhere/mine.toml", "--json").error
    assert error["kind"] == "bad_file"
    assert "nowhere/mine.toml" in error["message"]


# design §10
@pytest.mark.parametrize("name", ['a "quoted" \\ name', "tab\there", "ünïcode", "line\nbreak", "\x7f"])
def test_any_name_survives_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s.toml"
    write_request(Request(name, "t4", "decode", {"batch": "8k", "context": 5.0}, {"compiled": False, "tp": "2"}), path)
    back = read_request(path)
    assert (back.model, back.machine, back.task) == (name, "t4", "decode")
    assert (back.sizes, back.plan) == ({"batch": "8k", "context": 5.0}, {"compiled": False, "tp": 2})


# design §10
def test_a_missing_file_is_said_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(RidgepointError, match=r"nothing\.toml"):
        read_request(tmp_path / "nothing.toml")
