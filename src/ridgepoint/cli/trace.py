"""``ridgepoint trace``: what a PyTorch profile says, and a prediction beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.files import Charts, Html, chart_files, write_charts
from ridgepoint.cli.options import may_take_scenario
from ridgepoint.cli.output import command_line, print_json, progress_bar
from ridgepoint.cli.panels import Json
from ridgepoint.errors import RidgepointError
from ridgepoint.request import Request, to_scenario

DEFAULT_ROWS = 12


@may_take_scenario
def trace(
    request: Request | None,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export_chrome_trace wrote: .json or .json.gz")],
    runs: Annotated[
        float | None,
        typer.Option("--runs", metavar="N", help="Executions of the task in the trace (its steps, or 1)."),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Rows of each table.")] = DEFAULT_ROWS,
    html: Html = None,
    chart: Charts = None,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """Time by op and by component, idle time and why, launches, overlap; with --model and --on also a prediction."""
    from ridgepoint.estimates import Estimate
    from ridgepoint.traces.compare import compare
    from ridgepoint.traces.document import document
    from ridgepoint.traces.profile import read_profile

    if request is None and runs is not None:
        raise RidgepointError("bad_usage", "--runs is given without a model", "add --model MODEL")
    files = chart_files(chart)
    estimate = None if request is None else Estimate(to_scenario(request))
    with progress_bar(as_json) as bar:
        if bar is not None:
            bar.add_task("reading", total=None)
        found = read_profile(file)
    beside = None if estimate is None else compare(found, estimate, runs)
    if html is not None:
        from ridgepoint.files import write_whole
        from ridgepoint.report.html_trace import trace_page as html_page

        write_whole(html, html_page(found, beside, command_line()))
    if files:
        from ridgepoint.report.html_trace import pictures

        write_charts(files, lambda: pictures(found), found.trace.title)
    if as_json:
        print_json(document(found, beside))
        return
    from ridgepoint.report.trace import trace_page

    cited = estimate.citations if citations and estimate is not None else ()
    print_answer(lambda width: trace_page(found, width, beside, top), cited)
