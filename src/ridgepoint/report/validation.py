"""Validation as tables for people, and as one self-contained page with a predicted-against-measured plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ridgepoint.report import html
from ridgepoint.report.palette import SERIES
from ridgepoint.report.picture import Picture
from ridgepoint.report.svg_scatter import MOST_DOTS, Dot, scatter_svg, series_words
from ridgepoint.report.table import fitted

FEW = 3
"""A plot needs so many different measured values."""


def percent(value: float | None) -> str:
    """A fraction as a percentage of one decimal; – where there is none.

    >>> percent(0.0512), percent(None)
    ('5.1', '–')
    """
    return "–" if value is None else f"{100.0 * value:.1f}"


def page(document: dict[str, Any], width: int) -> RenderableType:
    """Groups, classes, reasons and the worst rows."""
    summary = document["summary"]
    parts: list[RenderableType] = []
    for kind in dict.fromkeys(group["kind"] for group in document["groups"]):
        parts += _groups(kind, [g for g in document["groups"] if g["kind"] == kind], width)
    parts += _classes(summary["classes"], width)
    parts += _ranks(summary["ranks"], width)
    parts += _reasons(summary["not_predicted"], width)
    parts += _stand_ins(summary["stand_ins"], width)
    parts += _worst(summary["worst"], width)
    share = summary["covered"] / summary["rows"] if summary["rows"] else 0.0
    told = f"{summary['covered']} of {summary['rows']} rows predicted ({share:.1%}) in {summary['seconds']:.1f} s"
    return Group(*parts, Text(told))


def _titled(title: str, table: RenderableType) -> list[RenderableType]:
    return [Text(title, style="bold"), table, Text("")]


def _bias(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _errors(row: dict[str, Any]) -> tuple[str, ...]:
    return percent(row["mdape"]), percent(row["p90"]), _bias(row["bias"]), percent(row["roofline_mdape"])


def _groups(kind: str, groups: list[dict[str, Any]], width: int) -> list[RenderableType]:
    short = kind == "kernels"
    titles = ["group", "machine", "rows", "covered", "median %", "p90 %", "bias", "roofline %", "in 90 %"]
    rows = [
        [g["group"], g["machine"], str(g["rows"]), str(g["covered"]), *_errors(g), percent(g["inside"])]
        + ([percent(g["long_mdape"])] if short else [])
        for g in groups
    ]
    titles += ["> 5 µs %"] if short else []
    return _titled(f"{kind}: predictions beside measurements", fitted(titles, rows, width, wordy=(0, 1)))


def _classes(classes: list[dict[str, Any]], width: int) -> list[RenderableType]:
    titles = ("kind", "class", "rows", "covered", "median %", "p90 %", "bias", "roofline %")
    rows = [[c["kind"], c["class"], str(c["rows"]), str(c["covered"]), *_errors(c)] for c in classes]
    return _titled(
        "By class, all machines (kernels of at least 5 µs)", fitted(titles, rows, width, wordy=(1,), left=(0,))
    )


RANKED_WELL = (0.9, 0.95)


def _ranks(ranks: list[dict[str, Any]], width: int) -> list[RenderableType]:
    """Rank correlations: a line per way of running and figure, what is ordered worst named first."""
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for rank in ranks:
        figure = f"{rank['figure']}, {rank['load']} load" if rank["model"] else rank["figure"]
        if rank["spearman"] is not None:
            lines.setdefault((rank["way"], figure), []).append(rank)
    if not lines:
        return []
    rows = []
    for line, mine in lines.items():
        mine.sort(key=lambda r: float(r["spearman"]))
        values = [r["spearman"] for r in mine]
        counts = (str(len(mine)), str(sum(r["configurations"] for r in mine)))
        well = [f"{sum(value >= least for value in values) / len(values):.0%}" for least in RANKED_WELL]
        each = ", ".join(f"{value:.2f} {_whose(rank)}" for value, rank in zip(values, mine, strict=True))
        rows.append([*line, *counts, f"{values[len(values) // 2]:.2f}", f"{values[0]:.2f}", *well, each])
    titles = ("way", "figure", "groups", "rows", "median", "least", *(f"≥ {well}" for well in RANKED_WELL), "each")
    title = "In the measured order: Spearman's rank correlation, of serving per model and machine, else per machine"
    return _titled(title, fitted(titles, rows, width, wordy=(0, 1, 8)))


def _whose(rank: dict[str, Any]) -> str:
    return f"{rank['model']} on {rank['machine']}" if rank["model"] else f"{rank['machine']} {rank['load']}".strip()


def _reasons(reasons: list[dict[str, Any]], width: int, most: int = 20) -> list[RenderableType]:
    if not reasons:
        return []
    rows = [[row["kind"], row["reason"], str(row["rows"])] for row in reasons[:most]]
    if len(reasons) > most:
        rest = sum(row["rows"] for row in reasons[most:])
        rows.append(["", f"{len(reasons) - most} further reasons (--json lists all)", str(rest)])
    return _titled("Not predicted", fitted(("kind", "reason", "rows"), rows, width, wordy=(1,), left=(0,)))


def _stand_ins(stand_ins: list[dict[str, Any]], width: int) -> list[RenderableType]:
    if not stand_ins:
        return []
    rows = [[row["framework"] or "(not stated)", row["like"], str(row["rows"])] for row in stand_ins]
    title = "Software that is not described: predicted like another, with a wider interval"
    return _titled(title, fitted(("framework", "like", "rows"), rows, width, left=(0, 1)))


def _worst(worst: list[dict[str, Any]], width: int) -> list[RenderableType]:
    if not worst:
        return []
    titles = ("kind", "line", "group", "machine", "measured", "predicted", "ratio", "what the prediction is made of")
    rows = [
        [
            *(row["kind"], str(row["line"]), row["group"], row["machine"]),
            *(_figure(row, "measured"), _figure(row, "predicted"), f"{row['predicted'] / row['measured']:.2f}"),
            ", ".join(f"{share:.0%} {resource}" for resource, share in list(row["shares"].items())[:3]),
        ]
        for row in worst
    ]
    return _titled("Farthest from their predictions", fitted(titles, rows, width, wordy=(2, 3, 7), left=(0,)))


def _figure(row: dict[str, Any], name: str) -> str:
    return f"{row[name] * 1e6:.4g} µs" if row["kind"] == "kernels" else f"{row[name]:.4g}"


def left_out(results: list[dict[str, Any]], width: int) -> RenderableType:
    """The leave-one-machine-out report."""
    titles = ("group", "machine", "rows", "median %", "p90 %", "bias", "fitted on")
    rows = [
        [
            *(r["group"], r["machine"], str(r["rows"]), percent(r["mdape"]), percent(r["p90"]), _bias(r["bias"])),
            ", ".join(r["fitted_on"]),
        ]
        for r in results
    ]
    table = fitted(titles, rows, width, wordy=(6,), left=(0, 1))
    return Group(*_titled("Fitted without the machine (rows of at least 5 µs)", table)[:2])


def validation_page(
    document: dict[str, Any], points: dict[str, list[tuple[str, float, float]]], command: str = ""
) -> str:
    """One file: the verdict, a plot per kind, and the tables. ``points`` holds (class, measured, predicted) of each kind."""
    summary = document["summary"]
    share = summary["covered"] / summary["rows"] if summary["rows"] else 0.0
    told = f"{summary['covered']:,} of {summary['rows']:,} rows predicted ({share:.1%})"
    body = [
        f'<h1>Predictions beside measurements</h1><p class="rp-sub">{told}</p>',
        _verdict(summary["classes"]),
        *_plots(points),
        html.section("Classes", _html_table(summary["classes"], ("kind", "class", *_COUNTED))),
        html.folded("Groups", _html_table(document["groups"], ("kind", "group", "machine", *_COUNTED))),
        html.folded("In the measured order", _html_table(summary["ranks"], _RANKED)),
        html.folded("Not predicted, and why", _html_table(summary["not_predicted"], ("kind", "reason", "rows"))),
    ]
    return html.html_page("Ridgepoint: validation", body, command)


def _verdict(classes: list[dict[str, Any]]) -> str:
    """The classes with the most rows in one sentence: their median errors, and the plain roofline's."""
    most = [c for c in sorted(classes, key=lambda c: -c["covered"]) if c["mdape"] is not None and c["covered"]][:3]
    if not most:
        return '<p class="rp-verdict rp-warn">Nothing in these tables could be predicted.</p>'
    said = []
    for row in most:
        beside = f", a plain roofline's {percent(row['roofline_mdape'])} %" if row["roofline_mdape"] is not None else ""
        error = f"<strong>{percent(row['mdape'])} %</strong>"
        said.append(f"{error} on {row['covered']:,} rows of {escape(str(row['class']))}{beside}")
    return f'<p class="rp-verdict">Median error: {"; ".join(said)}.</p>'


