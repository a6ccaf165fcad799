"""Coefficients fitted to a table of measurements: the rows that they are of, what was found, the sections that say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.evidence.calibrate import cross_validated, fit_all, is_own
from ridgepoint.evidence.coefficient_files import merged, section
from ridgepoint.evidence.free import HOLD, LATER_OPS, OPS
from ridgepoint.evidence.leave_one_out import GENERATION, LARGEST_GROUP, sample, without_own
from ridgepoint.evidence.network_fit import fit_networks, held_back, timed_networks
from ridgepoint.evidence.rows import Batch, express
from ridgepoint.evidence.tables import Table, find_tables, read_table
from ridgepoint.evidence.validation import BUILDERS, kernel_reliance
from ridgepoint.machines.calibration import Fit
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.coefficients import family_names

NETWORKS = "networks"
"""What whole image models tell of a family's convolutions and passes, in the place of a coefficient table's name."""
ALONE_SPREAD = 1.4
"""How much wider the interval of a family's table is that one machine taught; several show how much machines differ."""
ALL = 10**9


@dataclass(frozen=True)
class Calibrated:
    """What a fit found for a machine or a family."""

    name: str
    family: bool
    table: str
    values: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Any]]
    """Header of a catalogue file's section → what it holds."""
    told: frozenset[str]
    """The headers whose sections are worth writing: of a single further number kernels tell more."""
    fit: Fit
    held_back: Fit
    spread: float
    rows: int
    measured: str
    """Whose measurements."""
    machines: tuple[str, ...]

    def text(self, header: str) -> str:
        """A section with its spread and provenance, as TOML."""
        today = date.today().strftime("%Y-%m")
        origin = self.measured + (self._where if self.family else "")
        return section(header, self.sections[header], self.fit, self.spread, origin, self.rows, today)

    @property
    def _where(self) -> str:
        return " on " + ", ".join(self.machines)

    @property
    def citations(self) -> list[str]:
        """The kernel models whose coefficients were fitted, and the measurements."""
        tables = sorted({header.removeprefix("coefficients.") for header in self.sections})
        models = dict.fromkeys(line for table in tables for line in kernel_reliance(table).lines)
        return [*models, f"measurements: {self.measured}{self._where}"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "machine": self.name,
            "table": self.table,
            "values": dict(self.values),
            "fitted": sorted(self.fit.values),
            "rows": self.rows,
            "spread": self.spread,
            "median_error": self.fit.median_error,
            "held_back_median_error": self.held_back.median_error,
            "citations": self.citations,
        }


def calibrated(source: Path, machine: str, family: str, table: str) -> Calibrated:
    """A coefficient table of a machine, or of a family (``generic``: of all machines), fitted to measured kernels.

    Errors: ``unknown_name`` for a table or a family that there is not, ``no_data`` without rows of them.
    """
    if table not in OPS:
        raise unknown_name("table", table, [*OPS, NETWORKS])
    batches, measured = _of_family(source, family, table) if family else _of_machine(source, machine, table)
    sheet = batches[0].sheet
    # No common number says what an operation draws on machines of every kind.
    without = GENERATION.get(table, ()) if family == "generic" else ()
    hold = HOLD.get(table, 0.0) if family != "generic" else 0.0
    fit = fit_all(batches, table, without=without, steps=12, polish=0 if family and table == "gemm" else 20, hold=hold)
    other = cross_validated(batches, table, hold)
    header = table if family else f"coefficients.{table}"
    values = merged(sheet, table, fit.values, whole=not hold)
    machines = tuple(sorted({batch.sheet.device.name for batch in batches}))
    wider = ALONE_SPREAD if family and len(machines) == 1 else 1.0
    sources = sorted({batch.rows.text("source") for batch in batches} - {""}) or [measured.file]
    return Calibrated(
        name=family or sheet.device.name,
        family=bool(family),
        table=table,
        values=values,
        sections={header: values},
        told=frozenset({header}),
        fit=fit,
        held_back=other,
        spread=wider * max(fit.spread, other.spread),
        rows=sum(len(batch.rows) for batch in batches),
        measured=", ".join(sources),
        machines=machines,
    )


def calibrated_on_networks(source: Path, family: str) -> Calibrated:
    """A family's convolutions (and tables that no kernels taught it) fitted to whole networks of a runs table.

    Errors: ``unknown_name`` for a family that there is not, ``no_data`` without networks on its machines.
    """
    if family not in family_names():
        raise unknown_name("family", family, family_names())
    path = find_tables(source, ("runs",))[0] if source.is_dir() else source
    networks = timed_networks(read_table(path, "runs"), family)
    fit, other = fit_networks(networks), held_back(networks)
    sources = sorted({one.passes.rows.text("source") for one in networks} - {""}) or [path.name]
    machines = tuple(sorted({one.machine.device.name for one in networks}))
    own: dict[str, dict[str, float]] = {}
    for name, value in fit.values.items():
        table, _, coefficient = name.partition(".")
        own.setdefault(table, {})[coefficient] = value
    base = networks[0].machine
    return Calibrated(
        name=family,
        family=True,
        table=NETWORKS,
        values=dict(fit.values),
        sections={
            table: merged(without_own(base, table, family), table, found) for table, found in sorted(own.items())
        },
        told=frozenset(table for table, found in own.items() if table != "stream" or len(found) > 1),
        fit=fit,
        held_back=other,
        spread=ALONE_SPREAD * max(fit.spread, other.spread),
        rows=sum(one.passes.size for one in networks),
        measured="networks of " + ", ".join(sources),
        machines=machines,
    )


def _expressed(source: Path, table: str, largest: int) -> tuple[list[Batch], Table]:
    """The rows that the coefficient table prices, of all machines: at most ``largest`` of an op, format and framework."""
    path = find_tables(source, ("kernels",))[0] if source.is_dir() else source
    measured = read_table(path, "kernels")
    ops = (*OPS[table], *LATER_OPS.get(table, ()))
    mine = measured.take(np.flatnonzero(np.isin(np.array(measured.text["op"]), ops)))
    return express(mine.take(sample(mine, largest)), BUILDERS).batches, measured


def _of_machine(source: Path, machine: str, table: str) -> tuple[list[Batch], Table]:
    """The rows of one machine."""
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


def _of_family(source: Path, family: str, table: str) -> tuple[list[Batch], Table]:
    """A sample of the rows of all machines of a family, none of which keeps numbers of its own."""
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
