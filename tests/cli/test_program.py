"""The program as a process: version, help, pipes, colours (design §9, §10)."""

import json
import os
import subprocess
import sys
from typing import Any

import typer
from rich.text import Text

from ridgepoint import __version__
from ridgepoint.cli import app
from ridgepoint.cli.guard import load
from tests.cli.conftest import Run

COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE")


def start(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in COLOURS} | more
    command = [sys.executable, "-m", "ridgepoint", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


# design §10
def test_version_and_help(run: Run) -> None:
    assert run("--version").out == f"ridgepoint {__version__}\n"
    for arguments in (("--help",), ("-h",), ()):
        answer = run(*arguments)
        assert answer.code == 0
        for command in ("analyze", "models", "machines"):
            assert command in answer.out


def test_help_shows_what_was_written() -> None:
    """Help is read as markup: words in brackets vanish, and words between colons become pictures."""

    def commands(name: str) -> list[Any]:
        command: Any = load(name)
        return [*command.commands.values()] if hasattr(command, "commands") else [command]

    root: Any = typer.main.get_command(app)
    found = [option.help for name in root.commands for command in commands(name) for option in command.params]
    assert len(found) > 300
    for words in found:
        assert Text.from_markup(words or "").plain == (words or "")


# design §10
def test_what_is_piped_has_no_escapes_and_keeps_to_its_width() -> None:
    for width in (80, 100, 120):
        page = start("analyze", "llama-3.1-8b", "--on", "h100-sxm", COLUMNS=str(width))
        assert page.returncode == 0, page.stderr
        assert "\x1b" not in page.stdout
        assert max(map(len, page.stdout.splitlines())) <= width
        assert not any(line.endswith(" ") for line in page.stdout.splitlines())


# design §10
def test_an_ascii_terminal_gets_question_marks_instead_of_an_error() -> None:
    page = start("analyze", "llama-3.1-8b", "--on", "h100-sxm", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert page.returncode == 0, page.stderr
    assert "Bottleneck:" in page.stdout


# design §10
def test_a_reader_that_leaves_early_sees_no_complaint() -> None:
    command = f"{sys.executable} -m ridgepoint models list --json | head -n 1"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout == "[\n"
    assert found.stderr == ""


# design §9
def test_json_needs_no_terminal_library() -> None:
    code = (
        "import sys; sys.argv = ['ridgepoint', 'analyze', 'llama-3.1-8b', '--on', 'h100-sxm', '--json']\n"
        "from ridgepoint.cli import main\n"
        "try: main()\n"
        "except SystemExit: print([m for m in ('rich.table', 'rich.console') if m in sys.modules], file=sys.stderr)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(found.stdout)["model"] == "llama-3.1-8b"
    assert found.stderr.strip() == "[]"
