"""A simulation as one HTML page, and as a part of the local page: the verdict, latencies, how it went over time."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from ridgepoint.report.html import facts, folded, html_page, listed, notes, section, table
from ridgepoint.report.palette import role, shades
from ridgepoint.report.picture import Picture
from ridgepoint.report.simulation import LATENCY_TITLES, latency_rows, subjects
from ridgepoint.report.simulation import facts as fact_rows
from ridgepoint.report.svg_bars import Bar, Part, stacked_svg
from ridgepoint.report.svg_time import Band, Spread, columns_svg, spread_svg
from ridgepoint.report.text import number, percent, resource
from ridgepoint.serving.outcome import Outcome
from ridgepoint.serving.series import series, shares_over_time
from ridgepoint.units import duration

SAID = 0.02
"""Shares of the busy time below this are not worth words."""


def simulation_page(found: Outcome, command: str = "") -> str:
    """The whole report of one simulation."""
    given = found.deployment
    title = f"{given.model.name} on {given.machine_name}: {len(found.requests):,} requests"
    return html_page(title, [*head(found), *body(found), *grounds(found)], command)


def head(found: Outcome) -> Iterator[str]:
    """What was asked, the verdict, the key figures."""
    given = found.deployment
    load, how = subjects(found)
    yield f"<h1>{escape(given.model.name)} on {escape(given.machine_name)}</h1>"
    yield f'<p class="rp-sub">{escape(load)}<br>{escape(how)}</p>'
    yield verdict_html(found)
    yield facts(fact_rows(found))


def verdict_html(found: Outcome) -> str:
    """One sentence: whether it keeps up, what half and nearly all requests see, what keeps it busy."""
    first, last = found.summary("ttft_s"), found.summary("latency_s")
    if first is None or last is None:
        return '<p class="rp-verdict rp-warn"><span class="rp-no">No request was completed.</span></p>'
    token = found.summary("tpot_s")
    sees = f"half of the requests wait {duration(first.p50)} for the first token"
    sees += f", each further one takes {duration(token.p50)}" if token is not None else ""
    sees += f"; 99 % have all within {duration(last.p99)}."
    busy = busy_words(found)
    if found.queue.overloaded:
        growth = number(found.queue.growth_per_s)
        failing = f'<span class="rp-no">It does not keep up</span>: the queue grows by {growth} requests per second. '
        return f'<p class="rp-verdict rp-warn">{failing}Until the last arrival, {escape(sees)} {escape(busy)}</p>'
    goal = ""
    if found.slo:
        goal = f"<strong>{percent(found.attainment)} of requests keep the goals</strong>: "
    start = goal or "<strong>It keeps up</strong>: "
    return f'<p class="rp-verdict">{start}{escape(sees)} {escape(busy)}</p>'


def busy_words(found: Outcome) -> str:
    """What the busy time goes to, and how much of the time is busy."""
    given = found.deployment
    words = [f"{percent(s)} {resource(given.resource_label(r))}" for r, s in found.shares.items() if s >= SAID][:3]
    if not words:
        return ""
    return f"Replicas work {percent(float(np.mean(found.utilization)))} of the time; of that {', '.join(words)}."


def body(found: Outcome) -> Iterator[str]:
    """Warnings, latencies as a table and as curves, what limits it, everything over time."""
    yield notes("Warnings", found.warnings)
    drawn = {picture.name: picture for picture in pictures(found)}
    spread = drawn.pop("latencies").html if "latencies" in drawn else ""
    yield section("Latencies", _latencies(found), spread)
    if "shares" in drawn:
        yield section(drawn["shares"].title, drawn.pop("shares").html)
    pairs = (f"<div><h3>{escape(picture.title)}</h3>{picture.html}</div>" for picture in drawn.values())
    yield section("Over time", f'<div class="rp-pairs">{"".join(pairs)}</div>')


def _latencies(found: Outcome) -> str:
    """Percentiles; intervals where there are enough requests for any."""
    rows = [*latency_rows(found)]
    width = len(LATENCY_TITLES) if any(row[-1] for row in rows) else -1
    return table(LATENCY_TITLES[:width], [row[:width] for row in rows])


def grounds(found: Outcome) -> Iterator[str]:
    """What the figures rest on."""
    yield notes("Assumptions", found.deployment.assumptions)
    yield folded("Citations", listed(found.citations))


def pictures(found: Outcome) -> list[Picture]:
    """All charts: ``latencies`` and ``shares`` where any request was completed, then those over time."""
    spread, shares = latency_picture(found), share_picture(found)
    return [*([spread] if spread else []), *([shares] if shares else []), *over_time(found)]


def latency_picture(found: Outcome) -> Picture | None:
    """Which share of requests had its first token, a further one, and everything within a time."""
    named = (
        ("first token", "memory", found.ttft_s, found.slo.ttft_s),
        ("each further token", "host", found.tpot_s, found.slo.tpot_s),
        ("whole answer", "matrix", found.latency_s, found.slo.latency_s),
    )
    spreads = [
        Spread(name, colour, np.sort(values).tolist(), goal) for name, colour, values, goal in named if len(values)
    ]
    if not spreads:
        return None
    svg = spread_svg(spreads, "Share of requests within a time: first token, each further token, whole answer")
    caption = "Share of requests within a time; dots are the median, 90 % and 99 %." + (
        " Dashed lines are the goals." if found.slo else ""
    )
    return Picture("latencies", "Latencies", svg, [(s.colour, s.name) for s in spreads], caption, wide=True)


def share_picture(found: Outcome) -> Picture | None:
    """The busy time of all replicas as one bar of resources."""
    machine, busy = found.deployment.machine, sum(found.usage.critical_s.values())
    if not busy:
        return None
    colours = shades((name, role(machine, name)) for name in found.shares)
    named = {name: resource(found.deployment.resource_label(name)) for name in found.shares}
    parts = [
        Part(named[name], share, colours[name], f"{percent(share)}, {duration(share * busy)}")
        for name, share in found.shares.items()
    ]
    svg = stacked_svg(
        [Bar("busy time of all replicas", duration(busy), parts)], "The busy time by what is responsible for it"
    )
    key = [(colours[name], f"{named[name]} {percent(s)}") for name, s in found.shares.items() if s >= SAID / 10.0]
    return Picture("shares", "What limits it", svg, key)


def over_time(found: Outcome) -> Iterator[Picture]:
    """``requests``, ``tokens``, ``cache``, ``work``, ``arrivals``, ``power`` where it is known, ``limits``: means over equal
    stretches of the span.
    """
    told = {name: [float(v) for v in values] for name, values in series(found).items()}
    start = float(np.nanmin(found.columns["arrived_s"]))
    edges = [0.0, *(end - start for end in told["end_s"])]

    def drawn(name: str, title: str, bands: list[Band], unit: str, most: float = 0.0) -> Picture:
        say = percent if unit == "%" else (lambda v: f"{number(v)}{unit}")
        heights = [sum(values) for values in zip(*(b.values for b in bands), strict=True)]
        label = f"{title} over time: {say(float(np.mean(heights)))} in the mean, at most {say(max(heights))}"
        key = [(band.colour, band.name) for band in bands] if len(bands) > 1 else []
        svg = columns_svg(bands, edges, say, label, most)
        return Picture(name, title, svg, key, f"{label.partition(': ')[2]}.")

    decoding, waiting = Band("being answered", "memory", told["decoding"]), Band("waiting", "matrix", told["waiting"])
    yield drawn("requests", "Requests in the system", [decoding, waiting], "")
    yield drawn("tokens", "Tokens made per second", [Band("", "host", told["tokens_per_s"])], "")
    yield drawn("cache", "Cache of keys and values in use", [Band("", "memory", told["cache"])], "%", 1.0)
    yield drawn("work", "Replicas at work", [Band("", "latency", told["busy"])], "%", 1.0)
    yield drawn("arrivals", "Arrivals per second", [Band("", "launch", told["arrivals_per_s"])], "")
    if np.all(np.isfinite(told["power_w"])):
        yield drawn("power", "Power of all devices", [Band("", "matrix", told["power_w"])], " W")
    yield drawn("limits", "What limits the replicas", _limits(found, len(told["end_s"])), "%", 1.0)


def _limits(found: Outcome, bins: int) -> list[Band]:
    """The part of the replicas' time that each main resource is responsible for, over time."""
    machine, table = found.deployment.machine, shares_over_time(found, bins)
    names = [name for name, share in found.shares.items() if share >= SAID and name in table]
    colours = shades((name, role(machine, name)) for name in names)
    return [
        Band(resource(found.deployment.resource_label(name)), colours[name], [float(v) for v in table[name]])
        for name in names
    ]
