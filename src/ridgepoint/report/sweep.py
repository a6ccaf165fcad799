"""A sweep on a terminal: its best points, a table of its rows, what has no answer and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import INDENT, notes, section
from ridgepoint.report.text import count, gigabytes, money, number, percent, plural, resource
from ridgepoint.search.axes import text_of
from ridgepoint.search.columns import MEANINGS, SHARE
from ridgepoint.search.result import Sweep
from ridgepoint.search.table import best_points, indices
from ridgepoint.units import duration, si

MOST_ROWS = 40
_BEST = {
    "time_s": "shortest time",
    "tpot_s": "shortest time per token",
    "tokens_per_s": "most tokens per second",
    "samples_per_s": "most samples per second",
    "usd_per_million_tokens": "cheapest tokens",
    "energy_j_per_token": "least energy per token",
}


def sweep_page(found: Sweep, width: int, only: NDArray[np.bool_] | None = None, said: str = "") -> RenderableType:
    """The whole page; ``only`` the rows to show, ``said`` what they are."""
    return Group(*_sections(found, width, only, said))


def _sections(found: Sweep, width: int, only: NDArray[np.bool_] | None, said: str) -> Iterator[RenderableType]:
    yield sweep_headline(found)
    yield Text("")
    best = [[words, figure, where] for words, figure, where in best_rows(found)]
    if best:
        yield section("Best of what fits", fitted(["", "", ""], best, width - INDENT, wordy=(2,), left=(0,)))
    else:
        yield Text("Nothing in this sweep fits.", style="bold red")
    yield Text("")
    yield section(said or "Points", *_table(found, width - INDENT, only))
    yield from notes("No answer", reasons(found), "yellow")
    yield from notes("Warnings", found.warnings, "yellow")
    yield from notes("Assumptions", found.assumptions, "dim")


def reasons(found: Sweep) -> tuple[str, ...]:
    """Why points have no answer, most frequent first."""
    return tuple(f"{plural(n, 'point')}: {reason}" for reason, n in found.reasons.items())


def sweep_headline(found: Sweep) -> Text:
    """What was asked: what stays the same, and what varies."""
    model, machine = (subject(found, name) for name in ("model", "machine"))
    fixed = "".join(f" · {words}" for words in fixed_words(found))
    axes = " × ".join(f"{len(a.values):,} {a.words}" for a in found.axes)
    failed = f", {found.failed:,} without an answer" if found.failed else ""
    text = Text.assemble((model, "bold"), " on ", (machine, "bold"), fixed)
    return text.append(f"\n{axes}: {found.size:,} points{failed}", style="dim")


def subject(found: Sweep, name: str) -> str:
    """The model or the machine, or that there are several."""
    varied = next((a for a in found.axes if a.name == name), None)
    return str(found.base[name]) if varied is None else f"{len(varied.values)} {name}s"


def fixed_words(found: Sweep) -> list[str]:
    """Task, sizes, plan and techniques that do not vary."""
    varied = {a.name for a in found.axes}
    task = [found.base["task"]] if found.base.get("task") and "task" not in varied else []
    said = {**found.base.get("sizes", {}), **found.base.get("plan", {})}
    sizes = [f"{name.replace('_', '-')} {text_of(value)}" for name, value in said.items() if name not in varied]
    return [*task, *sizes, *found.base.get("apply", ())]


def best_rows(found: Sweep) -> list[tuple[str, str, str]]:
    """(what, figure, where) of the best points."""
    return [
        (_BEST[name], with_unit(name, found.columns[name][at]), place(found, at))
        for name, at in best_points(found).items()
        if at is not None
    ]


def place(found: Sweep, at: tuple[int, ...]) -> str:
    """A point in words."""
    return ", ".join(f"{a.words} {text_of(a.values[i])}" for a, i in zip(found.axes, at, strict=True))


def figure(column: str, value: Any) -> str:
    """A value of a column with its unit.

    >>> figure("time_s", 0.0142), figure("usd_per_million_tokens", 0.671), figure("memory_gb", 51.0), figure("fits", True)
    ('14.2 ms', '$0.671', '51.0 GB', 'yes')
    """
    if column == "fits":
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if value is None or not np.isfinite(value):
        return "–"
    if column.startswith(SHARE):
        return percent(float(value))
    return _figure(column, float(value))


def with_unit(column: str, value: Any) -> str:
    """A value of a column for use outside a table.

    >>> with_unit("tokens_per_s", 11600.0), with_unit("time_s", 0.0142)
    ('11,600 tokens/s', '14.2 ms')
    """
    unit = MEANINGS[column].unit if column in MEANINGS else ""
    return f"{figure(column, value)} {unit}" if unit.endswith("/s") else figure(column, value)


def _figure(column: str, value: float) -> str:
    if column.endswith("_s") and "_per_s" not in column:
        return duration(value)
    if column.startswith(("usd", "cost")):
        return money(value)
    if column.endswith("_gb"):
        return gigabytes(value * 1e9)
    for start, unit in (("energy_j", "J"), ("power_w", "W")):
        if column.startswith(start):
            return si(value, unit)
    return count(value) if column == "devices" else f"{number(value)}×" if column == "headroom" else number(value)


def _table(found: Sweep, width: int, only: NDArray[np.bool_] | None) -> Iterator[RenderableType]:
    total = found.size if only is None else int(np.count_nonzero(only))
    shown = [index for _, index in zip(range(MOST_ROWS), indices(found, only), strict=False)]
    rate = "tokens_per_s" if "tokens_per_s" in found.columns else "samples_per_s"
    columns = [c for c in ("time_s", rate, "memory_gb", "usd_per_million_tokens") if c in found.columns]
    titles = {"time_s": "time", rate: rate.replace("_per_", "/"), "memory_gb": "memory"}
    titles |= {"usd_per_million_tokens": "$/M tokens"}
    rows = [_row(found, index, columns) for index in shown]
    names = [a.words for a in found.axes]
    heads = [*names, *(titles[c] for c in columns), "fits", "", "waits for"]
    texts = [i for i, a in enumerate(found.axes) if not a.numeric]
    yield fitted(heads, rows, width, wordy=(*texts, len(heads) - 1))
    if total > len(shown):
        yield Text(f"… {total - len(shown):,} more; --out FILE.csv writes all", style="dim")


def _row(found: Sweep, index: tuple[int, ...], columns: list[str]) -> list[Cell]:
    values: list[Cell] = [text_of(v) for v in found.at(index).values()]
    if not found.answered[index]:
        return [*values, *("–" for _ in columns), "", "", Text(str(found.columns["error"][index]), style="yellow")]
    first = str(found.columns["bottleneck"][index])
    share = figure(SHARE + first, found.columns[SHARE + first][index])
    fits = bool(found.columns["fits"][index])
    return [
        *values,
        *(figure(c, found.columns[c][index]) for c in columns),
        Text("yes" if fits else "no", style="" if fits else "red"),
        share,
        resource(found.label(first)),
    ]
