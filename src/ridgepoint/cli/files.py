"""``--html``, ``--chart`` and ``--perfetto``: the files that commands write beside what they print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ridgepoint.estimates import Estimate
    from ridgepoint.report.picture import Picture
    from ridgepoint.report.picture_file import Wanted

Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the report as one page with charts.", show_default=False),
]
"""Annotation of a command's parameter ``html``."""
Charts = Annotated[
    list[str] | None,
    typer.Option(
        "--chart",
        metavar="[NAME=]FILE",
        help="Write its charts, or the one of that name, as .svg, .png or .pdf; may be repeated.",
        show_default=False,
    ),
]
"""Annotation of a command's parameter ``chart``; ``chart_files`` reads it before anything is computed."""

Perfetto = Annotated[
    Path | None,
    typer.Option(
        "--perfetto",
        metavar="FILE",
        help="Write its time line for ui.perfetto.dev: .json or .json.gz.",
        show_default=False,
    ),
]
"""Annotation of a command's parameter ``perfetto``."""


def write_trace(est: Estimate, path: Path) -> None:
    """Write the time line of an estimate.

    Errors: ``bad_file``.
    """
    from ridgepoint.traces.perfetto import write
    from ridgepoint.traces.work_line import estimate_trace

    write(estimate_trace(est), path)


def chart_files(said: Sequence[str] | None) -> list[Wanted]:
    """The files that ``--chart`` asks for.

    Errors: ``bad_option``, ``missing_extra``.
    """
    if not said:
        return []
    from ridgepoint.report.picture_file import wanted

    return wanted(said)


def write_charts(files: Sequence[Wanted], draw: Callable[[], Sequence[Picture]], title: str) -> None:
    """Write the charts that were asked for, each from those that ``draw`` gives.

    Errors: ``unknown_chart`` before anything is written; ``bad_file``.
    """
    if files:
        from ridgepoint.report.picture_file import chosen

        drawn = draw()
        write_named(files, lambda name: chosen(drawn, name), title)


def write_named(files: Sequence[Wanted], draw: Callable[[str], Sequence[Picture]], title: str) -> None:
    """As ``write_charts``; ``draw`` gives the charts of a name, or those that are usual."""
    if files:
        from ridgepoint.report.picture_file import write_pictures

        for path, pictures in [(file.path, draw(file.name)) for file in files]:
            write_pictures(pictures, title, path)
