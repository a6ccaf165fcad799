"""The table of components: where the time goes, and what each waits for."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ridgepoint.estimate import Estimate
from ridgepoint.report.components import Row, rows
from ridgepoint.report.text import bar, count, number, percent
from ridgepoint.units import duration

WIDE = 92
"""Columns from which operations and bytes are shown, too."""


def component_table(est: Estimate, width: int) -> Table:
    """Components by time: runs, time, share, and from ``WIDE`` columns on GFLOP and GB."""
    wide = width >= WIDE
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, overflow="ellipsis", min_width=18)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, width=10 if wide else 6)
    for _ in range(3 if wide else 1):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=28)
    titles = ["component", "runs", "time", "share", "", *(["GFLOP", "GB"] if wide else []), "of limit", "waits for"]
    table.add_row(*(Text(title, style="dim") for title in titles))
    for row in rows(est.cost.components, float(est.time_s)):
        table.add_row(*_cells(est, row, wide))
    return table


def _cells(est: Estimate, row: Row, wide: bool) -> list[str | Text]:
    share = row.time_s / float(est.time_s)
    amounts = [_amount(row.flop), _amount(row.bytes)] if wide else []
    return [
        row.label,
        count(round(row.runs, 1)),
        duration(row.time_s),
        percent(share),
        Text(bar(share, 10 if wide else 6), style="cyan"),
        *amounts,
        percent(row.achieved),
        est.scenario.machine.resource_label(row.bound_by) if row.parts == 1 else "",
    ]


def _amount(value: float) -> str:
    """In units of 1e9: GFLOP, GB."""
    return "" if value <= 0.0 else "<0.001" if value < 1e6 else number(value / 1e9)
