"""The table of resources: what each is responsible for, and what removing it would give."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ridgepoint.estimate import Estimate
from ridgepoint.report.text import bar, percent, ratio

LEAST = 0.001
"""Share of the time below which a resource is not shown."""


def limit_table(est: Estimate, width: int) -> Table:
    """Share of the time, a bar of ``width`` characters, and the speed-up if the resource were infinitely fast."""
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=30)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, width=width)
    table.add_column(justify="right", no_wrap=True)
    table.add_row(*(Text(t, style="dim") for t in ("resource", "share", "", "if infinite")))
    for resource, share in est.shares.items():
        if share >= LEAST:
            label = Text(est.scenario.machine.resource_label(resource))
            gain = ratio(float(est.limits[resource]))
            table.add_row(label, percent(share), Text(bar(share, width), style="cyan"), gain)
    return table
