"""The roofline of an estimate in characters, with a letter per component."""

from __future__ import annotations

from string import ascii_lowercase

from rich.console import RenderableType
from rich.text import Text

from ridgepoint.estimates import Estimate
from ridgepoint.report.roofline import roofline
from ridgepoint.report.roofline_points import WHOLE, Mark, roofline_of
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import INDENT, section
from ridgepoint.report.text import number, percent
from ridgepoint.units import si

_HEIGHT, _WIDEST = 18, 96
_STAR = "✱"


def plot(est: Estimate, width: int) -> RenderableType:
    """Ceilings, the main memory's slope and the components; below, what each letter stands for."""
    found = roofline_of(est)
    letters = [(_STAR if m.label == WHOLE else ascii_lowercase[(i - 1) % 26], m) for i, m in enumerate(found.marks)]
    marks = [(letter, m.flop_per_byte, m.flop_per_s) for letter, m in letters]
    room = min(width - INDENT, _WIDEST)
    lines = roofline(found.ceilings, found.slopes[0][1], room, _HEIGHT, marks)
    title = f"Roofline of one device over {est.scenario.machine.resource_label(est.scenario.machine.main_memory)}"
    rows = [_row(letter, mark) for letter, mark in letters]
    legend = fitted(["", "", "share", "FLOP/B", "expected", "limit"], rows, room, wordy=(1,), left=(0,))
    return section(title, Text("\n".join(lines), no_wrap=True), Text(""), legend)


def _row(letter: str, mark: Mark) -> list[Cell]:
    rates = (si(mark.flop_per_s, "FLOP/s"), si(mark.bound_flop_per_s, "FLOP/s"))
    return [letter, mark.label, percent(mark.share), number(mark.flop_per_byte), *rates]
