"""A sweep as one HTML page: its best points, maps or curves over its numeric axes, all rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.report.html import facts, folded, html_page, notes, section, table
from ridgepoint.report.limits import LEAST
from ridgepoint.report.palette import SERIES, role
from ridgepoint.report.picture import Picture
from ridgepoint.report.svg_bars import Bar, Part, stacked_svg
from ridgepoint.report.svg_map import Cell, Curve, curves_svg, heat_map_svg
from ridgepoint.report.sweep import best_rows, fixed_words, place, reasons, subject, with_unit
from ridgepoint.report.sweep import figure as figure_of
from ridgepoint.report.text import percent, resource
from ridgepoint.search.axes import Axis, text_of
from ridgepoint.search.columns import MEANINGS, SHARE, find_column
from ridgepoint.search.result import Sweep
from ridgepoint.search.table import indices

MOST_MAPS, MOST_CELLS, MOST_ROWS = 8, 1600, 400
MOST_BARS = 24
BOTTLENECK = "bottleneck"
DRAWN = ("time_s", BOTTLENECK)
"""Columns that the report draws."""
Placed = tuple[float, tuple[int, ...]]
"""A position across, and the point that stands there."""


def sweep_page(found: Sweep, command: str = "", goals: Sequence[str] = ()) -> str:
    """The whole page; ``goals`` are the columns whose Pareto front is shown."""
    return html_page(heading(found), [*sweep_head(found), *_body(found, goals), *_grounds(found)], command)


def heading(found: Sweep) -> str:
    """What varies, and of what."""
    return f"{subject(found, 'model')} on {subject(found, 'machine')}: {' × '.join(a.words for a in found.axes)}"


def sweep_head(found: Sweep) -> Iterator[str]:
    """What varies, and the best points."""
    yield f"<h1>{escape(subject(found, 'model'))} on {escape(subject(found, 'machine'))}</h1>"
    varied = " × ".join(f"{len(a.values):,} {a.words}" for a in found.axes)
    failed = f", {found.failed:,} without an answer" if found.failed else ""
    yield f'<p class="rp-sub">{escape(" · ".join(fixed_words(found)))}<br>{escape(varied)}: {found.size:,} points{failed}</p>'
    yield verdict_html(found)
    yield facts((words.capitalize(), figure_, where) for words, figure_, where in best_rows(found))


def verdict_html(found: Sweep) -> str:
    """One sentence: how many points fit, what limits most of them, the best."""
    fits = found.columns["fits"] & found.answered
    count = int(fits.sum())
    if not count:
        return '<p class="rp-verdict rp-warn"><span class="rp-no">Nothing in this sweep fits.</span></p>'
    names, times = np.unique(found.columns[BOTTLENECK][fits], return_counts=True)
    first = str(names[np.argmax(times)])
    whose = "all" if len(names) == 1 else f"{int(times.max()):,}"
    words, figure_, where = next(iter(best_rows(found)))
    part = f"{count:,} of {found.size:,} points fit" if count < found.size else f"All {found.size:,} points fit"
    limit = f"<strong>{escape(resource(found.label(first)))} limits {whose} of them</strong>"
    return f'<p class="rp-verdict">{part}, and {limit}. {escape(f"{words.capitalize()}: {figure_} at {where}.")}</p>'


def _body(found: Sweep, goals: Sequence[str]) -> Iterator[str]:
    yield notes("No answer", reasons(found))
    yield notes("Warnings", found.warnings)
    if goals:
        front = found.pareto(*goals)
        yield section("What nothing beats in " + " and ".join(goals), rows_table(found, front))
    for column in DRAWN:
        yield section(_title(column), *charts(found, column))
    yield folded(
        f"All {found.size:,} points" if found.size <= MOST_ROWS else f"The first {MOST_ROWS} points", rows_table(found)
    )


def _title(column: str) -> str:
    return {"time_s": "Time", BOTTLENECK: "Bottleneck"}.get(column) or MEANINGS[column].words.capitalize()


def _grounds(found: Sweep) -> Iterator[str]:
    yield notes("Assumptions", found.assumptions)


def charts(found: Sweep, column: str) -> list[str]:
    """The pictures of a column, and what is not in them."""
    drawn = pictures(found, column)
    left = int(np.prod([len(a.values) for a in _others(found)])) - len(drawn)
    more = f"<p>{left} more combinations are in the rows.</p>" if left > 0 else ""
    return [*(picture.html for picture in drawn), more]


def named(found: Sweep, name: str) -> list[Picture]:
    """The pictures of a column, or those of the report where none is named."""
    return [picture for column in ([name] if name else DRAWN) for picture in pictures(found, column)]


def pictures(found: Sweep, column: str) -> list[Picture]:
    """A map for every combination of the axes that are not its two; a curve where only one axis has several values.

    Errors: ``unknown_column`` with the nearest.
    """
    name = column if column == BOTTLENECK else find_column(column, found.columns)
    plane, others = _plane(found), _others(found)
    colours = _colours(found, len(plane) == 1) if name == BOTTLENECK else []
    drawn = []
    for at in list(product(*(range(len(a.values)) for a in others)))[:MOST_MAPS]:
        fixed = dict(zip((a.name for a in others), at, strict=True))
        words = [f"{a.words} {text_of(a.values[i])}" for a, i in zip(others, at, strict=True)]
        said = ". ".join(text for text in (", ".join(words), _key(found)) if text)
        svg = _map(found, plane, fixed, name) if len(plane) == 2 else _curve(found, plane[0], fixed, name)
        drawn.append(Picture(name, _title(name), svg, colours, said, wide=True))
    return drawn


def _others(found: Sweep) -> list[Axis]:
    """The axes that have a chart per value."""
    plane = _plane(found)
    return [a for a in found.axes if a not in plane]


def _plane(found: Sweep) -> list[Axis]:
    """The axes that a chart shows: the two numeric ones with the most values, context before batch where equal."""
    several = [a for a in found.axes if len(a.values) > 1] or list(found.axes)
    order = sorted(several, key=lambda a: (not a.numeric, -len(a.values)))[:2]
    chosen = [a for a in found.axes if a in order]
    while len(chosen) == 2 and len(chosen[0].values) * len(chosen[1].values) > MOST_CELLS:
        chosen = chosen[:1]
    return chosen


def _key(found: Sweep) -> str:
    """How a chart shows what does not fit."""
    if found.columns["fits"].all():
        return ""
    flat = "The line is the frontier of what fits; what is faint does not."
    return flat if len(_plane(found)) == 2 else "Hollow dots do not fit."


def _colours(found: Sweep, everything: bool) -> list[tuple[str, str]]:
    """(colour, resource) of what a chart of bottlenecks shows."""
    named: dict[str, list[str]] = {}
    for name in _shown(found, everything):
        named.setdefault(_role(found, name), []).append(resource(found.label(name)))
    return [(colour, ", ".join(dict.fromkeys(names))) for colour, names in named.items()]


def _shown(found: Sweep, everything: bool) -> list[str]:
    """The resources that a chart of bottlenecks shows."""
    if everything:
        names = [n for n in found.columns if n.startswith(SHARE) and np.nanmax(found.columns[n]) >= LEAST]
        return [n.removeprefix(SHARE) for n in names]
    return list(dict.fromkeys(str(v) for v in found.columns[BOTTLENECK].ravel() if v))


def _role(found: Sweep, name: str) -> str:
    machine = found.machines.get(name)
    return "latency" if machine is None else role(machine, name)


def _map(found: Sweep, plane: Sequence[Axis], fixed: dict[str, int], column: str) -> str:
    up, across = plane
    cells = [
        [_cell(found, _index(found, {**fixed, up.name: j, across.name: i}), column) for i in range(len(across.values))]
        for j in range(len(up.values))
    ]
    label = f"{_title(column)} over {across.words} and {up.words}"
    return heat_map_svg((across.words, across.texts), (up.words, up.texts), cells, label)


def _index(found: Sweep, at: dict[str, int]) -> tuple[int, ...]:
    return tuple(at[a.name] for a in found.axes)


def _cell(found: Sweep, at: tuple[int, ...], column: str) -> Cell:
    if not found.answered[at]:
        return Cell(None, "–", f"{place(found, at)}: {found.columns['error'][at]}")
    fits = bool(found.columns["fits"][at])
    said = point_words(found, at)
    if column != BOTTLENECK:
        value = float(found.columns[column][at])
        return Cell(value, figure_of(column, value), said, fits)
    first = str(found.columns[BOTTLENECK][at])
    share = float(found.columns[SHARE + first][at])
    return Cell(share, percent(share), said, fits, _role(found, first))


def point_words(found: Sweep, at: tuple[int, ...]) -> str:
    """One point in a sentence."""
    first = str(found.columns[BOTTLENECK][at])
    share = percent(float(found.columns[SHARE + first][at]))
    rate = "tokens_per_s" if "tokens_per_s" in found.columns else "samples_per_s"
    figures = ", ".join(with_unit(name, found.columns[name][at]) for name in ("time_s", rate, "memory_gb"))
    fits = "" if found.columns["fits"][at] else ", does not fit"
    return f"{place(found, at)}: {figures}{fits}, {share} {resource(found.label(first))}"


def _curve(found: Sweep, axis: Axis, fixed: dict[str, int], column: str) -> str:
    steps = range(len(axis.values))
    numbers = [v for v in axis.values if isinstance(v, float) and v > 0.0]
    places = numbers if len(numbers) == len(steps) else [1.5**i for i in steps]
    indices_ = [_index(found, {**fixed, axis.name: i}) for i in steps]
    answered = [(p, at) for p, at in zip(places, indices_, strict=True) if found.answered[at]]
    if column == BOTTLENECK:
        return _shares(found, axis, answered)
    names = [column, "bound_s"] if column == "time_s" else [column]
    curves = [Curve(n, SERIES[0], _points(found, answered, n), n == "bound_s") for n in names]
    unit = "dashed: physical limit" if column == "time_s" else MEANINGS[column].unit
    label = f"{_title(column)} over {axis.words}"
    return curves_svg(curves, (axis.words, _ticks(axis, places)), (unit, lambda v: figure_of(column, v)), label)


def _points(found: Sweep, answered: Sequence[Placed], column: str) -> list[tuple[float, float, str, bool]]:
    values = found.columns[column]
    return [(p, float(values[at]), point_words(found, at), bool(found.columns["fits"][at])) for p, at in answered]


def _shares(found: Sweep, axis: Axis, answered: Sequence[Placed]) -> str:
    """A bar of shares per value of the axis."""
    names = [n.removeprefix(SHARE) for n in found.columns if n.startswith(SHARE)]
    bars = []
    for _, at in answered[:: max(1, -(-len(answered) // MOST_BARS))]:
        shares = {n: float(found.columns[SHARE + n][at]) for n in names}
        parts = [Part(resource(found.label(n)), s, _role(found, n), percent(s)) for n, s in shares.items() if s > 0.0]
        first = str(found.columns[BOTTLENECK][at])
        label = f"{axis.words} {text_of(found.at(at)[axis.name])}"
        bars.append(Bar(label, f"{percent(shares[first])} {resource(found.label(first))}", parts))
    return stacked_svg(bars, f"Shares of the time over {axis.words}")


def _ticks(axis: Axis, places: list[float]) -> list[tuple[float, str]]:
    step = max(1, len(places) // 10)
    return list(zip(places, axis.texts, strict=True))[::step]


def rows_table(found: Sweep, only: NDArray[np.bool_] | None = None) -> str:
    """Rows as a table: the axes, and what people compare."""
    wanted = (
        "time_s",
        "bound_s",
        "tokens_per_s",
        "samples_per_s",
        "memory_gb",
        "fits",
        "energy_j_per_token",
        "usd_per_million_tokens",
    )
    columns = [
        c for c in wanted if c in found.columns and not (c == "samples_per_s" and "tokens_per_s" in found.columns)
    ]
    shown = [at for _, at in zip(range(MOST_ROWS), indices(found, only), strict=False)]
    titles = [*(a.words for a in found.axes), *(_heading(c) for c in columns), "waits for"]
    return table(titles, (_row(found, at, columns) for at in shown), left=(len(titles) - 1,))


def _heading(column: str) -> str:
    return MEANINGS[column].words if MEANINGS[column].unit != "tokens/s" else "tokens/s"


def _row(found: Sweep, at: tuple[int, ...], columns: list[str]) -> list[str]:
    values: list[Any] = [text_of(a.values[i]) for a, i in zip(found.axes, at, strict=True)]
    if not found.answered[at]:
        return [*values, *("–" for _ in columns), str(found.columns["error"][at])]
    first = str(found.columns[BOTTLENECK][at])
    waits = f"{percent(float(found.columns[SHARE + first][at]))} {resource(found.label(first))}"
    return [*values, *(figure_of(c, found.columns[c][at]) for c in columns), waits]
