"""The memory ledger of the fullest device against what it holds."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ridgepoint.estimate import Estimate
from ridgepoint.report.text import bar, count, gigabytes, percent

_LABELS = {"kv": "KV cache", "runtime": "driver, libraries"}


def memory_table(est: Estimate, width: int) -> Table:
    """Entry by entry, with bars over the larger of usable memory and total."""
    ledger = est.memory
    whole = max(ledger.usable_bytes, float(ledger.total_bytes))
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for name, size in ledger.entries.items():
        if float(size) > 0.0:
            table.add_row(
                _LABELS.get(name, name), gigabytes(float(size)), Text(bar(float(size) / whole, width), style="cyan")
            )
    style = "bold" if ledger.fits else "bold red"
    total = float(ledger.total_bytes)
    table.add_row(
        Text("total", style=style), Text(gigabytes(total), style=style), Text(bar(total / whole, width), style=style)
    )
    return table


def memory_lines(est: Estimate) -> Text:
    """Whether it fits, into what, and the most that would."""
    ledger = est.memory
    used = percent(float(ledger.total_bytes) / ledger.usable_bytes)
    verdict = ("fits", "bold green") if ledger.fits else ("does not fit", "bold red")
    per = " per device" if est.devices > 1 else ""
    text = Text.assemble(
        verdict,
        f": {used} of the {gigabytes(ledger.usable_bytes)} that may be used of {gigabytes(ledger.capacity_bytes)}{per}",
    )
    most = [
        f"{what} {count(value)}" for what, value in (("batch", est.max_batch), ("context", est.max_context)) if value
    ]
    return text.append("\nlargest that fits: " + ", or ".join(most)) if most else text
