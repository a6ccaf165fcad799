"""Validation as tables for people, and as one self-contained page with a predicted-against-measured plot."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ridgepoint.report.table import fitted

_PER_PLOT = 4000
_SIZE, _MARGIN = 640.0, 56.0
_HUES = (210, 25, 120, 280, 50, 340, 170, 90, 0, 240, 190, 310)


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
    parts += _reasons(summary["not_predicted"], width)
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


def _reasons(reasons: list[dict[str, Any]], width: int, most: int = 20) -> list[RenderableType]:
    if not reasons:
        return []
    rows = [[row["kind"], row["reason"], str(row["rows"])] for row in reasons[:most]]
    if len(reasons) > most:
        rest = sum(row["rows"] for row in reasons[most:])
        rows.append(["", f"{len(reasons) - most} further reasons (--json lists all)", str(rest)])
    return _titled("Not predicted", fitted(("kind", "reason", "rows"), rows, width, wordy=(1,), left=(0,)))


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


def html_page(document: dict[str, Any], points: dict[str, list[tuple[str, float, float]]]) -> str:
    """One file: a plot per kind and the tables. ``points`` holds (class, measured, predicted) of each kind."""
    plots = "".join(f"<h2>{html.escape(kind)}</h2>{_plot(found)}" for kind, found in points.items() if found)
    groups = _html_table(
        document["groups"], ("kind", "group", "machine", "rows", "covered", "mdape", "p90", "bias", "roofline_mdape")
    )
    classes = _html_table(
        document["summary"]["classes"], ("kind", "class", "rows", "covered", "mdape", "p90", "bias", "roofline_mdape")
    )
    reasons = _html_table(document["summary"]["not_predicted"], ("kind", "reason", "rows"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Ridgepoint: validation</title><style>'
        "body{font:14px system-ui,sans-serif;margin:2rem;max-width:70rem}table{border-collapse:collapse;margin:1rem 0}"
        "td,th{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #8884}td:first-child,th:first-child,"
        "td:nth-child(2),th:nth-child(2),td:nth-child(3){text-align:left}</style></head><body><h1>Predictions beside "
        f"measurements</h1>{plots}<h2>Classes</h2>{classes}<h2>Groups</h2>{groups}<h2>Not predicted</h2>{reasons}</body></html>"
    )


def _html_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{_cell(row[name], name)}</td>" for name in columns) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any, name: str) -> str:
    if name in {"mdape", "p90", "roofline_mdape"}:
        return f"{percent(value)} %" if value is not None else "–"
    return html.escape(_bias(value) if name == "bias" else str(value))


def _plot(points: list[tuple[str, float, float]]) -> str:
    """Predicted against measured on logarithmic axes, the diagonal, and a colour per class."""
    step = max(1, len(points) // _PER_PLOT)
    shown = points[::step]
    values = np.log10(np.array([[measured, predicted] for _, measured, predicted in shown]))
    low, high = float(np.floor(values.min())), float(np.ceil(values.max()))
    scale = (_SIZE - 2.0 * _MARGIN) / max(high - low, 1.0)
    names = list(dict.fromkeys(name for name, _, _ in shown))
    hue = {name: _HUES[i % len(_HUES)] for i, name in enumerate(names)}
    dots = "".join(
        f'<circle cx="{_MARGIN + (x - low) * scale:.1f}" cy="{_SIZE - _MARGIN - (y - low) * scale:.1f}" r="1.6" '
        f'fill="hsl({hue[name]} 70% 45%)" fill-opacity=".5"/>'
        for (name, _, _), (x, y) in zip(shown, values, strict=True)
    )
    ends = f'x1="{_MARGIN}" y1="{_SIZE - _MARGIN}" x2="{_SIZE - _MARGIN}" y2="{_MARGIN}"'
    ticks = "".join(
        f'<text x="{_MARGIN + (t - low) * scale:.0f}" y="{_SIZE - _MARGIN + 18}" text-anchor="middle">1e{t}</text>'
        f'<text x="{_MARGIN - 8}" y="{_SIZE - _MARGIN - (t - low) * scale + 4:.0f}" text-anchor="end">1e{t}</text>'
        for t in range(int(low), int(high) + 1)
    )
    legend = " ".join(f'<span style="color:hsl({hue[n]} 70% 40%)">● {html.escape(n)}</span>' for n in names)
    return (
        f'<svg viewBox="0 0 {_SIZE:.0f} {_SIZE:.0f}" width="{_SIZE:.0f}" role="img" aria-label="predicted against measured" '
        f'font-size="11"><line {ends} stroke="#888"/>{ticks}{dots}'
        f'<text x="{_SIZE / 2}" y="{_SIZE - 8}" text-anchor="middle">measured</text>'
        f'<text x="14" y="{_SIZE / 2}" transform="rotate(-90 14 {_SIZE / 2})" text-anchor="middle">predicted</text></svg>'
        f"<p>{legend}</p>"
    )
