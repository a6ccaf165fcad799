"""Tables of text that keep to a width: numbers stay whole, wordy columns give way with an ellipsis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

GAP = 2
LEAST = 8
"""A wordy column is not cut below this many characters."""

Cell = str | Text


def fitted(
    titles: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    width: int,
    wordy: Sequence[int] = (0,),
    left: Sequence[int] = (),
) -> Table:
    """A table of at most ``width`` characters. Columns in ``wordy`` are left-aligned and are cut where space is short;
    those in ``left`` are left-aligned; the others are right-aligned and never cut. Empty columns are left out.
    """
    kept = [i for i in range(len(titles)) if any(_length(row[i]) for row in rows)]
    widths = {i: max(len(titles[i]), *(_length(row[i]) for row in rows)) for i in kept}
    _squeeze(widths, width, [i for i in wordy if i in widths])
    table = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    for i in kept:
        align: Literal["left", "right"] = "left" if i in wordy or i in left else "right"
        table.add_column(width=widths[i], justify=align, no_wrap=True, overflow="ellipsis")
    if any(titles):
        table.add_row(*(Text(titles[i], style="dim") for i in kept))
    for row in rows:
        # A name may hold what would read as markup.
        table.add_row(*(cell if isinstance(cell := row[i], Text) else Text(cell) for i in kept))
    return table


def _length(cell: Cell) -> int:
    return cell.cell_len if isinstance(cell, Text) else len(cell)


def _squeeze(widths: dict[int, int], width: int, wordy: Sequence[int]) -> None:
    """Take what is too much from the widest wordy column, character by character."""
    over = sum(widths.values()) + GAP * (len(widths) - 1) - width
    while over > 0 and wordy:
        widest = max(wordy, key=lambda i: widths[i])
        if widths[widest] <= LEAST:
            return
        widths[widest] -= 1
        over -= 1
