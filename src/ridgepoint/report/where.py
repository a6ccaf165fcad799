"""The table of components: where the time goes, and what each waits for."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ridgepoint.estimate import Estimate
from ridgepoint.report.components import Row, rows
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.text import bar, count, number, percent
from ridgepoint.units import duration

WIDE = 92
"""Columns from which operations and bytes are shown, too."""
_TITLES = ["component", "runs", "time", "share", "", "GFLOP", "GB", "of limit", "waits for"]


def component_table(est: Estimate, width: int) -> Table:
    """Components by time: runs, time, share; GFLOP and GB where there is room; speed as part of the physical limit's."""
    wide = width >= WIDE
    cells = [_cells(est, row, wide) for row in rows(est.cost.components, float(est.time_s))]
    return fitted(_TITLES, cells, width, wordy=(0, 8), left=(4,))


def _cells(est: Estimate, row: Row, wide: bool) -> list[Cell]:
    share = row.time_s / float(est.time_s)
    return [
        row.label,
        count(round(row.runs, 1)),
        duration(row.time_s),
        percent(share),
        Text(bar(share, 10 if wide else 6), style="cyan"),
        _amount(row.flop) if wide else "",
        _amount(row.bytes) if wide else "",
        percent(row.achieved),
        est.scenario.machine.resource_label(row.bound_by) if row.parts == 1 else "",
    ]


def _amount(value: float) -> str:
    """In units of 1e9: GFLOP, GB."""
    return "" if value <= 0.0 else "<0.001" if value < 1e6 else number(value / 1e9)
