"""The table of resources: what each is responsible for, and what removing it would give."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ridgepoint.estimates import Estimate
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.text import bar, percent, ratio, resource

LEAST = 0.001
"""Share of the time below which a resource is not shown."""


def limit_table(est: Estimate, width: int) -> Table:
    """Share of the time, a bar, and the speed-up if the resource were infinitely fast."""
    length = 20 if width >= 64 else 8
    rows: list[list[Cell]] = [
        [
            resource(est.scenario.machine.resource_label(name)),
            percent(share),
            Text(bar(share, length).ljust(length), style="cyan"),
            ratio(float(est.limits[name])),
        ]
        for name, share in est.shares.items()
        if share >= LEAST
    ]
    return fitted(["resource", "share", "", "if infinite"], rows, width, wordy=(0,), left=(2,))
