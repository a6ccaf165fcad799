"""``ridgepoint advise``: what would lift the limit, ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.files import Charts, Html, chart_files, write_charts
from ridgepoint.cli.options import takes_scenario
from ridgepoint.cli.output import command_line, print_json
from ridgepoint.cli.panels import Json
from ridgepoint.errors import RidgepointError
from ridgepoint.request import Request, to_scenario
from ridgepoint.units import parse_quantity

_ADVICE = "Advice"


@takes_scenario
def advise(
    request: Request,
    top: Annotated[
        int, typer.Option("--top", metavar="N", min=1, help="Remedies to show.", rich_help_panel=_ADVICE)
    ] = 10,
    combine: Annotated[
        bool, typer.Option("--combine", help="Also techniques together.", rich_help_panel=_ADVICE)
    ] = False,
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            metavar="NAME",
            help="latency (default), throughput, cost, energy or memory; serving: throughput (default), cost, latency.",
            rich_help_panel=_ADVICE,
            show_default=False,
        ),
    ] = "",
    quality: Annotated[
        str,
        typer.Option("--quality", metavar="GRADE", help="exact (same answers), near or any.", rich_help_panel=_ADVICE),
    ] = "near",
    training_free: Annotated[
        bool, typer.Option("--training-free", help="Only what needs no training.", rich_help_panel=_ADVICE)
    ] = False,
    ttft: Annotated[
        str | None, typer.Option("--ttft", metavar="TIME", help="Most to the first token.", rich_help_panel=_ADVICE)
    ] = None,
    tpot: Annotated[
        str | None, typer.Option("--tpot", metavar="TIME", help="Most per further token.", rich_help_panel=_ADVICE)
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="R", help="Requests per second (serving).", rich_help_panel=_ADVICE),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="NAME", help="vllm, sglang or trtllm (serving).", rich_help_panel=_ADVICE),
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Most per device.", rich_help_panel=_ADVICE)
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what does not help or apply, and why.", rich_help_panel=_ADVICE)
    ] = False,
    own: Annotated[
        Path | None,
        typer.Option(
            "--techniques", metavar="FILE.py", help="A file that registers your own.", rich_help_panel=_ADVICE
        ),
    ] = None,
    html: Html = None,
    chart: Charts = None,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """What would lift the limit: techniques ranked by what they bring, and hardware that would do as much."""
    from ridgepoint.advice.advice import advice
    from ridgepoint.advice.remedies import Limits
    from ridgepoint.techniques.registry import load_file

    if own is not None:
        load_file(own)
    files = chart_files(chart)
    limits = Limits(_quantity(ttft, "s"), _quantity(tpot, "s"), _quantity(memory, "B"), quality, training_free)
    if request.task == "serve":
        from ridgepoint.cli.advise_serve import serve

        others = {"--memory": memory is not None, "--html": html is not None, "--chart": bool(files)}
        serve(request, others, (rate, engine), objective, limits, (top, combine, everything), citations, as_json)
        return
    if rate is not None or engine is not None:
        said = "--rate" if rate is not None else "--engine"
        raise RidgepointError("bad_option", f"{said} belongs to the task serve", "add --task serve")
    found = advice(to_scenario(request), objective or "latency", limits)
    if html is not None:
        from ridgepoint.files import write_whole
        from ridgepoint.report.html_advice import advice_page as html_page

        write_whole(html, html_page(found, command_line()))
    if files:
        from ridgepoint.report.html_advice import pictures

        write_charts(
            files,
            lambda: pictures(found),
            f"{found.baseline.scenario.model.name} on {found.baseline.scenario.machine.name}",
        )
    if as_json:
        print_json(found.to_dict())
        return
    from ridgepoint.report.advice import advice_page

    print_answer(
        lambda width: advice_page(found, width, top, combine, everything), found.citations if citations else ()
    )


def _quantity(text: str | None, unit: str) -> float | None:
    return None if text is None else parse_quantity(text, unit)
