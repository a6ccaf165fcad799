"""An estimate as a page for the terminal: what it takes, what limits it, what fits, where the time goes."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ridgepoint.estimates import Estimate
from ridgepoint.report.headline import headline, results, summary
from ridgepoint.report.limits import limit_table
from ridgepoint.report.memory import fit_words, memory_table, memory_text
from ridgepoint.report.where import component_table

SIDE_BY_SIDE = 96
"""Columns from which limits and memory stand beside each other."""
INDENT = 2
GUTTER = 3


def page(est: Estimate, width: int) -> RenderableType:
    """The whole report of one scenario for a terminal of ``width`` columns."""
    return Group(*_sections(est, width))


def _sections(est: Estimate, width: int) -> Iterator[RenderableType]:
    yield headline(est)
    yield Text("")
    if not est.memory.fits:
        yield _refusal(est)
    yield indented(results(est, width - INDENT))
    yield Text("")
    yield summary(est, width)
    yield Text("")
    yield _limits_and_memory(est, width)
    yield Text("")
    yield section("Where the time goes", component_table(est, width - INDENT))
    yield from notes("Warnings", est.warnings, "yellow")
    yield from notes("Assumptions", est.assumptions, "dim")


def _refusal(est: Estimate) -> RenderableType:
    """Above every figure, so that nobody plans with the time of a run that cannot start."""
    fits, used, most = fit_words(est)
    but = f" ({most})" if most else ""
    return indented(Text.assemble((f"It {fits} in memory", "bold red"), f": {used}{but}. If it did:"))


def _limits_and_memory(est: Estimate, width: int) -> RenderableType:
    wide = width >= SIDE_BY_SIDE
    left = width // 2 if wide else width
    right = width - left - GUTTER if wide else width
    limits = section("What limits it", limit_table(est, left - INDENT))
    memory = section("Memory", memory_table(est, right - INDENT), memory_text(est))
    if not wide:
        return Group(limits, Text(""), memory)
    beside = Table.grid(padding=(0, GUTTER, 0, 0), pad_edge=False)
    beside.add_column(width=left)
    beside.add_column(width=right)
    beside.add_row(limits, memory)
    return beside


def section(title: str, *content: RenderableType) -> RenderableType:
    """A title and what is under it."""
    return Group(Text(title, style="bold cyan"), *(indented(part) for part in content))


def indented(content: RenderableType) -> RenderableType:
    """Content below a title."""
    return Padding(content, (0, 0, 0, INDENT))


def notes(title: str, lines: tuple[str, ...], style: str) -> Iterator[RenderableType]:
    """Sentences under a title, one bullet each; nothing where there are none."""
    if not lines:
        return
    table = Table.grid(padding=(0, 1, 0, 0))
    for line in lines:
        table.add_row(Text("•", style=style), Text(line, style=style))
    yield Text("")
    yield section(title, table)
