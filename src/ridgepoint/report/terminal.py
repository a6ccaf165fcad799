"""An estimate as a page for the terminal: what it takes, what limits it, what fits, where the time goes."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ridgepoint.estimate import Estimate
from ridgepoint.report.headline import headline, results, summary
from ridgepoint.report.limits import limit_table
from ridgepoint.report.memory import memory_lines, memory_table
from ridgepoint.report.where import component_table

SIDE_BY_SIDE = 96
"""Columns from which limits and memory stand beside each other."""


def page(est: Estimate, width: int) -> RenderableType:
    """The whole report of one scenario for a terminal of ``width`` columns."""
    return Group(*_sections(est, width))


def _sections(est: Estimate, width: int) -> Iterator[RenderableType]:
    yield headline(est)
    yield Text("")
    yield Padding(results(est), (0, 0, 0, 2))
    yield Text("")
    yield summary(est)
    yield Text("")
    yield from _limits_and_memory(est, width)
    yield Text("")
    yield section("Where the time goes")
    yield Padding(component_table(est, width - 2), (0, 0, 0, 2))
    yield from _notes("Warnings", list(est.warnings), "yellow")
    yield from _notes("Assumptions", list(est.assumptions), "dim")


def _limits_and_memory(est: Estimate, width: int) -> Iterator[RenderableType]:
    if width < SIDE_BY_SIDE:
        yield section("What limits it")
        yield Padding(limit_table(est, 20), (0, 0, 0, 2))
        yield Text("")
        yield section("Memory")
        yield Padding(memory_table(est, 24), (0, 0, 0, 2))
        yield Padding(memory_lines(est), (0, 0, 0, 2))
        return
    beside = Table.grid(padding=(0, 4, 0, 0), pad_edge=False)
    left = Group(section("What limits it"), Padding(limit_table(est, 12), (0, 0, 0, 2)))
    right = Group(section("Memory"), Padding(Group(memory_table(est, 12), memory_lines(est)), (0, 0, 0, 2)))
    beside.add_row(left, right)
    yield beside


def section(title: str) -> Text:
    """A section's title."""
    return Text(title, style="bold cyan")


def _notes(title: str, notes: list[str], style: str) -> Iterator[RenderableType]:
    if not notes:
        return
    yield Text("")
    yield section(title)
    lines = Table.grid(padding=(0, 1, 0, 0))
    for note in notes:
        lines.add_row(Text("  •", style=style), Text(note, style=style))
    yield lines
