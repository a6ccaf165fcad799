"""``--citations``: the option of every command that computes something, and how its answer is printed (design §7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from ridgepoint.cli.output import print_page

if TYPE_CHECKING:
    from rich.console import Console

Citations = Annotated[bool, typer.Option("--citations", help="Print what the figures rely on.", show_default=False)]
"""Annotation of a command's parameter ``citations``; its JSON document has the lines under ``citations`` in any case."""


def print_citations(lines: Iterable[str], on: Console) -> None:
    """The lines below a page."""
    from rich.console import Group

    from ridgepoint.report.terminal import notes

    print_page(Group(*notes("Citations", tuple(lines), "dim")), on)
