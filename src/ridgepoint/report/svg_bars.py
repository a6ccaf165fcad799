"""Bars: where time goes, what lies in memory, what steps bring. Each bar has its label above it, so that it fits a phone."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from ridgepoint.report.palette import paint
from ridgepoint.report.svg import chart, element, line, pixel, titled, words

_ROW, _BAR, _LABEL = 40.0, 16.0, 14.0
"""Pixels of a row, of a bar, and above it."""
_GAP = 0.5
"""Per cent of the width that a segment has at least if it ends in a gap."""


@dataclass(frozen=True)
class Part:
    """A segment: what it is, how much, its colour (``palette.paint``), and what to say about it."""

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
    """One bar of a waterfall: a total stands on zero, a change hangs between the totals before and after it. ``said``
    stands at its end.
    """

    label: str
    value: float
    said: str
    total: bool = False


def _segment(start: float, share: float, y: float, part: Part) -> str:
    place = {"x": f"{start:.3f}%", "y": pixel(y), "width": f"{share:.3f}%", "height": pixel(_BAR)}
    return titled(
        f"{part.name}: {part.said}", element("rect", **place, **paint(part.role)), _edge(start, share, y, _BAR)
    )


def _edge(start: float, share: float, y: float, height: float) -> str:
    """A gap at the end of a segment, so that neighbours are told apart without colours."""
    end = start + share
    return line(end, y, end, y + height, "rp-edge", stroke_width=1) if share > _GAP and end < 99.9 else ""


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
            drawn.append(titled(f"{part.name}: {part.said}", shape, _edge(start, share, 20, 28)))
        start += share
    for value, text, y, below in ((usable, said[0], 14.0, False), (capacity, said[1], 66.0, True)):
        x = 100.0 * value / whole
        drawn.append(line(x, 16 if not below else 20, x, 52, "rp-rule", stroke_width=2))
        drawn.append(words(x, y, text, "end" if x > 50.0 else "start", "rp-quiet"))
    return chart(72, label, *drawn)


def waterfall_svg(steps: Sequence[Step], label: str, rising: bool = False) -> str:
    """A waterfall: totals are whole bars; a change starts where the one before ended and says by how much it moves.

    ``rising``: more is better, so that steps up are in the colour of what helps.

    >>> steps = [Step("now", 20.0, "20 ms", True), Step("fp8", -8.0, "−8 ms"), Step("then", 12.0, "12 ms", True)]
    >>> svg = waterfall_svg(steps, "decode step")
    >>> svg.count("<rect"), "fp8: −8 ms" in svg
    (3, True)
    """
    spans: list[tuple[float, float]] = []  # level before and after
    for step in steps:
        before = 0.0 if step.total or not spans else spans[-1][1]
        spans.append((before, before + step.value))
    longest = max((max(span) for span in spans), default=0.0) or 1.0
    drawn = []
    for i, (step, span) in enumerate(zip(steps, spans, strict=True)):
        y, start, end = i * _ROW, 100.0 * min(span) / longest, 100.0 * max(span) / longest
        colour = "memory" if step.total else "host" if (step.value > 0.0) == rising else "matrix"
        if i + 1 < len(steps):
            after = 100.0 * span[1] / longest
            drawn.append(line(after, y + _LABEL + 3, after, y + _ROW + _LABEL + 3 + _BAR, "rp-rule"))
        label_at = y + _LABEL - 2
        drawn.append(words(0.0, label_at, step.label, css="rp-ink rp-halo"))
        drawn.append(words(100.0, label_at, step.said, "end", "rp-quiet rp-halo"))
        width = max(end - start, 0.3)
        shape = element(
            "rect",
            x=f"{start:.3f}%",
            y=pixel(y + _LABEL + 3),
            width=f"{width:.3f}%",
            height=pixel(_BAR),
            **paint(colour),
        )
        drawn.append(titled(f"{step.label}: {step.said}", shape))
    return chart(max(len(steps), 1) * _ROW, label, *drawn)


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """HTML: what the colours mean, as (colour, words)."""
    items = "".join(
        f'<li><svg width="10" height="10" aria-hidden="true">{element("rect", width=10, height=10, rx=2, **paint(colour))}'
        f"</svg> {html.escape(said)}</li>"
        for colour, said in entries
    )
    return f'<ul class="rp-legend">{items}</ul>'