_COUNTED = ("rows", "covered", "mdape", "p90", "bias", "roofline_mdape")
_RANKED = ("way", "figure", "load", "model", "machine", "configurations", "spearman")
_WORDS = {"mdape": "median error", "p90": "90th percentile", "roofline_mdape": "plain roofline"}


_NAMES = frozenset(("kind", "class", "group", "machine", "reason", "way", "figure", "load", "model"))


def _html_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    left = [i for i, name in enumerate(columns) if name in _NAMES]
    titles = [_WORDS.get(name, name) for name in columns]
    return html.table(titles, ([_cell(row[name], name) for name in columns] for row in rows), left)


def _cell(value: Any, name: str) -> str:
    if name in {"mdape", "p90", "roofline_mdape"}:
        return f"{percent(value)} %" if value is not None else "–"
    return _bias(value) if name in {"bias", "spearman"} else str(value)


def pictures(points: dict[str, list[tuple[str, float, float]]]) -> list[Picture]:
    """Predicted against measured: kernels in one plot with a colour per class, others in one per figure, each with its unit."""
    drawn = []
    for kind, found in points.items():
        names = list(dict.fromkeys(name for name, _, _ in found))
        groups = [_largest(found)] if kind == "kernels" and found else [[p for p in found if p[0] == n] for n in names]
        telling = [group for group in groups if len({p[1] for p in group}) >= FEW]
        most = max(MOST_DOTS // max(len(telling), 1), 1)
        drawn += [_picture(kind, group[:: -(-len(group) // most)]) for group in telling]
    return drawn


def _largest(points: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """The classes with the most rows under their names, as many as there are colours, and all others together."""
    counts = Counter(name for name, _, _ in points)
    shown = [name for name, _ in counts.most_common(len(SERIES) if len(counts) <= len(SERIES) else len(SERIES) - 1)]
    rank = {name: i for i, name in enumerate(shown)}
    rest = f"{len(counts) - len(shown)} other classes"
    named = [(name if name in rank else rest, measured, predicted) for name, measured, predicted in points]
    return sorted(named, key=lambda p: rank.get(p[0], len(rank)))


def _picture(kind: str, points: list[tuple[str, float, float]]) -> Picture:
    dots = [Dot(name, measured, predicted) for name, measured, predicted in points]
    colours = series_words(dots)
    title = f"Time of {kind}, seconds" if len(colours) > 1 else dots[0].series
    svg = scatter_svg(dots, "measured", "predicted", f"{title}: predicted against measured; dots on the line agree")
    return Picture(kind, title, svg, colours if len(colours) > 1 else [])


def _plots(points: dict[str, list[tuple[str, float, float]]]) -> Iterator[str]:
    """A section per kind."""
    drawn = pictures(points)
    for kind in dict.fromkeys(picture.name for picture in drawn):
        own = [f"<div><h3>{escape(p.title)}</h3>{p.html}</div>" for p in drawn if p.name == kind]
        told = '<p class="rp-sub">Dots on the line agree.</p>'
        css = ' class="rp-pairs"' if len(own) > 1 else ""
        yield html.section(kind.capitalize(), told, f"<div{css}>{''.join(own)}</div>")
