"""`--citations` on every command that computes something (design §7)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ridgepoint.cli import COMMANDS
from ridgepoint.cli.guard import load
from tests.cli.conftest import Run
from tests.evidence.tables import gemm_row, text, write

COMPUTES_NOTHING = {
    "capture",
    "laws list",
    "laws show",
    "machines list",
    "models list",
    "models import",
    "papers list",
    "papers search",
    "papers show",
    "serve",
    "techniques list",
    "techniques show",
}
"""Commands that list, show what stands in the catalogue, write down what code does, or start a page."""

TRACE = str(Path(__file__).parents[2] / "docs" / "examples" / "small_net.trace.json.gz")
DEPLOYED = ("llama-3.1-8b", "--on", "h100-sxm")
GOALS = ("--ttft", "2s", "--tpot", "50ms")
RUNS: dict[str, tuple[str, ...]] = {
    "analyze": (*DEPLOYED, "--task", "decode"),
    "sweep": (*DEPLOYED, "--task", "decode", "--vary", "batch=1,8"),
    "advise": (*DEPLOYED, "--task", "decode"),
    "require": ("llama-3.1-8b", "--prompt", "1k", "--output", "128", *GOALS, "--on", "h100-sxm,a100-sxm-80gb"),
    "simulate": (*DEPLOYED, "--rate", "4", "--requests", "20"),
    "plan train": ("llama-3.2-1b", "--on", "8xh100-sxm", "--global-batch", "64", "--seq", "2k"),
    "plan serve": ("llama-3.1-8b", "--devices", "h100-sxm", "--rate", "2", "--requests", "100", *GOALS),
    "plan rlhf": ("--actor", "llama-3.2-1b", "--on", "8xh100-sxm", "--batch", "64"),
    "plan recompute": ("llama-3.2-1b", "--on", "h100-sxm", "--batch", "4", "--seq", "2k"),
    "trace": (TRACE, "--model", "resnet18", "--on", "i9-10940x", "--task", "train"),
    "reproduce": ("flashattention",),
    "laws run": ("loss",),
    "machines show": ("h100-sxm",),
    "machines compare": ("h100-sxm", "a100-sxm-80gb"),
    "models show": ("llama-3.1-8b",),
    "validate": ("--data", "DATA"),
    "calibrate": ("--from", "DATA", "--machine", "a6000"),
}
"""A small run of each of the others."""


def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, below in command.commands.items():
        yield from leaves(below, f"{name} {word}")


def every_command() -> dict[str, Any]:
    return dict(leaf for name in COMMANDS for leaf in leaves(load(name), name))


def lines_of(document: Any) -> Iterator[str]:
    """What stands under ``citations`` in a document, in a list of documents, or in a part of one."""
    if isinstance(document, list):
        for part in document:
            yield from lines_of(part)
    elif isinstance(document, dict):
        for key, part in document.items():
            yield from part if key == "citations" else lines_of(part) if isinstance(part, dict) else ()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    sizes = [(2**i, 2**j) for i in range(12) for j in range(8, 13)]
    write(tmp_path, text([gemm_row(m=m, k=k, time_us=8.0 + m * k / 1.3e4, machine="rtx-a6000") for m, k in sizes]))
    return tmp_path


def test_every_command_that_computes_says_what_it_relies_on() -> None:
    """A new command must take the option, or stand in the list of those that compute nothing."""
    found = every_command()
    missing = {name for name, command in found.items() if not any("--citations" in p.opts for p in command.params)}
    assert missing == COMPUTES_NOTHING
    assert set(RUNS) == set(found) - COMPUTES_NOTHING


@pytest.mark.parametrize("name", RUNS)
def test_the_document_and_the_page_name_what_was_relied_on(run: Run, data: Path, name: str) -> None:
    """The same lines, in JSON always and on a page when asked for."""
    words = [str(data) if word == "DATA" else word for word in RUNS[name]]
    document = run(*name.split(), *words, "--json").document
    cited = list(lines_of(document))
    assert cited
    assert all(cited)
    plain, asked = (run(*name.split(), *words, *more) for more in ((), ("--citations",)))
    assert plain.code == asked.code == 0
    shown = " ".join(asked.out.split())
    first = " ".join(cited[0].split()[:4])
    assert first in shown
    assert len(asked.out) > len(plain.out)
    assert "Citations" not in plain.out


def test_several_machines_are_told_apart(run: Run) -> None:
    """One line of coefficients per machine, with its name: they need not come from the same fit."""
    machines = ("h100-sxm", "a100-sxm-80gb")
    asked = ("llama-3.1-8b", "--task", "decode", "--vary", "machine=" + ",".join(machines))
    lines = run("sweep", *asked, "--json").document["citations"]
    for machine in machines:
        assert any(line.startswith(f"{machine}: gemm coefficients") for line in lines)


def test_the_operating_curve_cites_its_engine(run: Run) -> None:
    document = run("analyze", *DEPLOYED, "--task", "serve", "--json").document
    assert any("vLLM" in line for line in document["citations"])
