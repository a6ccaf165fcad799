"""Reproduced claims as one HTML page: predicted beside reported, every claim with what it assumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from ridgepoint.evidence.reproduce import STATES, Outcome, summary
from ridgepoint.report.html import folded, html_page, listed, section, table
from ridgepoint.report.picture import Picture
from ridgepoint.report.reproduce import bounds_line, reported
from ridgepoint.report.svg_scatter import Dot, scatter_svg, series_words
from ridgepoint.report.text import number, percent

BAND = 0.25
"""Claims within ±25 % count as reproduced."""
COLOURS = {
    "within 10 %": "host",
    "within 25 %": "memory",
    "off": "matrix",
    "agrees with bound": "vector",
    "off bound": "launch",
}
"""State of a compared claim → role of its dot."""


def reproduce_page(outcomes: Sequence[Outcome], command: str = "") -> str:
    """A plot of all that can be compared, and a table of everything."""
    found = summary(outcomes)
    counts = ", ".join(f"{found['states'][name]} {name}" for name in STATES if found["states"][name])
    head = "<h1>Papers' figures, predicted</h1>"
    head += f"<p>{found['claims']} claims of {found['papers']} papers: {escape(counts)}</p>"
    if found["compared"]:
        within = f"{percent(found['within_10_percent'])} within 10 %, {percent(found['within_25_percent'])} within 25 %"
        median = number(found["median_ratio"]) if found["median_ratio"] is not None else "–"
        head += f'<p class="rp-verdict"><strong>{escape(within)}</strong>, median ratio {escape(median)}</p>'
    if bounds := bounds_line(found):
        head += f"<p>beside these figures: {escape(bounds)}</p>"
    body = [head, section("Predicted beside reported", comparison(outcomes)), *_claims(outcomes)]
    return html_page("Ridgepoint: papers' figures", [*body, *_assumed(outcomes)], command)


def comparison(outcomes: Sequence[Outcome]) -> str:
    """The plot, or that nothing can be compared."""
    picture = comparison_picture(outcomes)
    return "<p>Nothing here can be compared.</p>" if picture is None else picture.html


def pictures(outcomes: Sequence[Outcome]) -> list[Picture]:
    """All charts: ``comparison``."""
    drawn = comparison_picture(outcomes)
    return [] if drawn is None else [drawn]


def comparison_picture(outcomes: Sequence[Outcome]) -> Picture | None:
    """Predicted over reported, a colour per state, with the band that counts as reproduced."""
    dots = [_dot(o) for o in outcomes if o.ratio is not None and o.ratio > 0.0 and o.reported and o.reported > 0.0]
    if not dots:
        return None
    svg = scatter_svg(dots, "reported", "predicted", "Predicted against reported figures", BAND)
    caption = f"Each in the claim's own unit; the band is ±{BAND:.0%}. Bounds stand where the paper put them."
    return Picture(
        "comparison",
        "Predicted beside reported",
        svg,
        sorted(series_words(dots), key=lambda s: STATES.index(s[1])),
        caption,
    )


def _dot(found: Outcome) -> Dot:
    reported, predicted = float(found.reported or 0.0), float(found.prediction.value or 0.0)
    said = (
        f"{found.claim.slug}, {found.metric}: predicted {number(predicted)}, reported {number(reported)} {found.unit}"
    )
    return Dot(found.state, reported, predicted, said, COLOURS.get(found.state, "launch"))


def _claims(outcomes: Sequence[Outcome]) -> list[str]:
    """What is compared, nearest first; what is predicted alone, for those who open it."""
    compared = sorted((o for o in outcomes if o.ratio), key=lambda o: abs(math.log(max(o.ratio or 1.0, 1e-12))))
    others = [o for o in outcomes if not o.ratio]
    found = [section("Claims, nearest first", claims_table(compared))] if compared else []
    title = f"{len(others)} claims have no figure to compare with here"
    return [*found, *([folded(title, claims_table(others))] if others else [])]


def claims_table(outcomes: Sequence[Outcome]) -> str:
    """Every claim: reported, predicted, ratio, state."""
    rows = [
        (
            o.claim.slug,
            f"{o.metric.replace('_', ' ')}, {o.unit}",
            reported(o),
            "" if o.prediction.value is None else number(o.prediction.value),
            "" if o.ratio is None else number(o.ratio),
            o.state,
        )
        for o in outcomes
    ]
    return table(("paper", "figure", "reported", "predicted", "ratio", "state"), rows, left=(0, 1, 5))


def _assumed(outcomes: Sequence[Outcome]) -> list[str]:
    found = []
    for o in outcomes:
        lines = [f"{what} ({source})" for what, source in o.claim.assumptions]
        lines += [text for text in (o.claim.note, o.prediction.error) if text]
        if lines:
            found.append(f"<h3>{escape(o.claim.slug)}, {escape(o.metric.replace('_', ' '))}</h3>{listed(lines)}")
    return [folded(f"What had to be assumed for {len(found)} of them", *found)] if found else []
