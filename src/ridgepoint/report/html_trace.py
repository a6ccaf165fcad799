"""A profiler trace as one HTML page: the verdict, where the span goes, ops, components, launches, a prediction beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from ridgepoint.report.html import facts, folded, html_page, notes, section, table
from ridgepoint.report.picture import Picture
from ridgepoint.report.svg_bars import Bar, Part, stacked_svg
from ridgepoint.report.text import count, percent
from ridgepoint.report.trace import PRODUCT, beside_words, comparison_cells, subject, trace_facts
from ridgepoint.traces.compare import Comparison
from ridgepoint.traces.profile import Profile, Row
from ridgepoint.traces.verdict import WORDS
from ridgepoint.units import duration

MOST = 15
"""Bars of a chart, and rows of a comparison; tables hold everything."""
_SHARES = {
    "computing": "matrix",
    "operators": "matrix",
    "exposed communication": "link",
    "exposed copies": "memory",
    "waiting for the host": "host",
    "between operators": "host",
    "launching": "launch",
    "queued": "latency",
    "idle for unknown reasons": "tier",
}
_KINDS = {
    "gemm": "matrix",
    "attention": "vector",
    "conv": "matrix 2",
    "scan": "vector 2",
    "stream": "memory",
    "collective": "link",
    "transfer": "cache",
    "host": "host",
}
"""Colours by what a share or a kind of op uses."""


def trace_page(found: Profile, beside: Comparison | None = None, command: str = "") -> str:
    """The whole report as one file."""
    return html_page(found.trace.title, _parts(found, beside), command)


def _parts(found: Profile, beside: Comparison | None) -> Iterator[str]:
    yield f'<h1>{escape(found.trace.title)}</h1><p class="rp-sub">{escape(subject(found))}</p>'
    yield f'<p class="rp-verdict"><strong>{escape(found.verdict.sentence)}</strong></p>'
    yield facts(trace_facts(found))
    yield notes("Warnings", (*found.warnings, *(() if beside is None else beside.warnings)))
    span, ops, components = pictures(found)
    yield section(span.title, span.html)
    if beside is not None:
        yield section("Measured beside predicted", *_beside(beside))
    yield section(ops.title, ops.html, folded("Table", _table(found.ops, "op")))
    yield section(components.title, components.html, folded("Table", _table(found.components, "component")))
    if found.kernels:
        yield section("Time by kernel", folded(f"{len(found.kernels)} kernels", _table(found.kernels, "kernel")))
    if beside is not None:
        yield notes("Assumptions", beside.estimate.assumptions)


def pictures(found: Profile) -> list[Picture]:
    """All charts of a trace: ``span``, ``ops``, ``components``."""
    return [span_picture(found), rows_picture(found.ops, "op"), rows_picture(found.components, "component")]


def span_picture(found: Profile) -> Picture:
    """The span as one bar: work that nothing hides, and what devices waited for."""
    shown = {name: share for name, share in found.verdict.shares.items() if share > 0.0}
    parts = [Part(name, share, _SHARES[name], percent(share)) for name, share in shown.items()]
    svg = stacked_svg([Bar("the whole", duration(found.span_s), parts)], "Where the span of the trace goes")
    key = [(_SHARES[name], f"{name} {percent(share)}") for name, share in shown.items()]
    return Picture("span", "Where the span goes", svg, key)


def rows_picture(rows: Sequence[Row], what: str) -> Picture:
    """Own time by ``what``, most first, in the colours of kinds of op."""
    whole = sum(row.time_s for row in rows) or 1.0
    shown = rows[:MOST]
    bars = [
        Bar(row.name, f"{percent(row.time_s / whole)}  {duration(row.time_s)}", [_part(row, whole)]) for row in shown
    ]
    kinds = dict.fromkeys(row.kind for row in shown)
    key = [(_KINDS.get(kind, "latency"), WORDS.get(kind, kind)) for kind in kinds]
    return Picture(f"{what}s", f"Time by {what}", stacked_svg(bars, f"Own time by {what}"), key)


def _part(row: Row, whole: float) -> Part:
    return Part(
        row.name, row.time_s, _KINDS.get(row.kind, "latency"), f"{duration(row.time_s)}, {percent(row.time_s / whole)}"
    )


def _table(rows: Sequence[Row], title: str) -> str:
    whole = sum(row.time_s for row in rows) or 1.0
    cells = [(r.name, r.kind, count(r.count), duration(r.time_s), percent(r.time_s / whole)) for r in rows]
    return table((title, "kind", "runs", "own time", "share"), cells, left=(0, 1))


def _beside(beside: Comparison) -> Iterator[str]:
    yield f"<p><strong>{escape(beside_words(beside))}</strong></p>"
    for title, rows in (("kind", beside.kinds), ("component", beside.components), (PRODUCT, beside.products)):
        if rows:
            yield table((title, "measured", "predicted", "ratio"), comparison_cells(beside, rows, MOST, title))
