"""An operating curve as one HTML page: throughput and latency over the requests under way, and the knee."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from ridgepoint.numeric import Array
from ridgepoint.report.html import folded, html_page, listed, notes, section, table
from ridgepoint.report.operating import ASSUMED, TITLES, knee_words, rows, subjects
from ridgepoint.report.picture import Picture
from ridgepoint.report.svg_map import Curve, curves_svg
from ridgepoint.report.text import count, number
from ridgepoint.serving.operating import Operating
from ridgepoint.units import duration

TICKS = 8


def operating_page(found: Operating, command: str = "") -> str:
    """The whole report of one curve."""
    given = found.deployment
    lengths, how = subjects(found)
    name = f"{given.model.name} on {given.machine.name}"
    head = f'<h1>{escape(name)}</h1><p class="rp-sub">serve · {escape(lengths)}<br>{escape(how)}</p>'
    shown = [(*figures, remark) for _, figures, remark in rows(found)]
    body = [
        head,
        f'<p class="rp-verdict">{escape(knee_words(found))}</p>',
        *(section(picture.title, picture.html) for picture in pictures(found)),
        section("Points of the curve", table((*TITLES, ""), shown, left=(len(TITLES),))),
        notes("Warnings", found.warnings),
        notes("Assumptions", (*given.assumptions, *ASSUMED)),
        folded("Citations", listed(found.citations)),
    ]
    return html_page(f"{name}: operating curve", body, command)


def pictures(found: Operating) -> list[Picture]:
    """All charts: ``throughput`` and ``latency`` over the requests under way."""
    tokens = [("tokens", "host", found.tokens_per_s)]
    times = [("first token", "memory", found.ttft_s), ("each further token", "matrix", found.tpot_s)]
    caption = "Hollow dots queue: more requests are under way than a replica holds." if _queues(found) else ""
    throughput = _chart(found, tokens, ("tokens per second", number), "Throughput over requests under way")
    latency = _chart(found, times, ("", duration), "Latency over requests under way")
    key = [(colour, name) for name, colour, _ in times]
    return [
        Picture("throughput", "Tokens per second of a replica", throughput, (), caption, wide=True),
        Picture("latency", "Latency", latency, key, caption, wide=True),
    ]


def _queues(found: Operating) -> bool:
    return bool((found.concurrency > found.capacity).any())


def _chart(
    found: Operating, named: list[tuple[str, str, Array]], up: tuple[str, Callable[[float], str]], label: str
) -> str:
    places = [float(value) for value in found.concurrency]
    curves = [Curve(name, colour, [_point(found, i, name, values, up[1]) for i in range(len(places))])
              for name, colour, values in named]  # fmt: skip
    ticks = [(value, count(value)) for value in places[:: max(1, len(places) // TICKS)]]
    return curves_svg(curves, ("requests under way", ticks), up, label)


def _point(
    found: Operating, i: int, name: str, values: Array, say: Callable[[float], str]
) -> tuple[float, float, str, bool]:
    under_way = float(found.concurrency[i])
    knee = ", the knee" if i == found.knee else ""
    said = f"{count(under_way)} under way{knee}: {name} {say(float(values[i]))}"
    return under_way, float(values[i]), said, under_way <= found.capacity
