"""Run the documentation: the blocks of a Markdown file, the commands they show, and the outputs they promise.

A fenced block whose info string is exactly ``console`` is a terminal session: a line that starts with ``$`` is a
command (continued while it ends in a backslash), and what follows, up to the next one, is its output. Commands of this
project are run; others are left alone. A line that says only ``…`` stands for any number of lines. A block that is
exactly ``python`` is run too, all blocks of a file in one namespace; where it holds ``>>>`` it is a doctest.

    python tests/docs_tool.py             says which outputs differ
    python tests/docs_tool.py --update    rewrites those outputs in place
"""

import argparse
import difflib
import doctest
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ANY_LINES = "…"
NEEDS_TORCH = (".py:", ".work.json", "hf:")
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)$")
FORCED_COLOUR = ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
TIMEOUT_S = 120

Runner = Callable[[str], str]


@dataclass(frozen=True)
class Block:
    """One fenced block: its info string, its lines without the fence's indent, and the line number of the first."""

    info: str
    lines: tuple[str, ...]
    first_line: int
    indent: str = ""


@dataclass(frozen=True)
class Command:
    """One command of a console block, with the output that the text promises and where that output stands."""

    text: str
    expected: tuple[str, ...]
    line: int
    output_line: int
    indent: str = ""

    @property
    def possible(self) -> bool:
        """Whether everything it needs is installed: code is captured with PyTorch, which is an extra."""
        return not any(mark in self.text for mark in NEEDS_TORCH) or find_spec("torch") is not None

    @property
    def runs(self) -> bool:
        """Whether the command is this project's own."""
        return self.text.split(maxsplit=1)[:1] == ["ridgepoint"]


def documents(root: Path = ROOT) -> list[Path]:
    """The files whose blocks are run: the README and the pages of docs/."""
    found = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    return [path for path in found if path.is_file()]


def blocks(markdown: str) -> Iterator[Block]:
    """The fenced blocks of a text, in order; raises ValueError for one that is never closed.

    >>> [block.lines for block in blocks("text\\n```python\\nx = 1\\n```\\n")]
    [('x = 1',)]
    """
    opened: re.Match[str] | None = None
    body: list[str] = []
    start = 0
    for number, line in enumerate(markdown.split("\n"), 1):
        fence = FENCE.match(line)
        if opened is None:
            if fence:
                opened, body, start = fence, [], number + 1
        elif fence and len(fence["ticks"]) >= len(opened["ticks"]) and not fence["info"].strip():
            yield Block(opened["info"].strip(), tuple(body), start, opened["indent"])
            opened = None
        else:
            body.append(line.removeprefix(opened["indent"]))
    if opened is not None:
        raise ValueError(f"line {start - 1}: a fenced block is opened and never closed")


def commands(block: Block) -> Iterator[Command]:
    """The commands of a console block with their outputs; lines before the first command belong to none."""
    lines = block.lines
    at = 0
    while at < len(lines):
        if not lines[at].startswith("$ "):
            at += 1
            continue
        first = at
        text = lines[at][2:]
        while text.endswith("\\") and at + 1 < len(lines):
            at += 1
            text = text[:-1] + lines[at].removeprefix("> ").lstrip()
        at = output = at + 1
        while at < len(lines) and not lines[at].startswith("$ "):
            at += 1
        yield Command(text.strip(), lines[output:at], block.first_line + first, block.first_line + output, block.indent)


def console_commands(markdown: str) -> list[Command]:
    """The commands of a text that this project can run."""
    sessions = (block for block in blocks(markdown) if block.info == "console")
    return [command for block in sessions for command in commands(block) if command.runs]


def python_blocks(markdown: str) -> list[Block]:
    """The Python blocks of a text."""
    return [block for block in blocks(markdown) if block.info == "python"]


def normalized(lines: Iterable[str]) -> list[str]:
    """The lines without trailing spaces and without empty lines at the end."""
    kept = [line.rstrip() for line in lines]
    while kept and not kept[-1]:
        kept.pop()
    return kept


