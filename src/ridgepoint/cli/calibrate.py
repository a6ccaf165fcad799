"""``ridgepoint calibrate``: coefficients of a machine, or of an architecture family, fitted to measured kernels."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ridgepoint.cli.citing import Citations
from ridgepoint.cli.output import print_json
from ridgepoint.cli.panels import Json
from ridgepoint.errors import RidgepointError, unknown_name

if TYPE_CHECKING:
    from ridgepoint.evidence.rows import Batch
    from ridgepoint.evidence.tables import Table
    from ridgepoint.machines.calibration import Fit

ALONE_SPREAD = 1.4
"""How much wider the interval of a family's table is that one machine taught; several show how much machines differ."""


NETWORKS = "networks"
ALL = 10**9


def calibrate(
    source: Annotated[
        Path, typer.Option("--from", metavar="TABLE", help="A kernels table, or the folder that holds it.")
    ],
    machine: Annotated[
        str, typer.Option("--machine", metavar="NAME", help="Which machine's rows; needed if there are several.")
    ] = "",
    family: Annotated[
        str,
        typer.Option(
            "--family", metavar="NAME", help="All machines of an architecture family together; generic: all machines."
        ),
    ] = "",
    table: Annotated[
        str,
        typer.Option(
            "--table",
            help="Which coefficient table: gemm, attention, scan, conv, stream, collective; networks: what whole image models"
            " of a runs table tell of a family's convolutions and passes.",
        ),
    ] = "gemm",
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Write the section into your own copy of the machine's sheet (in a checkout: the catalogue's); families'"
            " are written in a checkout only.",
        ),
    ] = False,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """Coefficients of a machine or a family, fitted to measurements; printed as the section of its catalogue file."""
    from ridgepoint.evidence.calibrate import cross_validated, fit_all
    from ridgepoint.evidence.coefficient_files import (
        copied,
        merged,
        own_sheet,
        section,
        writable_family,
        write_section,
    )
    from ridgepoint.evidence.free import HOLD, OPS
    from ridgepoint.evidence.leave_one_out import GENERATION
    from ridgepoint.machines.catalog import device_files
    from ridgepoint.machines.coefficients import family_file

    if family and write:
        writable_family(family)
    if table == NETWORKS:
        _networks(source, family, write, citations, as_json)
        return
    if table not in OPS:
        raise unknown_name("table", table, [*OPS, NETWORKS])
    batches, measured = _pooled(source, family, table) if family else _rows(source, machine, table)
    sheet = batches[0].sheet
    name = family or sheet.device.name
    # No common number says what an operation draws on machines of every kind.
    without = GENERATION.get(table, ()) if family == "generic" else ()
    hold = HOLD.get(table, 0.0) if family != "generic" else 0.0
    fit = fit_all(batches, table, without=without, steps=12, polish=0 if family and table == "gemm" else 20, hold=hold)
    held_back = cross_validated(batches, table, hold)
    rows = sum(len(batch.rows) for batch in batches)
    header, today = table if family else f"coefficients.{table}", date.today().strftime("%Y-%m")
    values = merged(sheet, table, fit.values, whole=not hold)
    machines = {batch.sheet.device.name for batch in batches}
    wider = ALONE_SPREAD if family and len(machines) == 1 else 1.0
    spread = wider * max(fit.spread, held_back.spread)
    text = section(header, values, fit, spread, _origin(batches, measured, bool(family)), rows, today)
    sheet_file = family_file(family) if family else device_files()[name]
    path = sheet_file if family else own_sheet(sheet_file)
    cited = _cited([table], _origin(batches, measured, True))
    if write:
        copied(sheet_file, path)
        write_section(path, header, text)
    if as_json:
        print_json(_document(name, table, values, fit, held_back, spread, rows) | {"citations": cited})
        return
    print(text, end="")
    print(f"# median error {fit.median_error:.1%}; on shapes held back {held_back.median_error:.1%}")
    if write:
        print(f"# written to {path}")
    _print_cited(cited if citations else [])


def _networks(source: Path, family: str, write: bool, citations: bool, as_json: bool) -> None:
    """A family's convolutions (and tables that no kernels taught it) fitted to whole networks of a runs table."""
    from ridgepoint.evidence.coefficient_files import merged, section, write_section
    from ridgepoint.evidence.leave_one_out import without_own
    from ridgepoint.evidence.network_fit import fit_networks, held_back, timed_networks
    from ridgepoint.evidence.tables import find_tables, read_table
    from ridgepoint.machines.coefficients import family_file, family_names

    if family not in family_names():
        raise unknown_name("family", family, family_names())
    path = find_tables(source, ("runs",))[0] if source.is_dir() else source
    networks = timed_networks(read_table(path, "runs"), family)
    fit, other = fit_networks(networks), held_back(networks)
    rows = sum(one.passes.size for one in networks)
    sources = sorted({one.passes.rows.text("source") for one in networks} - {""}) or [path.name]
    origin = f"networks of {', '.join(sources)} on {', '.join(sorted({one.machine.device.name for one in networks}))}"
    spread, today = ALONE_SPREAD * max(fit.spread, other.spread), date.today().strftime("%Y-%m")
    tables = sorted({name.partition(".")[0] for name in fit.values})
    cited = _cited(tables, origin)
    for table in tables:
        own = {name.partition(".")[2]: value for name, value in fit.values.items() if name.startswith(f"{table}.")}
        base = without_own(networks[0].machine, table, family)
        text = section(table, merged(base, table, own), fit, spread, origin, rows, today)
        if write and not (table == "stream" and len(own) == 1):
            write_section(family_file(family), table, text)
        if not as_json:
            print(text)
    if as_json:
        print_json(_document(family, NETWORKS, dict(fit.values), fit, other, spread, rows) | {"citations": cited})
        return
    print(f"# median error {fit.median_error:.1%}; on networks held back {other.median_error:.1%}")
    _print_cited(cited if citations else [])


