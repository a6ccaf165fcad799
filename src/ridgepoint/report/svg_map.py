"""Sweeps as charts: a heat map over two axes with the frontier of what fits, a curve over one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ridgepoint.report.palette import FILLS
from ridgepoint.report.svg import Scale, at, chart, element, line, pixel, titled, words

_CELL, _LEFT, _FOOT = 30.0, 11.0, 36.0
MOST_STOPS = 30
"""Cells of a map that the tab key stops at; the values of larger ones are in the table below them."""
_STOPS = ("#00204c", "#31446b", "#666970", "#958f78", "#cbba69", "#ffe945")
"""Cividis, which colour-blind readers see as others do. J. Nuñez, C. Anderton, R. Renslow, PLOS ONE 13(7), 2018."""


@dataclass(frozen=True)
class Cell:
    """One point of a map: its value (or None without an answer), text, words, whether it fits, a role where it is a name."""

    value: float | None
    text: str
    said: str
    fits: bool = True
    role: str = ""


def heat_map_svg(
    across: tuple[str, Sequence[str]], up: tuple[str, Sequence[str]], cells: Sequence[Sequence[Cell]], label: str
) -> str:
    """``cells[row][column]``, rows from the bottom up as on an axis, coloured on a logarithmic scale of those that fit.

    What does not fit is hatched out, and a line runs along the frontier.
    """
    columns, rows = len(across[1]), len(up[1])
    height = _CELL * rows
    known = [c for row in cells for c in row if c.value is not None and c.value > 0.0]
    values = [c.value for c in known if c.fits and c.value] or [c.value for c in known if c.value]
    scale = Scale(min(values, default=1.0), max(values, default=1.0), 0.0, 1.0)
    wide = (100.0 - _LEFT) / columns
    body = []
    for j, row in enumerate(cells):
        top = height - _CELL * (j + 1)
        body.append(words(_LEFT - 1.0, top + _CELL / 2 + 4, up[1][j], "end", "rp-quiet"))
        few = rows * columns <= MOST_STOPS
        body += [_cell(c, (_LEFT + i * wide, top, wide), scale, (i, j), few) for i, c in enumerate(row)]
    body += list(_frontier(cells, wide, height))
    step = max(1, math.ceil(columns / 12))
    for i in range(0, columns, step):
        body.append(words(_LEFT + (i + 0.5) * wide, height + 15, across[1][i], "middle", "rp-quiet"))
    body.append(words(_LEFT + (100.0 - _LEFT) / 2, height + 31, across[0], "middle", "rp-ink"))
    body.append(words(_LEFT - 1.0, height + 15, f"{up[0]} ↑", "end", "rp-ink"))
    return chart(height + _FOOT, label, *body)


def _cell(cell: Cell, box: tuple[float, float, float], scale: Scale, place: tuple[int, int], focus: bool) -> str:
    left, top, wide = box
    fill, ink = _colour(cell, scale)
    css = f"rp-cell rp-{cell.role}" if cell.role else "rp-cell"
    shape = element(
        "rect", x=at(left), y=pixel(top), width=at(wide), height=pixel(_CELL), class_=css, fill=fill,
        fill_opacity=None if cell.fits else 0.28,
    )  # fmt: skip
    inside = ""
    if cell.text and wide * 7.0 > 6.2 * len(cell.text):
        css = f"rp-incell rp-on-{cell.role}" if cell.fits and cell.value is not None else "rp-ink"
        inside = element(
            "text", cell.text, x=at(left + wide / 2), y=pixel(top + _CELL / 2 + 4), text_anchor="middle", class_=css,
            fill=ink, font_size=11,
        )  # fmt: skip
    return titled(cell.said, shape, inside, focus=focus).replace(
        "<g ", f'<g data-x="{place[0]}" data-y="{place[1]}" ', 1
    )


def _colour(cell: Cell, scale: Scale) -> tuple[str, str]:
    if cell.role:
        return FILLS[cell.role], ink_on(FILLS[cell.role])
    if cell.value is None:
        return "#8b949e22", "#57606a"
    share = scale(cell.value) if scale.high > scale.low else 0.0
    return shade(share), ink_on(shade(share))


def ink_on(fill: str) -> str:
    """Black or white, whichever stands out more on a colour (WCAG 2.1's relative luminance).

    >>> ink_on("#00204c"), ink_on("#ffe945"), ink_on("#0072b2")
    ('#ffffff', '#000000', '#ffffff')
    """
    parts = [int(fill[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#ffffff" if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else "#000000"


def shade(share: float) -> str:
    """The colour of a value at ``share`` of the scale.

    >>> shade(0.0), shade(1.0)
    ('#00204c', '#ffe945')
    """
    place = min(max(share, 0.0), 1.0) * (len(_STOPS) - 1)
    i = min(int(place), len(_STOPS) - 2)
    a, b = (tuple(int(_STOPS[k][c : c + 2], 16) for c in (1, 3, 5)) for k in (i, i + 1))
    return "#" + "".join(f"{round(p + (q - p) * (place - i)):02x}" for p, q in zip(a, b, strict=True))


def _frontier(cells: Sequence[Sequence[Cell]], wide: float, height: float) -> Iterator[str]:
    """Edges between what fits and what does not."""

    def fits(i: int, j: int) -> bool | None:
        inside = 0 <= j < len(cells) and 0 <= i < len(cells[j])
        return cells[j][i].fits if inside and cells[j][i].value is not None else None

    for j, row in enumerate(cells):
        for i in range(len(row)):
            left, bottom = _LEFT + i * wide, height - _CELL * j
            if {fits(i, j), fits(i + 1, j)} == {True, False}:
                yield line(left + wide, bottom - _CELL, left + wide, bottom, "rp-frontier", stroke_width=3)
            if {fits(i, j), fits(i, j + 1)} == {True, False}:
                yield line(left, bottom - _CELL, left + wide, bottom - _CELL, "rp-frontier", stroke_width=3)


@dataclass(frozen=True)
class Curve:
    """Points of one line, left to right: (position, value, words, whether it fits)."""

    name: str
    role: str
    points: Sequence[tuple[float, float, str, bool]]
    dashed: bool = False


def curves_svg(
    curves: Sequence[Curve],
    across: tuple[str, Sequence[tuple[float, str]]],
    up: tuple[str, Callable[[float], str]],
    label: str,
) -> str:
    """Curves on logarithmic scales; hollow dots do not fit. ``across`` is what it says and (position, words) of its ticks,
    ``up`` what it says and how to show a value.
    """
    values = [v for c in curves for _, v, _, _ in c.points if v > 0.0] or [1.0]
    low, high = min(values) / 1.25, max(values) * 1.25
    bottom = 280.0
    y = Scale(low, high, bottom, 10.0)
    places = [p for c in curves for p, _, _, _ in c.points] or [1.0]
    x = _across(min(places), max(places))
    body = []
    for mark in y.ticks():
        body += [line(0, y(mark), 100, y(mark), "rp-grid"), words(0.3, y(mark) - 3, up[1](mark), css="rp-quiet")]
    for place, said in across[1]:
        body.append(words(x(place), bottom + 15, said, "middle", "rp-quiet"))
    body += [words(50, bottom + 31, across[0], "middle"), words(99.6, 10, up[0], "end", css="rp-ink rp-halo")]
    for c in curves:
        dash = "5 4" if c.dashed else None
        for (p0, v0, _, _), (p1, v1, _, _) in zip(c.points, c.points[1:], strict=False):
            ends = (x(p0), y(v0), x(p1), y(v1))
            body.append(line(*ends, f"rp-stroke-{c.role}", stroke_width=2, stroke_dasharray=dash))
        for p, v, said, fits in c.points:
            css = f"rp-{c.role}" if fits else "rp-limit"
            shape = element(
                "circle",
                cx=at(x(p)),
                cy=pixel(y(v)),
                r=4,
                class_=css,
                fill=FILLS[c.role] if fits else "none",
                stroke=FILLS[c.role],
            )
            body.append(titled(said, shape))
    return chart(bottom + _FOOT, label, *body)


def _across(low: float, high: float) -> Scale:
    return Scale(low, high if high > low else low * 2.0, 4.0, 96.0)
