"""The documentation is executed: the commands that it shows print what it says, and its Python runs (design §9)."""

from pathlib import Path

import pytest

from tests.docs_tool import (
    ROOT,
    Block,
    Command,
    console_commands,
    difference,
    documents,
    python_blocks,
    run_python,
    shell,
)

TEXTS = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in documents()}

COMMANDS = [
    pytest.param(command, id=f"{path}:{command.line}")
    for path, text in TEXTS.items()
    for command in console_commands(text)
]
PYTHON = [pytest.param(path, found, id=str(path)) for path, text in TEXTS.items() if (found := python_blocks(text))]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_what_the_text_says(command: Command) -> None:
    if not command.possible:
        pytest.skip("capturing code needs the extra 'capture'")
    changes = difference(command, shell(command.text))
    assert not changes, f"{changes}\n\npython tests/docs_tool.py --update rewrites it"


@pytest.mark.parametrize(("path", "found"), PYTHON)
def test_python_blocks_run(path: Path, found: list[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run_python(found, str(path))
