"""Reproduced claims as a page for the terminal: reported, predicted, ratio, state; what was assumed; the summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ridgepoint.evidence.reproduce import BEYOND, STATES, Outcome, summary
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import notes, section
from ridgepoint.report.text import number, percent

FEW = 6
"""Up to so many claims are shown with their assumptions."""
_STYLES = {
    "within 10 %": "green",
    "within 25 %": "green",
    "off": "yellow",
    "agrees with bound": "green",
    "off bound": "yellow",
    "failed": "red",
}


def reproduce_page(outcomes: Sequence[Outcome], width: int) -> RenderableType:
    """The whole page."""
    return Group(*_sections(outcomes, width))


def _sections(outcomes: Sequence[Outcome], width: int) -> Iterator[RenderableType]:
    rows = [_row(found) for found in outcomes]
    titles = ["paper", "figure", "reported", "predicted", "ratio", "state"]
    yield fitted(titles, rows, width, wordy=(0, 1), left=(5,))
    if len(outcomes) <= FEW:
        for found in outcomes:
            yield from _detail(found)
    yield Text("")
    yield section("Summary", *_summary(outcomes))


def _row(found: Outcome) -> list[Cell]:
    value, ratio = found.prediction.value, found.ratio
    row = found.row
    what = f"{found.metric}, {found.unit}" + (f": {row.condition}" if row and row.condition else "")
    return [
        found.claim.slug,
        what,
        reported(found),
        "" if value is None else number(value),
        "" if ratio is None else number(ratio),
        Text(found.state, style=_STYLES.get(found.state, "dim")),
    ]


def reported(found: Outcome) -> str:
    """What the paper reports, with its sign where that is a bound."""
    sign = found.row.sign if found.row is not None else ""
    return "" if found.reported is None else sign + number(found.reported)


def bounds_line(counted: dict[str, Any]) -> str:
    """How many stated bounds the predictions agree with, or nothing where no paper states any."""
    bounds = counted["bounds"]
    return (
        f"{bounds['agree']} of {bounds['compared']} stated bounds agree, up to {BEYOND:g} × past them"
        if bounds["compared"]
        else ""
    )


def _detail(found: Outcome) -> Iterator[RenderableType]:
    assumed = tuple(f"{what} ({source})" for what, source in found.claim.assumptions)
    yield from notes(f"{found.claim.slug}: assumed", assumed, "dim")
    said = [found.claim.note, found.prediction.error]
    yield from notes(f"{found.claim.slug}: remarks", tuple(filter(None, said)), "yellow")


def _summary(outcomes: Sequence[Outcome]) -> Iterator[RenderableType]:
    found = summary(outcomes)
    counts = ", ".join(f"{found['states'][name]} {name}" for name in STATES if found["states"][name])
    yield Text(f"{found['claims']} claims of {found['papers']} papers: {counts}")
    if found["compared"]:
        yield Text(
            f"{found['compared']} compared: {percent(found['within_10_percent'])} within 10 %, "
            f"{percent(found['within_25_percent'])} within 25 %, median ratio {number(found['median_ratio'])}"
        )
    if bounds := bounds_line(found):
        yield Text(f"beside these: {bounds}")
