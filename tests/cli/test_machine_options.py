"""Machines from options (issue "Catalogues": ``--peak bf16=400T --hbm 2T --capacity 64G …``)."""

import pytest

from tests.cli.conftest import Run

OWN = ("--peak", "bf16=400T", "--hbm", "2T", "--capacity", "64G")


@pytest.mark.parametrize("on", [(), ("--on", "custom")])
def test_a_custom_machine(run: Run, on: tuple[str, ...]) -> None:
    document = run("analyze", "llama-3.1-8b", *on, *OWN, "--peak", "fp8=800T", "--task", "decode", "--json").document
    assert document["machine_detail"]["memory_bytes_per_s"] == 2e12
    assert document["memory"]["capacity_gb"] == 64
    assert document["cost_usd"] is None, "no price was given"


def test_another_figure_of_a_machine_that_is_named(run: Run) -> None:
    document = run("analyze", "llama-3.1-8b", "--on", "8xh100-sxm", "--hbm", "4.8T", "--tp", "8", "--json").document
    assert document["machine"] == "8xh100-sxm@hbm=4.8T"
    assert document["machine_detail"]["memory_bytes_per_s"] == 4.8e12


def test_several_custom_devices(run: Run) -> None:
    on = ("--on", "2x4xcustom", "--link", "200G", "--network", "50G")
    assert run("analyze", "llama-3.1-8b", *on, *OWN, "--tp", "8", "--json").document["devices"] == 8


def test_the_machine_of_a_scenario_file(run: Run) -> None:
    run("analyze", "llama-3.1-8b", "--on", "h100-sxm", "--task", "decode", "--save", "mine.toml")
    assert run("analyze", "mine.toml", "--capacity", "141G", "--json").document["memory"]["capacity_gb"] == 141


def test_a_saved_scenario_keeps_the_change(run: Run) -> None:
    run("analyze", "llama-3.1-8b", *OWN, "--task", "decode", "--save", "mine.toml")
    assert run("analyze", "mine.toml", "--json").document["memory"]["capacity_gb"] == 64


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--hbm", "2T"), "memory and a rate such as bf16"),
        (("--on", "h100", "--peak", "bf17=3T"), "bf17"),
        (("--on", "h100", "--peak", "bf16"), "KEY=VALUE"),
        (("--on", "h100", "--hbm", "fast"), "bandwidth: 'fast'"),
        (("--on", "h100", "--capacity", "-3G"), "memory is -3G"),
    ],
)
def test_mistakes(run: Run, options: tuple[str, ...], says: str) -> None:
    assert says in run("analyze", "llama-3.1-8b", *options, "--json").error["message"]


def test_a_field_of_a_plan_without_an_option_is_known_as_such() -> None:
    """Else ``command_of`` would print options that do not exist."""
    from ridgepoint.cli.options import SETTINGS
    from ridgepoint.request import FILE_ONLY, PLAN_KEYS, option

    settings = {s.field: s.words for s in SETTINGS if s.table == "plan"}
    assert {*PLAN_KEYS} - {*settings} == {*FILE_ONLY}
    assert all(words.partition("/")[0] == option(field) for field, words in settings.items())


@pytest.mark.parametrize("said", [("--capacity", "80"), ("--hbm", "3350"), ("--peak", "bf16=400")])
def test_a_bare_number_that_no_machine_can_mean_is_refused(run: Run, said: tuple[str, str]) -> None:
    """80 is 80 bytes: the estimate would be of a machine that does not exist, without a word."""
    error = run("analyze", "llama-3.1-8b", "--on", "h100-sxm", *said, "--json").error
    assert error["kind"] == "bad_machine"
    assert "write the prefix" in error["hint"]
    whole = ("--capacity", "80e9") if said[0] == "--capacity" else (said[0], f"{said[1]}G")
    assert run("analyze", "llama-3.1-8b", "--on", "h100-sxm", *whole, "--json").code == 0