def _cited(tables: list[str], origin: str) -> list[str]:
    """The kernel models whose coefficients were fitted, and the measurements."""
    from ridgepoint.evidence.validation import kernel_reliance

    models = dict.fromkeys(line for table in tables for line in kernel_reliance(table).lines)
    return [*models, f"measurements: {origin}"]


def _print_cited(lines: list[str]) -> None:
    """As comments, for what is printed is a section of a catalogue file."""
    for line in lines:
        print(f"# relies on {line}")


def _origin(batches: list[Batch], measured: Table, pooled: bool) -> str:
    """What a section says about its rows: the sources that they name, and the machines of a pooled fit."""
    sources = sorted({batch.rows.text("source") for batch in batches} - {""}) or [measured.file]
    machines = sorted({batch.sheet.device.name for batch in batches})
    return ", ".join(sources) + (" on " + ", ".join(machines) if pooled else "")


def _expressed(source: Path, table: str, largest: int) -> tuple[list[Batch], Table]:
    """The rows that the coefficient table prices, of all machines: at most ``largest`` of an op, format and framework."""
    from ridgepoint.evidence.free import LATER_OPS, OPS
    from ridgepoint.evidence.leave_one_out import sample
    from ridgepoint.evidence.rows import express
    from ridgepoint.evidence.tables import find_tables, read_table
    from ridgepoint.evidence.validation import BUILDERS

    path = find_tables(source, ("kernels",))[0] if source.is_dir() else source
    measured = read_table(path, "kernels")
    ops = (*OPS[table], *LATER_OPS.get(table, ()))
    mine = measured.take(np.flatnonzero(np.isin(np.array(measured.text["op"]), ops)))
    return express(mine.take(sample(mine, largest)), BUILDERS).batches, measured


def _rows(source: Path, machine: str, table: str) -> tuple[list[Batch], Table]:
    """The rows of one machine."""
    from ridgepoint.evidence.calibrate import is_own
    from ridgepoint.evidence.free import HOLD, OPS
    from ridgepoint.evidence.leave_one_out import LARGEST_GROUP, without_own
    from ridgepoint.machines.catalog import find_machine

    found, measured = _expressed(source, table, 3 * LARGEST_GROUP)
    names = sorted({batch.sheet.device.name for batch in found})
    wanted = find_machine(machine).device.name if machine else (names[0] if len(names) == 1 else "")
    mine = [batch for batch in found if batch.sheet.device.name == wanted]
    if not any(is_own(batch, table) for batch in mine):
        what = f"of {wanted} " if wanted else ""
        hint = "name one: --machine " + " or ".join(names) if names else f"rows of {', '.join(OPS[table])} are needed"
        raise RidgepointError("no_data", f"{measured.file} has no rows {what}to fit `{table}` to", hint)
    if table in HOLD:
        mine = [replace(batch, sheet=without_own(batch.sheet, table, batch.sheet.device.family)) for batch in mine]
    return mine, measured


def _pooled(source: Path, family: str, table: str) -> tuple[list[Batch], Table]:
    """A sample of the rows of all machines of a family, none of which keeps numbers of its own."""
    from ridgepoint.evidence.calibrate import is_own
    from ridgepoint.evidence.free import HOLD
    from ridgepoint.evidence.leave_one_out import LARGEST_GROUP, without_own
    from ridgepoint.machines.coefficients import family_names

    if family not in family_names():
        raise unknown_name("family", family, family_names())
    found, measured = _expressed(source, table, LARGEST_GROUP if table == "gemm" or family == "generic" else ALL)
    members = [batch for batch in found if family in (batch.sheet.device.family, "generic")]
    common = "generic" if table in HOLD else family
    mine = [replace(batch, sheet=without_own(batch.sheet, table, common)) for batch in members]
    if not any(is_own(batch, table) for batch in mine):
        raise RidgepointError(
            "no_data", f"{measured.file} has no rows of {family} machines to fit `{table}` to", "try --family generic"
        )
    return mine, measured


def _document(
    name: str, table: str, values: dict[str, Any], fit: Fit, held_back: Fit, spread: float, rows: int
) -> dict[str, Any]:
    return {
        "machine": name,
        "table": table,
        "values": values,
        "fitted": sorted(fit.values),
        "rows": rows,
        "spread": spread,
        "median_error": fit.median_error,
        "held_back_median_error": held_back.median_error,
    }
