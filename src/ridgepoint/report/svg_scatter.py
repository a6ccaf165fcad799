"""Predicted against measured or reported: a dot per row on logarithmic axes, the diagonal, a band around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ridgepoint.report.palette import FILLS, SERIES
from ridgepoint.report.svg import Scale, at, chart, element, line, pixel, titled, words

_HEIGHT, _TOP, _BOTTOM = 440.0, 8.0, 404.0
MOST_DOTS = 2500
_FEW = 200
"""Up to so many dots each says what it is."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Dot:
    """One row: its class, both figures, what to say about it, and its colour where the class does not choose one."""

    series: str
    across: float
    up: float
    said: str = ""
    role: str = ""


def scatter_svg(dots: Sequence[Dot], across: str, up: str, label: str, within: float = 0.0) -> str:
    """``up`` over ``across``; dots on the diagonal agree. ``within`` marks a band: 0.25 for ±25 %.

    Of more than ``MOST_DOTS`` every n-th is drawn. Figures must be positive.

    >>> svg = scatter_svg([Dot("a", 1.0, 1.1), Dot("b", 10.0, 9.0)], "reported", "predicted", "claims", within=0.25)
    >>> svg.count("<circle")
    2
    """
    shown = list(dots)[:: max(1, math.ceil(len(dots) / MOST_DOTS))]
    values = [v for d in shown for v in (d.across, d.up)] or [1.0]
    low, high = 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)))
    high = max(high, low * 10.0)
    x, y = Scale(low, high, 0.0, 100.0), Scale(low, high, _BOTTOM, _TOP)
    body = []
    for mark in x.decades():
        anchor = "start" if x(mark) < 3 else "end" if x(mark) > 97 else "middle"
        body += [line(x(mark), _TOP, x(mark), _BOTTOM, "rp-grid"), line(0, y(mark), 100, y(mark), "rp-grid")]
        body += [words(x(mark), _BOTTOM + 14, _power(mark), anchor, "rp-quiet")]
        body += [words(0.4, y(mark) - 3, _power(mark), css="rp-quiet rp-halo")] if mark > low else []
    body.append(line(0, _BOTTOM, 100, _TOP, "rp-rule"))
    if within:
        for factor in (1.0 - within, 1.0 + within):
            ends = _clipped(low, high, factor)
            body.append(line(x(ends[0]), y(ends[0] * factor), x(ends[1]), y(ends[1] * factor), "rp-unused"))
    named = series(dots)
    body += [_dot(d, x, y, named[d.series], len(shown) <= _FEW) for d in shown]
    body += [words(50, _BOTTOM + 30, across, "middle", "rp-quiet"), words(7.0, _TOP + 12, up, css="rp-ink rp-halo")]
    return chart(_HEIGHT, label, *body)


def _power(value: float) -> str:
    """A power of ten on an axis.

    >>> _power(1e-6), _power(0.01), _power(1000.0), _power(1e7)
    ('10⁻⁶', '0.01', '1,000', '10⁷')
    """
    exponent = round(math.log10(value))
    return f"{value:,g}" if -3 <= exponent <= 5 else "10" + str(exponent).translate(_RAISED)


def _clipped(low: float, high: float, factor: float) -> tuple[float, float]:
    """From where to where a line of slope one through ``factor`` lies in the square."""
    return (low / min(factor, 1.0), high / max(factor, 1.0))


def series(dots: Sequence[Dot]) -> dict[str, str]:
    """Class → colour's role, by first appearance."""
    given = {d.series: d.role for d in dots}
    return {name: role or SERIES[i % len(SERIES)] for i, (name, role) in enumerate(given.items())}


def _dot(dot: Dot, x: Scale, y: Scale, role: str, told: bool) -> str:
    shape = element(
        "circle",
        cx=at(x(dot.across)),
        cy=pixel(y(dot.up)),
        r=4 if told else 2,
        class_=f"rp-{role}",
        fill=FILLS[role],
        fill_opacity=0.7 if told else 0.5,
    )
    return titled(dot.said, shape) if told and dot.said else shape


def series_words(dots: Sequence[Dot]) -> list[tuple[str, str]]:
    """(role, class) for a legend."""
    return [(role, name) for name, role in series(dots).items()]
