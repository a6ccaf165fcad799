"""``ridgepoint simulate``: a deployment serves requests, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ridgepoint.cli.cascades import Cascades, Routes, further
from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.deployments import takes_deployment
from ridgepoint.cli.files import Charts, Html, chart_files, write_charts
from ridgepoint.cli.loads import LOAD, Arrivals, Output, Prompt, Rate, Seed, Trace, load_of
from ridgepoint.cli.numbers import whole_number
from ridgepoint.cli.output import command_line, print_json, progress_bar, teller
from ridgepoint.cli.panels import valued
from ridgepoint.errors import RidgepointError
from ridgepoint.units import parse_quantity

if TYPE_CHECKING:
    from ridgepoint.serving.workload import Requests

GOALS, OUT = "Goals", "Output"


@takes_deployment
def simulate(
    given: Any,
    trace: Trace = None,
    rate: Rate = None,
    concurrency: Annotated[
        str | None, valued("--concurrency", "N", "clients, each with one request at a time", LOAD)
    ] = None,
    prompt: Prompt = None,
    output: Output = None,
    arrivals: Arrivals = None,
    turns: Annotated[
        float | None, valued("--turns", "N", "mean turns of conversations that share prefixes", LOAD)
    ] = None,
    think: Annotated[str | None, valued("--think", "TIME", "mean pause of a user between turns (10s)", LOAD)] = None,
    system: Annotated[
        str | None, valued("--system", "N", "tokens of a system prompt that all conversations share (0)", LOAD)
    ] = None,
    urgent: Annotated[float | None, valued("--urgent", "P", "part of the requests that go before others", LOAD)] = None,
    requests: Annotated[
        str | None, valued("--requests", "N", "requests to simulate (2000; a trace's: all)", LOAD)
    ] = None,
    hashed: Annotated[
        int | None, valued("--hash-tokens", "N", "tokens of a block in prefix_hash_ids (512)", LOAD)
    ] = None,
    seed: Seed = 0,
    ttft: Annotated[str | None, valued("--ttft", "TIME", "goal: time to first token", GOALS)] = None,
    tpot: Annotated[str | None, valued("--tpot", "TIME", "goal: mean time per further token", GOALS)] = None,
    latency: Annotated[str | None, valued("--latency", "TIME", "goal: time in all", GOALS)] = None,
    cascade: Cascades = None,
    route: Routes = None,
    table: Annotated[Path | None, valued("--csv", "FILE", "one row per request", OUT)] = None,
    perfetto: Annotated[Path | None, valued("--perfetto", "FILE", "a trace for ui.perfetto.dev", OUT)] = None,
    html: Html = None,
    chart: Charts = None,
    citations: Citations = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=OUT)] = False,
) -> None:
    """Serve requests one by one: latencies, throughput, goodput, what limits it."""
    from ridgepoint.report.request_files import write_csv, write_perfetto
    from ridgepoint.serving.outcome import Slo
    from ridgepoint.serving.simulate import simulate_requests
    from ridgepoint.serving.summary import document

    files = chart_files(chart)
    count = None if requests is None else whole_number("--requests", requests)
    said = {"--trace": trace, "--rate": rate, "--concurrency": concurrency, "--prompt": prompt, "--output": output}
    more = {"--arrivals": arrivals, "--turns": turns, "--think": think, "--system": system, "--hash-tokens": hashed}
    load = load_of({**said, **more}, count, seed)
    if urgent is not None:
        load = load.with_urgent(urgent, seed)
    slo = Slo(*(None if v is None else parse_quantity(v, "s") for v in (ttft, tpot, latency)))
    if cascade or route:
        files_said = {"--csv": table, "--perfetto": perfetto, "--html": html, "--chart": chart}
        _several(given, further(cascade, route, given), load, slo, seed, files_said, citations, as_json)
        return
    with progress_bar(as_json) as bar:
        found = simulate_requests(given, load, slo, seed, teller(bar, "requests"))
    if files:  # first: a chart that there is not is refused before anything is written
        from ridgepoint.report.html_simulation import pictures

        write_charts(files, lambda: pictures(found), f"{given.model.name} on {given.machine_name}")
    if table is not None:
        write_csv(found, table)
    if perfetto is not None:
        write_perfetto(found, perfetto)
    if html is not None:
        from ridgepoint.files import write_whole
        from ridgepoint.report.html_simulation import simulation_page

        write_whole(html, simulation_page(found, command_line()))
    if as_json:
        print_json(document(found))
        return
    from ridgepoint.report.simulation import page

    print_answer(lambda width: page(found, width), found.citations if citations else ())


def _several(
    given: Any, several: Any, load: Requests, slo: Any, seed: int, files: dict[str, Any], citations: bool, as_json: bool
) -> None:
    """Serve the requests with several models, and print what users saw."""
    from ridgepoint.report.cascade import document, page
    from ridgepoint.serving.cascade import simulate_cascade

    named = [option for option, path in files.items() if path]
    if named:
        raise RidgepointError(
            "bad_usage", f"{named[0]} draws one model", "simulate the models one by one, or use --json, which has all"
        )
    kind, deployments, parts = several
    with progress_bar(as_json) as bar:
        found = simulate_cascade(deployments, parts, load, kind=kind, seed=seed, progress=teller(bar, "requests"))
    if as_json:
        print_json(document(found, slo))
        return
    print_answer(lambda width: page(found, slo, width), found.citations if citations else ())
