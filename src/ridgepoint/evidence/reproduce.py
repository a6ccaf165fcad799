"""Reproducing papers: each claim's scenarios are predicted first, and only then put beside what the paper reports.

``predict`` never sees a reported value; ``outcome`` joins the two (design §7).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from msgspec import to_builtins

from ridgepoint.citations import Reliance
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.evidence.claims import Claim, Fleet, claims, pair
from ridgepoint.evidence.fleet_costs import cheapest_usd_per_hour
from ridgepoint.evidence.papers.catalog import Paper, find_paper, list_papers
from ridgepoint.evidence.quantities import COMPARE, figure, in_unit, usual

NEAR, WIDE = 1.10, 1.25
STATES = ("within 10 %", "within 25 %", "off", "withheld", "modelled", "failed")
"""``withheld``: predicted, the reported value is kept back; ``modelled``: the paper states no such figure."""
COMPARED = STATES[:3]
"""States of a prediction that stands beside a reported value."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of a claim: the figure of both scenarios, and the claim's own comparison of them."""

    value: float | None
    before: float | None = None
    after: float | None = None
    said: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    reliance: Reliance = field(default_factory=Reliance)


@dataclass(frozen=True)
class Outcome:
    """A prediction beside the reported value."""

    claim: Claim
    paper: Paper
    metric: str
    unit: str
    prediction: Prediction
    reported: float | None
    state: str

    @property
    def ratio(self) -> float | None:
        """Predicted over reported, or None where there is nothing to compare."""
        value = self.prediction.value
        if value is None or self.reported is None or self.reported == 0.0:
            return None
        return value / self.reported

    @property
    def reliance(self) -> Reliance:
        """What the prediction relied on, and the paper itself."""
        return self.prediction.reliance | Reliance(more=(self.paper.reference,))

    @property
    def citations(self) -> tuple[str, ...]:
        """The same, one line each."""
        return self.reliance.lines


def predict(claim: Claim, metric: str, unit: str) -> Prediction:
    """Both scenarios evaluated and compared as the metric (or the claim itself) says; never fails, says why instead."""
    quantity, compare = usual(metric, unit)
    quantity, compare = claim.quantity or quantity, claim.compare or compare
    try:
        if claim.fleets is not None:
            return fleet_prediction(claim.fleets, COMPARE[compare])
        found = pair(claim)
        first, second = Estimate(found.baseline), Estimate(found.changed)
        before = figure(first, quantity, claim.baseline_part or claim.part)
        after = before if claim.changed is None else figure(second, quantity, claim.part)
        value = COMPARE[compare](before, after)
        scaled = in_unit(value, unit) if compare in ("absolute", "difference") else value
        return Prediction(scaled, before, after, found.said, reliance=first.reliance | second.reliance)
    except RidgepointError as error:
        return Prediction(None, error=error.message)


def fleet_prediction(fleets: tuple[Fleet, Fleet], compare: Callable[[float, float], float]) -> Prediction:
    """Hourly costs of the cheapest fleets, compared."""
    before, after = (cheapest_usd_per_hour(fleet) for fleet in fleets)
    said = {"baseline": to_builtins(fleets[0]), "changed": to_builtins(fleets[1])}
    return Prediction(compare(before, after), before, after, said, reliance=Reliance(("griggs-2024",)))


def outcome(claim: Claim) -> Outcome:
    """The prediction of a claim beside what its paper reports.

    Errors: ``unknown_paper`` or ``bad_claim`` for an entry whose row or index does not exist.
    """
    paper = find_paper(claim.slug)
    if claim.index is not None and claim.index >= len(paper.claims):
        raise RidgepointError("bad_claim", f"{claim.slug} has no claim {claim.index}", f"it has {len(paper.claims)}")
    row = None if claim.index is None else paper.claims[claim.index]
    metric = claim.metric or (row.metric if row else "speedup")
    unit = claim.unit or (row.unit if row else "x")
    prediction = predict(claim, metric, unit)
    reported = None if row is None else row.value
    return Outcome(claim, paper, metric, unit, prediction, reported, state(prediction, reported, row is None))


def state(prediction: Prediction, reported: float | None, unstated: bool) -> str:
    """How near a prediction is: the larger of the ratio and its inverse decides.

    >>> state(Prediction(2.1), 2.0, False), state(Prediction(2.0), 4.0, False), state(Prediction(2.0), None, True)
    ('within 10 %', 'off', 'modelled')
    """
    if prediction.value is None:
        return "failed"
    if reported is None:
        return "modelled" if unstated else "withheld"
    if prediction.value * reported <= 0.0:
        return "off"
    miss = max(prediction.value / reported, reported / prediction.value)
    return "within 10 %" if miss <= NEAR else "within 25 %" if miss <= WIDE else "off"


def reproduce(
    slugs: Iterable[str] | None = None, mechanism: str = "", progress: Callable[[], None] = lambda: None
) -> list[Outcome]:
    """The outcomes of all claims, of some papers, or of one mechanism's papers.

    Errors: ``unknown_paper``, ``unknown_mechanism`` with the nearest names; ``no_claims`` where nobody modelled any.
    """
    wanted = None if slugs is None else [find_paper(slug).slug for slug in slugs]
    found = [c for c in claims() if wanted is None or c.slug in wanted]
    if mechanism:
        slugs_of = {paper.slug for paper in list_papers(mechanism=mechanism)}
        found = [c for c in found if c.slug in slugs_of]
        if not found:
            raise RidgepointError(
                "no_claims", f"nothing is modelled for the mechanism {mechanism}", "ridgepoint papers list"
            )
    for slug in wanted or ():
        if not any(c.slug == slug for c in found):
            raise RidgepointError("no_claims", f"nothing is modelled for {slug}", f"ridgepoint papers show {slug}")
    outcomes = []
    for claim in found:
        outcomes.append(outcome(claim))
        progress()
    return outcomes


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts by state, and how the compared ones are spread: median ratio, share within 10 % and 25 %."""
    ratios = [o.ratio for o in outcomes if o.state in COMPARED and o.ratio is not None and o.ratio > 0.0]
    counts = {name: sum(o.state == name for o in outcomes) for name in STATES}
    compared = sum(counts[name] for name in COMPARED)
    return {
        "claims": len(outcomes),
        "papers": len({o.claim.slug for o in outcomes}),
        "compared": compared,
        "states": counts,
        "within_10_percent": counts["within 10 %"] / compared if compared else None,
        "within_25_percent": (counts["within 10 %"] + counts["within 25 %"]) / compared if compared else None,
        "median_ratio": float(np.median(ratios)) if ratios else None,
        "spread": float(np.std(np.log(ratios))) if len(ratios) > 1 else None,
    }


def document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Design §10's document."""
    return {
        "claims": [_entry(o) for o in outcomes],
        "summary": summary(outcomes),
        "citations": list(citations(outcomes)),
    }


def citations(outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    """What the predictions relied on: the papers whose figures are predicted, kernel models, techniques, coefficients."""
    return reduce(or_, (found.reliance for found in outcomes), Reliance()).lines


def _entry(found: Outcome) -> dict[str, Any]:
    value = found.prediction.value
    return {
        "slug": found.claim.slug,
        "index": found.claim.index,
        "metric": found.metric,
        "unit": found.unit,
        "reported": found.reported,
        "predicted": value if value is not None and math.isfinite(value) else None,
        "ratio": found.ratio,
        "state": found.state,
        "assumptions": [{"what": what, "from": source} for what, source in found.claim.assumptions],
        "scenario": dict(found.prediction.said),
        "note": found.claim.note or None,
        "error": found.prediction.error or None,
    }
