"""Bars: where time goes, what lies in memory, what steps bring. Each bar has its label above it, so that it fits a phone."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ridgepoint.report.palette import FILLS, paint
from ridgepoint.report.svg import chart, element, line, pixel, titled, words

_ROW, _BAR, _LABEL = 40.0, 16.0, 14.0
"""Pixels of a row, of a bar, and above it."""


@dataclass(frozen=True)
class Part:
    """A segment: what it is, how much, its colour's role, and what to say about it."""

    name: str
    value: float
    role: str
    said: str


@dataclass(frozen=True)
class Bar:
    """A labelled bar of segments; ``figure`` stands at its end."""

    label: str
    figure: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Step:
    """One bar of a waterfall: a total stands on zero, a change hangs between the totals before and after it."""

    label: str
    value: float
    total: bool = False


def _segment(start: float, share: float, y: float, part: Part) -> str:
    shape = element(
        "rect", x=f"{start:.3f}%", y=pixel(y), width=f"{share:.3f}%", height=pixel(_BAR), **paint(part.role)
    )
    return titled(f"{part.name}: {part.said}", shape)


def stacked_svg(bars: Sequence[Bar], label: str) -> str:
    """Bars on one scale, which ends at the longest."""
    longest = max((sum(p.value for p in bar.parts) for bar in bars), default=0.0) or 1.0
    drawn = []
    for i, bar in enumerate(bars):
        y, start = i * _ROW, 0.0
        drawn += [words(0.0, y + _LABEL - 2, bar.label), words(100.0, y + _LABEL - 2, bar.figure, "end", "rp-quiet")]
        for part in bar.parts:
            share = 100.0 * part.value / longest
            if share >= 0.02:
                drawn.append(_segment(start, share, y + _LABEL + 3, part))
            start += share
    return chart(max(len(bars), 1) * _ROW, label, *drawn)


def memory_svg(parts: Sequence[Part], usable: float, capacity: float, said: tuple[str, str], label: str) -> str:
    """Entries of one device's memory in a row, with lines at what is usable and at its capacity; ``said`` are their words."""
    total = sum(p.value for p in parts)
    whole = max(total, capacity) * 1.001
    room = element(
        "rect", x=0, y=20, width=f"{100.0 * capacity / whole:.3f}%", height=28, class_="rp-room", fill="#eaeef2"
    )
    drawn, start = [room], 0.0
    for part in parts:
        share = 100.0 * part.value / whole
        shape = element("rect", x=f"{start:.3f}%", y=20, width=f"{share:.3f}%", height=28, **paint(part.role))
        if share >= 0.02:
            drawn.append(titled(f"{part.name}: {part.said}", shape))
        start += share
    for value, text, y, below in ((usable, said[0], 14.0, False), (capacity, said[1], 66.0, True)):
        x = 100.0 * value / whole
        drawn.append(line(x, 16 if not below else 20, x, 52, "rp-rule", stroke_width=2))
        drawn.append(words(x, y, text, "end" if x > 50.0 else "start", "rp-quiet"))
    return chart(72, label, *drawn)


def waterfall_svg(steps: Sequence[Step], show: Callable[[float], str], label: str) -> str:
    """A waterfall: totals are whole bars; a change starts where the one before ended and says by how much it moves.

    >>> steps = [Step("now", 20.0, True), Step("fp8 weights", -8.0), Step("then", 12.0, True)]
    >>> svg = waterfall_svg(steps, lambda v: f"{v:g} ms", "decode step")
    >>> svg.count("<rect"), "fp8 weights: -8 ms" in svg
    (3, True)
    """
    spans: list[tuple[float, float]] = []  # level before and after
    for step in steps:
        spans.append((0.0, step.value) if step.total else (spans[-1][1] if spans else 0.0, 0.0))
        spans[-1] = spans[-1] if step.total else (spans[-1][0], spans[-1][0] + step.value)
    longest = max((max(span) for span in spans), default=0.0) or 1.0
    drawn = []
    for i, (step, span) in enumerate(zip(steps, spans, strict=True)):
        y, start, end = i * _ROW, 100.0 * min(span) / longest, 100.0 * max(span) / longest
        figure = ("+" if step.value > 0.0 and not step.total else "") + show(step.value)
        name = "memory" if step.total else "host" if step.value <= 0.0 else "matrix"
        drawn += [words(0.0, y + _LABEL - 2, step.label), words(100.0, y + _LABEL - 2, figure, "end", "rp-quiet")]
        if i + 1 < len(steps):
            after = 100.0 * span[1] / longest
            drawn.append(line(after, y + _LABEL + 3, after, y + _ROW + _LABEL + 3 + _BAR, "rp-grid"))
        width = max(end - start, 0.3)
        drawn.append(_segment(start, width, y + _LABEL + 3, Part(step.label, step.value, name, figure)))
    return chart(max(len(steps), 1) * _ROW, label, *drawn)


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """HTML: what the colours mean, as (role, words)."""
    swatch = {
        name: element("rect", width=10, height=10, rx=2, class_=f"rp-{name}", fill=fill) for name, fill in FILLS.items()
    }
    items = "".join(
        f'<li><svg width="10" height="10" aria-hidden="true">{swatch[name]}</svg> {html.escape(said)}</li>'
        for name, said in entries
    )
    return f'<ul class="rp-legend">{items}</ul>'
