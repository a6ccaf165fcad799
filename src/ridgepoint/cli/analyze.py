"""``ridgepoint analyze``: what a model takes on a machine, and what limits it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ridgepoint.cli.citing import Citations, print_citations
from ridgepoint.cli.files import Charts, Html, Perfetto, chart_files, write_charts, write_trace
from ridgepoint.cli.options import takes_scenario
from ridgepoint.cli.output import command_line, console, print_json, print_page
from ridgepoint.cli.panels import Json
from ridgepoint.files import write_whole
from ridgepoint.request import Request, to_scenario
from ridgepoint.scenario_file import write_request

if TYPE_CHECKING:
    from rich.console import Console

    from ridgepoint.estimates import Estimate


@takes_scenario
def analyze(
    request: Request,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse an op without a rule instead of guessing.")] = False,
    bound: Annotated[bool, typer.Option("--bound", help="Show the physical limit and what makes it up.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE.toml", help="Write the scenario to a file.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw the roofline with its components.")] = False,
    html: Html = None,
    chart: Charts = None,
    perfetto: Perfetto = None,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """What a model takes on a machine: time, its limit, the bottleneck, memory, energy and money."""
    if request.task == "serve":
        from ridgepoint.cli.operating import serve

        others = {"--strict": strict, "--bound": bound, "--plot": plot}
        written = {"--save": save is not None, "--perfetto": perfetto is not None}
        serve(request, others | written, html, chart_files(chart), citations, as_json)
        return
    from ridgepoint.document import document
    from ridgepoint.estimates import Estimate

    files = chart_files(chart)
    est = Estimate(to_scenario(request), strict, "bound" if bound else "expected")
    if save is not None:
        write_request(request, save)
    if html is not None:
        from ridgepoint.report.html_estimate import estimate_page
        from ridgepoint.report.html_train import pipeline_sections

        write_whole(html, estimate_page(est, command_line(), list(pipeline_sections(est))))
    if files:
        from ridgepoint.report.charts import pictures

        write_charts(files, lambda: pictures(est), f"{est.scenario.model.name} on {est.scenario.machine.name}")
    if perfetto is not None:
        write_trace(est, perfetto)
    if as_json:
        print_json(document(est))
        return
    from ridgepoint.report.terminal import page

    screen = console()
    print_page(page(est, screen.width), screen)
    if plot:
        from ridgepoint.report.plot import plot as picture

        print()
        print_page(picture(est, screen.width), screen)
        if request.task == "train":
            print_pipeline(est, screen)
    if citations:
        print_citations(est.citations, screen)


def print_pipeline(est: Estimate, screen: Console) -> None:
    """The schedule of a training step with several stages, and the memory of each over the step."""
    from ridgepoint.report.schedule import pipeline_page
    from ridgepoint.training.timeline import has_pipeline

    if has_pipeline(est):
        print()
        print_page(pipeline_page(est, screen.width), screen)