def matches(expected: Sequence[str], actual: Sequence[str]) -> bool:
    """Whether the lines are the expected ones, where a line ``…`` stands for any number of lines.

    >>> matches(["a", "…", "d"], ["a", "b", "c", "d"]), matches(["a", "…"], ["b"]), matches(["…"], [])
    (True, False, True)
    """
    pattern = "".join(
        r"(?:[^\n]*\n)*" if line.strip() == ANY_LINES else re.escape(line) + r"\n" for line in normalized(expected)
    )
    return re.fullmatch(pattern, "".join(line + "\n" for line in normalized(actual))) is not None


def shell(text: str) -> str:
    """What the command prints, errors included, in a plain terminal of 100 columns at the root of the checkout.

    The root is a folder of links to what is there: files that a command writes do not stay.
    """
    environment = {name: value for name, value in os.environ.items() if name not in FORCED_COLOUR}
    environment |= {
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "PYTHONUTF8": "1",
        "RIDGEPOINT_CATALOG": str(Path(tempfile.gettempdir()) / "ridgepoint-docs"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    with tempfile.TemporaryDirectory() as outside:
        folder = Path(outside) / ROOT.name
        folder.mkdir()
        for entry in ROOT.iterdir():
            (folder / entry.name).symlink_to(entry)
        done = subprocess.run(
            text,
            shell=True,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )
    return done.stdout


def difference(command: Command, printed: str) -> str:
    """Empty where the output is the promised one, else what differs; a traceback is never right."""
    actual = normalized(printed.splitlines())
    crashed = any(line.startswith("Traceback (most recent call last)") for line in actual)
    if matches(command.expected, actual) and not crashed:
        return ""
    changes = difflib.unified_diff(normalized(command.expected), actual, "in the text", "printed", lineterm="", n=2)
    return "\n".join([f"line {command.line}: $ {command.text}", *changes])


def updated(markdown: str, run: Runner = shell) -> str:
    """The text with every output that no longer holds replaced by what the command prints now."""
    lines = markdown.split("\n")
    for command in reversed(console_commands(markdown)):
        if not command.possible:
            continue
        printed = run(command.text)
        if difference(command, printed):
            at = command.output_line - 1
            fresh = [(command.indent + line).rstrip() for line in normalized(printed.splitlines())]
            lines[at : at + len(command.expected)] = fresh
    return "\n".join(lines)


def run_python(found: Sequence[Block], name: str) -> None:
    """Run Python blocks one after the other in one namespace; raises what they raise, or on a wrong doctest output."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in found:
        source = "\n".join(block.lines) + "\n"
        if ">>> " in source:
            run_doctest(source, namespace, name, block.first_line)
        else:
            code = compile("\n" * (block.first_line - 1) + source, name, "exec")
            exec(code, namespace)


def run_doctest(source: str, namespace: dict[str, Any], name: str, first_line: int) -> None:
    """Run one block of doctest examples in the namespace; raises AssertionError with the report of what failed."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(source, namespace, name, name, first_line - 1)
    report: list[str] = []
    failed = doctest.DocTestRunner(verbose=False, optionflags=flags).run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    if failed.failed:
        raise AssertionError("".join(report))


def main(arguments: Sequence[str] | None = None) -> int:
    """Report the outputs that differ, or rewrite them; the exit status is 1 when something differed and was left."""
    parser = argparse.ArgumentParser(description="compare the outputs that the documentation shows with real ones")
    parser.add_argument("--update", action="store_true", help="rewrite the outputs that differ")
    parser.add_argument("files", nargs="*", type=Path, help="Markdown files (default: README.md and docs/*.md)")
    options = parser.parse_args(arguments)
    status = 0
    for path in options.files or documents():
        markdown = path.read_text(encoding="utf-8")
        if options.update:
            fresh = updated(markdown)
            if fresh != markdown:
                path.write_text(fresh, encoding="utf-8")
                print(f"{path}: updated")
            continue
        for command in filter(lambda c: c.possible, console_commands(markdown)):
            if changes := difference(command, shell(command.text)):
                print(f"{path}, {changes}\n")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
