"""What happens over time, and how values are spread: columns per stretch of time, and shares of requests within a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ridgepoint.report.palette import FILLS, paint
from ridgepoint.report.svg import Scale, at, chart, element, line, pixel, titled, told, words
from ridgepoint.units import duration

_TOP, _BOTTOM, _FOOT = 8.0, 148.0, 22.0
_LEFT = 10.0
"""Per cent of the width that figures of the axis take."""
_QUANTILES = 60
_CLOCK = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Band:
    """One colour of the columns: its name, its colour, and a value per stretch."""

    name: str
    colour: str
    values: Sequence[float]


def columns_svg(
    bands: Sequence[Band], edges: Sequence[float], say: Callable[[float], str], label: str, most: float = 0.0
) -> str:
    """Columns of stacked bands over stretches of time between ``edges`` (seconds, one more than there are values).

    The axis ends at ``most`` (1 for shares), or at the highest column. Each column says its values under the pointer.

    >>> svg = columns_svg([Band("waiting", "matrix", [1.0, 2.0])], [0.0, 1.0, 2.0], lambda v: f"{v:g}", "requests")
    >>> svg.count("<rect"), "1.00 s – 2.00 s: 2 waiting" in svg
    (2, True)
    """
    heights = [sum(values) for values in zip(*(band.values for band in bands), strict=True)]
    marks = ticks(most or max(heights, default=0.0))
    top = most or max(marks[-1], *heights, 1e-12)
    wide = (100.0 - _LEFT) / max(len(heights), 1)
    body = []
    for mark in marks:
        down = _BOTTOM - (_BOTTOM - _TOP) * mark / top
        body.append(line(_LEFT, down, 100, down, "rp-grid"))
        body.append(words(_LEFT - 1.0, down + 4, f"{mark:,g}" if most != 1.0 else say(mark), "end", "rp-quiet"))
    body += [_column(bands, i, edges, (wide, top), say) for i in range(len(heights))]
    span = edges[-1] - edges[0]
    seconds, unit = next(u for u in _CLOCK if span >= u[0] * 2.0 or u is _CLOCK[-1])
    for mark in ticks(span / seconds, 5):
        across = _LEFT + (100.0 - _LEFT) * mark * seconds / span
        anchor = "end" if across > 96.0 else "middle"
        body.append(words(across, _BOTTOM + 16, f"{mark:g} {unit}", anchor, "rp-quiet"))
    return chart(_BOTTOM + _FOOT, label, *body)


def _column(
    bands: Sequence[Band], i: int, edges: Sequence[float], scale: tuple[float, float], say: Callable[[float], str]
) -> str:
    wide, top = scale
    down, shapes = _BOTTOM, []
    for band in bands:
        tall = (_BOTTOM - _TOP) * band.values[i] / top
        if tall >= 0.05:
            down -= tall
            place = {"x": at(_LEFT + i * wide), "y": pixel(down), "width": at(wide * 0.92), "height": pixel(tall)}
            shapes.append(element("rect", **place, **paint(band.colour)))
    said = ", ".join(f"{say(band.values[i])} {band.name}".strip() for band in bands)
    return told(f"{duration(edges[i])} – {duration(edges[i + 1])}: {said}", *shapes) if shapes else ""


def ticks(most: float, count: int = 3) -> list[float]:
    """Round values from zero up to ``most``, about ``count`` of them besides zero.

    >>> ticks(10.0), ticks(0.7), ticks(0.0)
    ([0.0, 5.0, 10.0], [0.0, 0.25, 0.5], [0.0])
    """
    if most <= 0.0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(most / count))
    step = next(s * power for s in _STEPS if s * power >= most / count * 0.999)
    return [step * i for i in range(math.floor(most / step * 1.0001) + 1)]


@dataclass(frozen=True)
class Spread:
    """Sorted values of one quantity (seconds), its name and colour, and the value that is a goal, or none."""

    name: str
    colour: str
    values: Sequence[float]
    goal: float | None = None


def spread_svg(spreads: Sequence[Spread], label: str) -> str:
    """The share of values within a time, on a logarithmic axis: one rising curve each; a dashed line stands at a goal.

    >>> svg = spread_svg([Spread("TTFT", "memory", [0.1, 0.2, 0.4], goal=0.3)], "latency")
    >>> "TTFT: 50 % within 200 ms" in svg, "stroke-dasharray" in svg
    (True, True)
    """
    bottom = 220.0
    ends = [v for s in spreads for v in (s.values[0], s.values[-1], *([s.goal] if s.goal else [])) if v > 0.0]
    low, high = min(ends, default=1e-3), max(ends, default=1.0)
    x = Scale(low / 1.15, max(high, low * 1.5) * 1.15, _LEFT, 100.0)

    def y(share: float) -> float:
        return bottom - (bottom - _TOP) * share

    body = []
    for share in (0.0, 0.5, 0.9, 1.0):
        body.append(line(_LEFT, y(share), 100, y(share), "rp-grid"))
        body.append(words(_LEFT - 1.0, y(share) + 4, f"{100.0 * share:g} %", "end", "rp-quiet"))
    for mark in x.ticks():
        body.append(line(x(mark), _TOP, x(mark), bottom, "rp-grid"))
        anchor = "end" if x(mark) > 96.0 else "middle"
        body.append(words(x(mark), bottom + 16, duration(mark), anchor, "rp-quiet"))
    for one in spreads:
        body += _curve(one, x, y)
    return chart(bottom + _FOOT, label, *body)


def _curve(one: Spread, x: Scale, y: Callable[[float], float]) -> list[str]:
    css, colour, last = f"rp-stroke-{one.colour}", FILLS[one.colour], len(one.values) - 1
    shares = [i / _QUANTILES for i in range(_QUANTILES + 1)]
    points = [(x(max(one.values[round(s * last)], 1e-12)), y(s)) for s in shares]
    body = [line(*a, *b, css, stroke_width=2) for a, b in pairwise(points)]
    if one.goal:
        body.append(line(x(one.goal), _TOP, x(one.goal), y(0.0), css, stroke_width=1.5, stroke_dasharray="4 4"))
    for share in (0.5, 0.9, 0.99):
        value = one.values[round(share * last)]
        dot = element(
            "circle", cx=at(x(max(value, 1e-12))), cy=pixel(y(share)), r=4, class_=f"rp-{one.colour}", fill=colour
        )
        body.append(titled(f"{one.name}: {100.0 * share:g} % within {duration(value)}", dot))
    return body
