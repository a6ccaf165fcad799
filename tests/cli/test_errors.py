"""What a command says when the input is wrong: one sentence or one document, exit code 2 (design §10)."""

import pytest

from tests.cli.conftest import Run

WRONG = [
    (("analyze", "lama-3.1-8b", "--on", "h100-sxm"), "unknown_model", "llama-3.1-8b"),
    (("analyze", "llama-3.1-8b", "--on", "h100-smx"), "unknown_machine", "h100-sxm"),
    (("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--task", "decod"), "unknown_task", "decode"),
    (("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--weights", "bf61"), "unknown_format", "bf16"),
    (("analyze", "llama-3.1-8b"), "bad_request", "--on"),
    (("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--batch", "many"), "bad_count", "8k"),
    (("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--batch", "0"), "bad_size", "1"),
    (("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--batch", "-4"), "bad_size", "1"),
    (("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--batch", "1e30"), "bad_size", "1"),
    (("analyze", "llama-3.1-8b", "--on", "8xh100-sxm", "--tp", "3"), "bad_plan", "1, 2, 4, 8"),
    (("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--memory-fraction", "nan"), "bad_plan", "fraction"),
    (("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--mode", "fast"), "bad_option", "eager"),
    (("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--task", "train", "--zero", "7"), "bad_plan", "0, 1, 2 or 3"),
    (("analyze", "llama-3.1-8b", "--on", "missing.toml"), "unknown_machine", "path"),
    (("analyze", "missing.json", "--on", "t4"), "unknown_model", "path"),
    (("analyze", "missing.toml", "--on", "t4"), "bad_scenario", "path"),
    (("analyze", "bert-large", "--on", "t4", "--task", "decode"), "bad_task", "forward"),
    (("machines", "show", "h100-smx"), "unknown_machine", "h100-sxm"),
    (("machines", "compare", "t4", "h100-smx"), "unknown_machine", "h100-sxm"),
    (("machines", "list", "--sort", "prize"), "bad_option", "price"),
    (("models", "show", "lama-3.1-8b"), "unknown_model", "llama-3.1-8b"),
    (("models", "show", "llama-3.1-8b", "--context", "x"), "bad_count", "8k"),
    (("models", "import", "nothing.json", "--name", "mine"), "bad_config", "path"),
    (("models",), "bad_usage", "--help"),
    (("analyse", "x"), "bad_usage", "--help"),
    (("analyze", "llama-3.1-8b", "--on", "t4", "--batc", "3"), "bad_usage", "--help"),
]


# design §10
@pytest.mark.parametrize(
    ("arguments", "kind", "hint"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, tuple) else ""
)
def test_a_wrong_input_gets_an_envelope_with_a_hint(run: Run, arguments: tuple[str, ...], kind: str, hint: str) -> None:
    error = run(*arguments, "--json").error
    assert error.keys() == {"kind", "message", "hint"}
    assert error["kind"] == kind
    assert hint in error["hint"]


# design §10
@pytest.mark.parametrize(
    ("arguments", "kind", "hint"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, tuple) else ""
)
def test_a_wrong_input_gets_one_sentence_on_stderr(run: Run, arguments: tuple[str, ...], kind: str, hint: str) -> None:
    answer = run(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("ridgepoint: ")
    assert hint in answer.err
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err


# design §10
def test_a_misspelt_command_and_option_name_the_nearest(run: Run) -> None:
    assert "'analyze'" in run("analyse", "x").err
    assert "--batch" in run("analyze", "llama-3.1-8b", "--on", "t4", "--batc", "3").err


# design §10
def test_a_defect_is_said_in_one_sentence_with_its_own_exit_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("nothing left")

    monkeypatch.setattr("ridgepoint.cli.analyze.to_scenario", broken)
    answer = run("analyze", "llama-3.1-8b", "--on", "t4")
    assert answer.code == 70
    assert (
        answer.err == "ridgepoint: this is a defect: ZeroDivisionError: nothing left (RIDGEPOINT_DEBUG=1 shows where)\n"
    )


# design §10
@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 0)])
def test_an_interrupt_and_a_closed_pipe_are_quiet(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int
) -> None:
    def stopped(_: object) -> None:
        raise error

    monkeypatch.setattr("ridgepoint.cli.guard.os.dup2", lambda *_: None)
    monkeypatch.setattr("ridgepoint.cli.guard._quiet_pipe", lambda: 0)
    monkeypatch.setattr("ridgepoint.cli.analyze.to_scenario", stopped)
    answer = run("analyze", "llama-3.1-8b", "--on", "t4")
    assert (answer.code, answer.out, answer.err) == (code, "", "")
