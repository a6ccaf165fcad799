"""``ridgepoint reproduce``: what papers report, beside what is predicted for their setups."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.files import Charts, Html, chart_files, write_charts
from ridgepoint.cli.output import command_line, print_json, progress_bar
from ridgepoint.cli.panels import Json
from ridgepoint.errors import RidgepointError


def reproduce(
    slugs: Annotated[
        list[str] | None, typer.Argument(metavar="[SLUG]…", help="Papers; `ridgepoint papers list` shows all")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every claim that is modelled.")] = False,
    mechanism: Annotated[str, typer.Option("--mechanism", metavar="TAG", help="The claims of one mechanism.")] = "",
    record: Annotated[
        bool, typer.Option("--record", help="Keep the summary by paper that advise shows (for a checkout).")
    ] = False,
    html: Html = None,
    chart: Charts = None,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """Papers' figures predicted: reported, predicted, ratio, and what had to be assumed."""
    from ridgepoint.evidence.claims import claims
    from ridgepoint.evidence.record import write_record
    from ridgepoint.evidence.reproduce import citations as cited
    from ridgepoint.evidence.reproduce import document
    from ridgepoint.evidence.reproduce import reproduce as run

    if not slugs and not everything and not mechanism:
        raise RidgepointError("bad_request", "no paper is given", "name papers, or use --all or --mechanism TAG")
    files = chart_files(chart)
    with progress_bar(as_json) as progress:
        task = progress.add_task("claims", total=len(claims()) if everything else None) if progress else None
        found = run(
            slugs or None,
            mechanism,
            lambda: progress.advance(task) if progress and task is not None else None,
            workers=os.cpu_count() or 1,
        )
    if record:
        write_record(found)
    if html is not None:
        from ridgepoint.files import write_whole
        from ridgepoint.report.html_reproduce import reproduce_page as html_page

        write_whole(html, html_page(found, command_line()))
    if files:
        from ridgepoint.report.html_reproduce import pictures

        write_charts(files, lambda: pictures(found), "Papers' figures, predicted")
    if as_json:
        print_json(document(found))
        return
    from ridgepoint.report.reproduce import reproduce_page

    print_answer(lambda width: reproduce_page(found, width), cited(found) if citations else ())
