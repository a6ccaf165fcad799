"""Rewrites docs/evidence.md from `ridgepoint reproduce --all`: the spread of ratios, claims by mechanism, and every miss.

python -m tools.evidence [--check]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ridgepoint.evidence.papers.catalog import papers
from ridgepoint.evidence.record import write_record
from ridgepoint.evidence.reproduce import BOUNDED, COMPARED, Outcome, reproduce, summary
from ridgepoint.report.reproduce import bounds_line, reported
from ridgepoint.report.text import number, percent

PAGE = Path(__file__).parent.parent / "docs" / "evidence.md"
HEAD = """# Evidence: what papers report, beside what Ridgepoint predicts

Written by `python -m tools.evidence` from `ridgepoint reproduce --all`; nothing here is typed. Each claim is a pair of
scenarios with the paper's own parameters and every assumption that its abstract does not state (`ridgepoint reproduce SLUG`
shows them). Reported values stand in another file and are joined after the prediction is made. A figure that is off stays
here with its remark.
"""
EDGES = (0.0, 0.25, 0.5, 0.8, 1 / 1.1, 1.1, 1.25, 2.0, 4.0, np.inf)


def page(outcomes: Sequence[Outcome]) -> str:
    """The whole document."""
    return (
        "\n".join([HEAD, *_overview(outcomes), *_spread(outcomes), *_mechanisms(outcomes), *_claims(outcomes)]) + "\n"
    )


def _overview(outcomes: Sequence[Outcome]) -> Iterator[str]:
    found = summary(outcomes)
    rows = papers().values()
    states = {state: sum(p.state == state for p in rows) for state in ("reproduced", "modelled", "listed")}
    yield "## In short\n"
    yield f"- {len(rows)} papers: {states['reproduced']} reproduced, {states['modelled']} modelled, {states['listed']} listed."
    yield (
        f"- {found['claims']} claims of {found['papers']} papers are predicted; {found['compared']} stand beside a "
        f'reported figure, {found["bounds"]["compared"]} beside a bound that the paper states ("over", "at least", '
        '"under").'
    )
    yield (
        f"- Of the figures, {percent(found['within_10_percent'])} come out within 10 % and "
        f"{percent(found['within_25_percent'])} within 25 %; the "
        f"median ratio of predicted to reported is {number(found['median_ratio'])}."
    )
    yield f"- Bounds are no part of these shares: {bounds_line(found)}."
    yield f"- {found['states']['withheld']} more are predicted without a reported value at hand.\n"


def _spread(outcomes: Sequence[Outcome]) -> Iterator[str]:
    ratios = np.array([o.ratio for o in outcomes if o.state in COMPARED and o.ratio is not None])
    yield "## Spread of predicted over reported\n"
    yield "| ratio | claims | |\n| --- | ---: | --- |"
    for low, high in pairwise(EDGES):
        count = int(np.sum((ratios >= low) & (ratios < high)))
        upper = f"to {high:.2f}" if np.isfinite(high) else "and more"
        yield f"| {low:.2f} {upper} | {count} | {'█' * count} |"
    negative = int(np.sum(ratios < 0.0))
    yield f"| of the other sign | {negative} | {'█' * negative} |\n"


def _mechanisms(outcomes: Sequence[Outcome]) -> Iterator[str]:
    groups: dict[str, list[Outcome]] = {}
    for found in outcomes:
        groups.setdefault(found.paper.mechanism[0], []).append(found)
    yield "## By mechanism\n"
    yield "| mechanism | papers | claims | compared | within 25 % | median ratio |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, members in sorted(groups.items(), key=lambda item: -len(item[1])):
        s = summary(members)
        within = percent(s["within_25_percent"]) if s["compared"] else ""
        median = number(s["median_ratio"]) if s["median_ratio"] is not None else ""
        yield f"| {name} | {s['papers']} | {s['claims']} | {s['compared']} | {within} | {median} |"
    yield ""


def _claims(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "## Every compared claim\n"
    yield "| paper | figure | reported | predicted | ratio | state | remark |\n| --- | --- | ---: | ---: | ---: | --- | --- |"
    for o in sorted(outcomes, key=lambda o: o.claim.slug):
        if (
            o.state in (*COMPARED, *BOUNDED)
            and o.reported is not None
            and o.prediction.value is not None
            and o.ratio is not None
        ):
            what = f"{o.metric}, {o.unit}".replace("|", "/")
            remark = o.claim.note.replace("|", "/")
            yield (
                f"| {o.claim.slug} | {what} | {reported(o)} | {number(o.prediction.value)} | {number(o.ratio)} "
                f"| {o.state} | {remark} |"
            )


def main() -> int:
    """Write the page (and the record that advise shows), or check that they are as they would be written."""
    outcomes = reproduce(workers=os.cpu_count() or 1)
    text = page(outcomes)
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.read_text("utf-8") == text else 1
    PAGE.write_text(text, "utf-8")
    write_record(outcomes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
