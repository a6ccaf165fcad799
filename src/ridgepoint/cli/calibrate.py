"""``ridgepoint calibrate``: a machine's coefficients, fitted to measured kernels."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ridgepoint.cli.output import print_json
from ridgepoint.errors import RidgepointError, unknown_name

if TYPE_CHECKING:
    from ridgepoint.evidence.rows import Batch
    from ridgepoint.evidence.tables import Table
    from ridgepoint.machines.calibration import Fit


def calibrate(
    source: Annotated[
        Path, typer.Option("--from", metavar="TABLE", help="A kernels table, or the folder that holds it.")
    ],
    machine: Annotated[
        str, typer.Option("--machine", metavar="NAME", help="Which machine's rows; needed if there are several.")
    ] = "",
    table: Annotated[str, typer.Option("--table", help="Which coefficient table to fit.")] = "gemm",
    write: Annotated[
        bool, typer.Option("--write", help="Write the section into the machine's catalogue file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Coefficients of a machine, fitted to measurements; printed as the section of its catalogue file."""
    from ridgepoint.evidence.calibrate import OPS, cross_validated, fit_all
    from ridgepoint.evidence.coefficient_files import merged, section, write_section
    from ridgepoint.machines.catalog import device_files

    if table not in OPS:
        raise unknown_name("table", table, OPS)
    batches, measured = _rows(source, machine, table)
    sheet = batches[0].sheet
    fit = fit_all(batches, table, steps=12, polish=10)
    held_back = cross_validated(batches, table)
    rows = sum(len(batch.rows) for batch in batches)
    header, today = f"coefficients.{table}", date.today().strftime("%Y-%m")
    values = merged(sheet, table, fit.values)
    text = section(header, values, fit, max(fit.spread, held_back.spread), measured.file, rows, today)
    if write:
        write_section(device_files()[sheet.device.name], header, text)
    if as_json:
        print_json(_document(sheet.device.name, table, values, fit, held_back, rows))
        return
    print(text, end="")
    print(f"# median error {fit.median_error:.1%}; on shapes held back {held_back.median_error:.1%}")
    if write:
        print(f"# written to {device_files()[sheet.device.name]}")


def _rows(source: Path, machine: str, table: str) -> tuple[list[Batch], Table]:
    """The rows of one machine that the coefficient table prices."""
    from ridgepoint.evidence.calibrate import LATER_OPS, OPS
    from ridgepoint.evidence.rows import express
    from ridgepoint.evidence.tables import find_tables, read_table
    from ridgepoint.evidence.validation import BUILDERS
    from ridgepoint.machines.catalog import find_machine

    path = find_tables(source, ("kernels",))[0] if source.is_dir() else source
    measured = read_table(path, "kernels")
    ops = (*OPS[table], *LATER_OPS.get(table, ()))
    expressed = express(measured, BUILDERS)
    found = [batch for batch in expressed.batches if batch.rows.text("op") in ops]
    names = sorted({batch.sheet.device.name for batch in found})
    wanted = find_machine(machine).device.name if machine else (names[0] if len(names) == 1 else "")
    mine = [batch for batch in found if batch.sheet.device.name == wanted]
    if not any(batch.rows.text("op") in OPS[table] for batch in mine):
        what = f"of {wanted} " if wanted else ""
        hint = "name one: --machine " + " or ".join(names) if names else f"rows of {', '.join(OPS[table])} are needed"
        raise RidgepointError("no_data", f"{measured.file} has no rows {what}to fit `{table}` to", hint)
    return mine, measured


def _document(machine: str, table: str, values: dict[str, Any], fit: Fit, held_back: Fit, rows: int) -> dict[str, Any]:
    return {
        "machine": machine,
        "table": table,
        "values": values,
        "fitted": sorted(fit.values),
        "rows": rows,
        "spread": max(fit.spread, held_back.spread),
        "median_error": fit.median_error,
        "held_back_median_error": held_back.median_error,
    }
