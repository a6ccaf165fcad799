"""``ridgepoint sweep``: every combination of whatever varies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.files import Charts, Html, chart_files, write_named
from ridgepoint.cli.options import takes_scenario
from ridgepoint.cli.output import command_line, print_json, progress_bar, teller
from ridgepoint.cli.panels import Json
from ridgepoint.errors import RidgepointError
from ridgepoint.request import Request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ridgepoint.search.result import Sweep

FILES = (".csv", ".json")


@takes_scenario
def sweep(
    request: Request,
    vary: Annotated[
        list[str] | None,
        typer.Option("--vary", metavar="NAME=VALUES", help="batch=1:256:log2, context=1k,8k, weights=bf16,fp8 …"),
    ] = None,
    pareto: Annotated[
        str, typer.Option("--pareto", metavar="A,B", help="Only points that none beats: latency,throughput,cost …")
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write all rows: .csv or .json.")] = None,
    html: Html = None,
    chart: Charts = None,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """Every combination of what varies: time, limit, bottleneck, memory, energy and money at each point."""
    from ridgepoint.search.axes import parse_axis
    from ridgepoint.search.sweep import sweep_request

    if out is not None and out.suffix not in FILES:
        raise RidgepointError("bad_option", f"--out is '{out}'", "name a file that ends in " + " or ".join(FILES))
    files = chart_files(chart)
    axes = [parse_axis(text) for text in vary or []]
    _check_said_once(request, [a.name for a in axes])
    with progress_bar(as_json) as bar:
        found = sweep_request(request, axes, teller(bar, "estimates"))
    goals = [word for word in pareto.split(",") if word.strip()]
    only = found.pareto(*goals) if goals else None
    if out is not None:
        _write(found, only, out)
    if html is not None:
        from ridgepoint.files import write_whole
        from ridgepoint.report.html_sweep import sweep_page as html_page

        write_whole(html, html_page(found, command_line(), goals))
    if files:
        from ridgepoint.report.html_sweep import heading, named

        write_named(files, lambda name: named(found, name), heading(found))
    if as_json:
        from ridgepoint.search.table import document

        print_json(document(found, only))
        return
    from ridgepoint.report.sweep import sweep_page

    print_answer(lambda width: sweep_page(found, width, only, _said(goals)), found.citations if citations else ())


def _check_said_once(request: Request, names: Sequence[str]) -> None:
    """What varies must not have one value by an option of its own: no value may be dropped in silence."""
    for name in names:
        if (word := request.said.get(name, "")).startswith("--"):
            hint = f"drop {word}, or list its value in --vary"
            raise RidgepointError("bad_vary", f"{word} and --vary both say {name.replace('_', '-')}", hint)


def _said(goals: list[str]) -> str:
    return "Points that none beats in " + " and ".join(goals) if goals else ""


def _write(found: Sweep, only: NDArray[np.bool_] | None, out: Path) -> None:
    import json

    from ridgepoint.files import write_whole
    from ridgepoint.search.table import csv_text, document

    rows = csv_text(found, only) if out.suffix == ".csv" else json.dumps(document(found, only), ensure_ascii=False)
    write_whole(out, rows)
