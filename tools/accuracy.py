"""Rewrite the tables of docs/accuracy.md with what ``ridgepoint validate`` prints now.

    python tools/accuracy.py DATA [WORD…]     tables whose section holds one of the words; all without words

A section of the page is a heading, text, and one block ``text`` that shows a table of the command named in ``SECTIONS``.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "accuracy.md"


@dataclass(frozen=True)
class Section:
    """A heading of the page, the arguments that print its table, and how the table starts in the output."""

    heading: str
    arguments: tuple[str, ...]
    start: str


CLASSES, GROUPS = "By class", "group "
LONG = "fitted on"
"""The last column of the machines left out: too long for the page."""
SECTIONS = (
    Section("Kernels, all machines", ("--kind", "kernels"), CLASSES),
    Section("Kernels, by group", ("--kind", "kernels"), GROUPS),
    Section("Whole runs", ("--kind", "runs"), CLASSES),
    Section("Whole runs, by group", ("--kind", "runs"), GROUPS),
    Section("Memory", ("--kind", "memory"), CLASSES),
    Section("Memory, by group", ("--kind", "memory"), GROUPS),
    Section("Machines left out", ("--leave-one-out",), GROUPS),
    Section("Machines left out, attention", ("--leave-one-out", "--table", "attention"), GROUPS),
)


def table(printed: str, start: str) -> list[str]:
    """The lines from the one that begins with ``start`` to the next empty line."""
    lines = printed.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith(start)), None)
    if first is None:
        raise SystemExit(f"the output has no line that begins with {start!r}")
    last = next((i for i in range(first, len(lines)) if not lines[i].strip()), len(lines))
    width = lines[first].find(LONG)
    return [(line if width < 0 else line[:width]).rstrip() for line in lines[first:last]]


def replaced(page: str, heading: str, lines: list[str]) -> str:
    """The page with the first ``text`` block under a heading holding these lines."""
    pattern = re.compile(rf"(^## {re.escape(heading)}\n.*?^```text\n)(.*?)(^```$)", re.DOTALL | re.MULTILINE)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE.name} has no section '{heading}' with a text block")
    return pattern.sub(lambda found: found[1] + "\n".join(lines) + "\n" + found[3], page, count=1)


def printed_by(data: str, arguments: tuple[str, ...]) -> str:
    """What the command prints at a width of 120."""
    command = [sys.executable, "-m", "ridgepoint", "validate", "--data", data, *arguments]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def main(data: str, words: list[str]) -> None:
    """Run each command once and rewrite its tables."""
    wanted = [s for s in SECTIONS if not words or any(word.lower() in s.heading.lower() for word in words)]
    outputs = {arguments: printed_by(data, arguments) for arguments in dict.fromkeys(s.arguments for s in wanted)}
    page = PAGE.read_text("utf-8")
    for section in wanted:
        page = replaced(page, section.heading, table(outputs[section.arguments], section.start))
    PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
