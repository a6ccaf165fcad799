"""``--citations``: the option of every command that computes something, and how its answer is printed (design §7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from ridgepoint.cli.output import console, print_page

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Citations = Annotated[bool, typer.Option("--citations", help="Print what the figures rely on.", show_default=False)]
"""Annotation of a command's parameter ``citations``; its JSON document has the lines under ``citations`` in any case."""


def print_answer(page: Callable[[int], RenderableType], citations: Iterable[str] = ()) -> None:
    """The page of a number of columns on stdout, and the citations that were asked for below it."""
    screen = console()
    print_page(page(screen.width), screen)
    print_citations(citations, screen)


def print_citations(lines: Iterable[str], on: Console) -> None:
    """The lines below a page; nothing where there are none."""
    from rich.console import Group

    from ridgepoint.report.terminal import notes

    if said := tuple(lines):
        print_page(Group(*notes("Citations", said, "dim")), on)
