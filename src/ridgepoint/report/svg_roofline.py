"""The roofline as a chart: attainable operations per second over operations per byte, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ridgepoint.report.palette import FILLS
from ridgepoint.report.roofline_points import WHOLE, Mark, Roofline
from ridgepoint.report.svg import QUIET, Scale, at, chart, element, line, pixel, titled, words
from ridgepoint.report.text import number, percent, resource
from ridgepoint.units import si

_HEIGHT, _TOP, _BOTTOM = 400.0, 12.0, 366.0
_WIDTH = 700.0
"""Pixels of width at which labels are kept apart."""
_Box = tuple[float, float, float]
"""Left and right in per cent, and the line of a text."""
_NAMED, _LETTER, _LINE = 7, 6.6, 14.0
_FLOOR = 1e-5
"""Marks slower than this part of the highest ceiling stand on the floor of the chart."""


def roofline_svg(found: Roofline, role: Callable[[str], str], label: str) -> str:
    """Ceilings by format, slopes by memory, ridge points; a mark per component with its physical limit above it.

    ``role`` gives the colour of the resource that a component waits for.
    """
    x, y = _scales(found)
    taken: list[_Box] = []
    body = [*_grid(x, y), *_slopes(found, x, y, taken), *_ceilings(found, x, y, taken), *_ridges(found, x, y, taken)]
    body += [words(0.4, y(mark) - 3, si(mark, "FLOP/s", 1), css="rp-quiet rp-halo") for mark in y.decades()]
    marks = sorted(found.marks, key=lambda m: (m.label == WHOLE, m.share))
    body += [_mark(m, x, y, role(m.bound_by)) for m in marks]
    body += _names(found.marks, x, y, taken)
    return chart(_HEIGHT, label, *body)


def _wide(said: str) -> float:
    """Per cent of the usual width that a text takes."""
    return 100.0 * _LETTER * len(said) / _WIDTH


def _free(box: _Box, taken: list[_Box]) -> bool:
    left, right, down = box
    return not any(abs(down - d) < _LINE and left < r and start < right for start, r, d in taken)


def _scales(found: Roofline) -> tuple[Scale, Scale]:
    bandwidth = found.slopes[0][1]
    peaks = [rate for _, rate in found.ceilings]
    used = [r for names, r in found.ceilings if found.in_use(names)] or peaks
    intensities = [m.flop_per_byte for m in found.marks] + [r / bandwidth for r in used]
    slowest = min([m.flop_per_s for m in found.marks] + [min(used) / 10.0])
    left, right = max(min(intensities) / 2.5, 1e-3), max(intensities) * 4.0
    bottom = max(slowest / 2.5, max(peaks) * _FLOOR)
    return Scale(left, right, 0.0, 100.0), Scale(bottom, max(peaks) * 1.8, _BOTTOM, _TOP)


def _grid(x: Scale, y: Scale) -> Iterator[str]:
    for mark in y.decades():
        yield line(0, y(mark), 100, y(mark), "rp-grid")
    for mark in x.ticks():
        yield line(x(mark), _TOP, x(mark), _BOTTOM, "rp-grid")
        anchor = "start" if x(mark) < 3 else "end" if x(mark) > 97 else "middle"
        yield words(x(mark), _BOTTOM + 14, f"{mark:,g}", anchor, "rp-quiet")
    yield line(0, _BOTTOM, 100, _BOTTOM)
    yield words(50, _BOTTOM + 30, "FLOP per byte of main memory", "middle", "rp-quiet")


def _slopes(found: Roofline, x: Scale, y: Scale, taken: list[_Box]) -> Iterator[str]:
    top = max((r for names, r in found.ceilings if found.in_use(names)), default=found.ceilings[0][1])
    for i, (name, bandwidth) in enumerate(found.slopes):
        start, end = max(x.low, y.low / bandwidth), min(top / bandwidth, x.high)
        if start >= end:
            continue
        said, dash = f"{resource(name)}: {si(bandwidth, 'B/s')}", None if i == 0 else "5 4"
        ends = (x(start), y(start * bandwidth), x(end), y(end * bandwidth))
        yield titled(said, line(*ends, "rp-roof", stroke_width=2, stroke_dasharray=dash))
        part = 0.12 if i == 0 else 0.45 + 0.12 * i  # below the main memory's slope, above the others
        place = start ** (1.0 - part) * end**part
        across, down = x(place) + (1.5 if i == 0 else -1.5), y(place * bandwidth) + (12 if i == 0 else -5)
        taken.append((across, across + _wide(said), down) if i == 0 else (across - _wide(said), across, down))
        yield words(across, down, said, "start" if i == 0 else "end", "rp-quiet rp-halo")


def _ceilings(found: Roofline, x: Scale, y: Scale, taken: list[_Box]) -> Iterator[str]:
    for names, rate in found.ceilings:
        in_use = found.in_use(names)
        start = max(rate / found.slopes[0][1], x.low)
        if start >= x.high or rate < y.low:
            continue
        css, width = ("rp-roof", 2) if in_use else ("rp-unused", 1)
        said = f"{names}  {si(rate, 'FLOP/s')}"
        yield titled(f"peak {said}", line(x(start), y(rate), 100, y(rate), css, stroke_width=width))
        box = (99.6 - _wide(said), 99.6, y(rate) - 4)
        if _free(box, taken):
            taken.append(box)
            yield words(99.6, y(rate) - 4, said, "end", "rp-ink rp-halo" if in_use else "rp-quiet rp-halo")


def _ridges(found: Roofline, x: Scale, y: Scale, taken: list[_Box]) -> Iterator[str]:
    name, bandwidth = found.slopes[0]
    for names, rate in found.ceilings:
        ridge = rate / bandwidth
        if found.in_use(names) and x.low < ridge < x.high:
            shape = element(
                "circle", cx=at(x(ridge)), cy=pixel(y(rate)), r=4, class_="rp-ridge", fill="#ffffff", stroke=QUIET
            )
            said = f"ridge point of {names} over {resource(name)}: {number(ridge)} FLOP per byte"
            yield titled(said, shape)
            short = f"ridge {number(ridge)}"
            box = (x(ridge) + 0.8, x(ridge) + 0.8 + _wide(short), y(rate) + 15)
            if _free(box, taken):
                taken.append(box)
                yield words(box[0], box[2], short, css="rp-quiet rp-halo")


def _mark(mark: Mark, x: Scale, y: Scale, role: str) -> str:
    across, now, limit = x(mark.flop_per_byte), y(max(mark.flop_per_s, y.low)), y(max(mark.bound_flop_per_s, y.low))
    radius = 7.0 if mark.label == WHOLE else 4.0 + 8.0 * mark.share**0.5
    colour = {"class_": f"rp-{role} rp-dot", "fill": FILLS[role]}
    shape = (
        element("rect", x=at(across), y=pixel(now - 7), width=14, height=14, transform="translate(-7 0)", **colour)
        if mark.label == WHOLE
        else element("circle", cx=at(across), cy=pixel(now), r=pixel(radius), **colour)
    )
    ring = element("circle", cx=at(across), cy=pixel(limit), r=3.5, class_="rp-limit", fill="none", stroke=QUIET)
    return titled(_said(mark), line(across, now, across, limit, "rp-rule"), ring, shape)


def _said(mark: Mark) -> str:
    reached = percent(min(mark.flop_per_s / mark.bound_flop_per_s, 1.0))
    return (
        f"{mark.label}: {percent(mark.share)} of the time, {number(mark.flop_per_byte)} FLOP per byte, "
        f"{si(mark.flop_per_s, 'FLOP/s')}, {reached} of its physical limit"
    )


def _names(marks: tuple[Mark, ...], x: Scale, y: Scale, taken: list[_Box]) -> Iterator[str]:
    """Labels of the largest marks, moved down until they touch nothing; a line leads to those that moved."""
    places = {m.label: (x(m.flop_per_byte), y(max(m.flop_per_s, y.low))) for m in marks}
    taken = [*taken, *((across - 1.6, across + 1.6, down + 4) for across, down in places.values())]
    for mark in sorted(marks, key=lambda m: -m.share)[:_NAMED]:
        across, down = places[mark.label]
        wide = _wide(mark.label)
        right = across + 2.4 + wide < 99.0
        left = across + 2.4 if right else across - 2.4 - wide
        place = _room((left, left + wide, down + 4), taken)
        taken.append((left, left + wide, place))
        if abs(place - down) > 10:
            yield line(across, down, left - 0.3 if right else left + wide + 0.3, place - 4, "rp-rule")
        yield words(left if right else left + wide, place, mark.label, "start" if right else "end", "rp-ink rp-halo")


def _room(box: _Box, taken: list[_Box]) -> float:
    """The line nearest below a text's own where it touches nothing; above it where the chart ends before."""
    left, right, down = box
    below = (down + 2.0 * i for i in range(int((_BOTTOM - 4 - down) / 2.0) + 1))
    above = (down - 2.0 * i for i in range(int((down - _TOP) / 2.0)))
    return next((y for y in (*below, *above) if _free((left, right, y), taken)), down)
