"""The memory ledger of the fullest device against what it holds."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from ridgepoint.estimates import Estimate
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.text import bar, count, gigabytes, percent, ratio

TIERS = {"host": "at the host", "nvme": "on storage"}
LABELS = {"kv": "KV cache", "runtime": "driver, libs", "optimizer": "optimizer states"}


def memory_table(est: Estimate, width: int) -> Table:
    """Entry by entry, with bars over the larger of usable memory and total."""
    ledger = est.memory
    total = float(ledger.total_bytes)
    whole = max(ledger.usable_bytes, total)
    length = 20 if width >= 60 else 10
    style = "bold" if ledger.fits else "bold red"
    rows: list[list[Cell]] = [
        [LABELS.get(name, name), gigabytes(float(size)), Text(bar(float(size) / whole, length), style="cyan")]
        for name, size in ledger.entries.items()
        if float(size) > 0.0
    ]
    rows.append(
        [Text("total", style), Text(gigabytes(total), style), Text(bar(total / whole, length).ljust(length), style)]
    )
    each = " each" if est.devices > 1 else ""
    for tier in dict.fromkeys(name.partition("/")[0] for name in ledger.away):
        room = f"of {gigabytes(ledger.rooms[tier])} per device" if tier in ledger.rooms else "of an unknown size"
        rows.append([TIERS.get(tier, tier), gigabytes(float(ledger.kept_in(tier))), room])
    rows.append(["usable", gigabytes(ledger.usable_bytes), f"of {gigabytes(ledger.capacity_bytes)}{each}"])
    return fitted(["", "", ""], rows, width, wordy=(0,), left=(2,))


def memory_text(est: Estimate) -> Text:
    """Whether it fits, into what, and the most that would."""
    verdict, used, most = fit_words(est)
    text = Text.assemble((verdict, "bold green" if est.memory.fits else "bold red"), f": {used}")
    return text.append(f"\n{most}") if most else text


def fit_words(est: Estimate) -> tuple[str, str, str]:
    """Whether it fits, how full memory is, and the most that would fit."""
    ledger = est.memory
    share = float(ledger.total_bytes) / ledger.usable_bytes
    where = "what is usable"
    if not ledger.fits and share <= 1.0:  # a tier behind the device's memory is too small
        tier = max(ledger.rooms, key=lambda name: float(ledger.kept_in(name)) / ledger.rooms[name])
        share, where = float(ledger.kept_in(tier)) / ledger.rooms[tier], f"the room {TIERS.get(tier, tier)}"
    used = f"{percent(share)} of" if share < 2.0 else ratio(share)
    most = list(_largest(est))
    fits = "fits" if ledger.fits else "does not fit"
    return fits, f"{used} {where}", "at most " + ", or ".join(most) if most else ""


def _largest(est: Estimate) -> Iterator[str]:
    """The largest batch, and the longest context, with everything else as it is."""
    if est.max_batch:
        yield f"batch {count(est.max_batch)}"
    if est.max_context:
        yield f"context {count(est.max_context)}"
