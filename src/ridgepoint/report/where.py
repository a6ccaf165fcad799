"""The table of components: where the time goes, and what each waits for."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ridgepoint.estimates import Estimate
from ridgepoint.report.components import Row, rows
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.text import bar, count, number, percent, resource
from ridgepoint.units import duration

WIDE = 92
"""Columns from which operations and bytes are shown, too."""


def component_table(est: Estimate, width: int) -> Table:
    """Components by time: runs, time, share; operations and bytes where there is room; speed over the limit's."""
    wide = width >= WIDE
    shown = rows(est.cost.components, float(est.time_s))
    flop, byte = _scale([row.flop for row in shown]), _scale([row.bytes for row in shown])
    cells = [_cells(est, row, flop[0] if wide else 0.0, byte[0] if wide else 0.0) for row in shown]
    titles = ["component", "runs", "time", "share", "", f"{flop[1]}FLOP", f"{byte[1]}B", "of limit", "waits for"]
    return fitted(titles, cells, width, wordy=(0, 8), left=(4,))


def _scale(values: list[float]) -> tuple[float, str]:
    """The prefix in which the largest value has at most four digits before the point."""
    largest = max(values, default=0.0)
    return next(((s, p) for s, p in ((1e9, "G"), (1e12, "T")) if largest < 1e4 * s), (1e15, "P"))


def _cells(est: Estimate, row: Row, flop_scale: float, byte_scale: float) -> list[Cell]:
    share = row.time_s / float(est.time_s)
    return [
        row.label,
        count(round(row.runs, 1)),
        duration(row.time_s),
        percent(share),
        Text(bar(share, 10 if flop_scale else 6), style="cyan"),
        _amount(row.flop, flop_scale),
        _amount(row.bytes, byte_scale),
        percent(row.achieved),
        resource(est.scenario.machine.resource_label(row.bound_by)) if row.parts == 1 else "",
    ]


def _amount(value: float, scale: float) -> str:
    if value <= 0.0 or scale <= 0.0:
        return ""
    return "<0.001" if value < 0.001 * scale else number(value / scale)
