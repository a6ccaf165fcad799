"""``ridgepoint validate``: predictions beside measured tables, and the plain roofline's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.files import Charts, Html, chart_files, write_charts
from ridgepoint.cli.output import command_line, print_json, progress_bar
from ridgepoint.cli.panels import Json
from ridgepoint.errors import RidgepointError

if TYPE_CHECKING:
    from ridgepoint.evidence.validation import Validation

KINDS = ("kernels", "runs", "memory")


def validate(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Folder with kernels.csv, runs.csv, memory.csv (or .gz)."),
    ] = None,
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="Only kernels, runs or memory.")] = "",
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Fit each table without a machine, then predict that machine.")
    ] = False,
    table: Annotated[str, typer.Option("--table", help="The coefficient table to leave machines out of.")] = "gemm",
    html: Html = None,
    chart: Charts = None,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """Predictions beside measurements: errors by group, and the plain roofline's."""
    if kind and kind not in KINDS:
        raise RidgepointError("bad_option", f"--kind is '{kind}'", "use one of " + ", ".join(KINDS))
    if data is None:
        raise RidgepointError(
            "no_data",
            "no measured tables given",
            "name their folder: --data DIR (docs/accuracy.md describes the columns)",
        )
    if leave_one_out:
        _refuse_files({"--html": html is not None, "--chart": bool(chart)})
        _left_out(data, table, citations, as_json)
        return
    from ridgepoint.evidence.validation import document, validate_folder

    files = chart_files(chart)

    with progress_bar(as_json) as bar:
        tasks: dict[str, Any] = {}

        def progress(name: str, done: int, total: int) -> None:
            if bar is not None:
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=total)
                bar.update(tasks[name], completed=done)

        validation = validate_folder(data, (kind,) if kind else KINDS, progress)
        answer = document(validation)
    if html is not None:
        from ridgepoint.files import write_whole
        from ridgepoint.report.validation import validation_page

        write_whole(html, validation_page(answer, _points(validation), command_line()))
    if files:
        from ridgepoint.report.validation import pictures

        write_charts(files, lambda: pictures(_points(validation)), "Predictions beside measurements")
    if as_json:
        print_json(answer)
        return
    from ridgepoint.report.validation import page

    print_answer(lambda width: page(answer, width), validation.citations if citations else ())


def _refuse_files(asked: dict[str, bool]) -> None:
    """``--leave-one-out`` prints a table and draws nothing."""
    for option in (name for name, given in asked.items() if given):
        raise RidgepointError("bad_usage", f"{option} draws nothing of --leave-one-out", "leave one of them out")


def _points(validation: Validation) -> dict[str, list[tuple[str, float, float]]]:
    """(class, measured, predicted) of every covered row, by kind."""
    found = {}
    for kind, result in validation.results.items():
        names = result.table.text["op" if kind == "kernels" else "metric"]
        rows = zip(names, result.measured, result.predicted, result.covered, strict=True)
        found[kind] = [(n, float(m), float(p)) for n, m, p, good in rows if good and m > 0.0 and p > 0.0]
    return found


def _left_out(data: Path, table: str, citations: bool, as_json: bool) -> None:
    from ridgepoint.evidence.free import OPS
    from ridgepoint.evidence.leave_one_out import leave_one_out
    from ridgepoint.evidence.tables import find_tables, read_table
    from ridgepoint.evidence.validation import BUILDERS, finite, kernel_reliance

    if table not in OPS:
        raise RidgepointError("bad_option", f"--table is '{table}'", "use one of " + ", ".join(OPS))
    measured = read_table(find_tables(data, ("kernels",))[0])
    with progress_bar(as_json) as bar:
        task = bar.add_task("machines", total=None) if bar is not None else None

        def progress(machine: str) -> None:
            if bar is not None and task is not None:
                bar.update(task, advance=1, description=f"without {machine}")

        results = [asdict(result) for result in leave_one_out(measured, BUILDERS, table, progress)]
    cited = kernel_reliance(table).lines
    if as_json:
        print_json(finite({"left_out": results}) | {"citations": list(cited)})
        return
    from ridgepoint.report.validation import left_out

    print_answer(lambda width: left_out(results, width), cited if citations else ())
