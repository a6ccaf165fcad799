"""Reproducing papers: each claim's scenarios are predicted first, and only then put beside what the paper reports.

``predict`` never sees a reported value; ``outcome`` joins the two (design §7).
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from multiprocessing import active_children, get_context
from operator import or_
from typing import Any

import numpy as np
from msgspec import to_builtins

from ridgepoint.citations import Reliance
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.evidence.claims import Claim, Fleet, Served, claims, pair
from ridgepoint.evidence.fleet_costs import cheapest_usd_per_hour
from ridgepoint.evidence.papers.catalog import Paper, find_paper, list_papers
from ridgepoint.evidence.papers.rows import Claim as Figure
from ridgepoint.evidence.papers.rows import Side
from ridgepoint.evidence.quantities import COMPARE, figure, in_unit, usual
from ridgepoint.evidence.served_rates import seconds_per_request, usd_per_request

NEAR, WIDE = 1.10, 1.25
BEYOND = 2.0
"""How far on the right side of a bound a prediction may lie: 100 × for "over 2 ×" confirms nothing."""
STATES = ("within 10 %", "within 25 %", "off", "agrees with bound", "off bound", "withheld", "modelled", "failed")
"""``agrees with bound``, ``off bound``: the paper states a bound, not the figure; ``withheld``: predicted, the reported value
is kept back; ``modelled``: the paper states no such figure."""
COMPARED = STATES[:3]
"""States of a prediction beside a reported figure: what shares within 10 % and 25 % are shares of."""
BOUNDED = STATES[3:5]
"""States of a prediction beside a reported bound, counted apart."""


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
    def row(self) -> Figure | None:
        """The paper's claim, or None where it states no such figure."""
        return None if self.claim.index is None else self.paper.claims[self.claim.index]

    @property
    def side(self) -> Side:
        """``at_least`` or ``at_most`` where the paper states a bound."""
        return "" if self.row is None else self.row.side

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
    quantity, compare = _measures(claim, metric, unit)
    try:
        if claim.fleets is not None:
            return fleet_prediction(claim.fleets, COMPARE[compare])
        if claim.served is not None:
            return served_prediction(claim.served, quantity, COMPARE[compare])
        found = pair(claim)
        first, second = Estimate(found.baseline), Estimate(found.changed)
        before = figure(first, quantity, claim.baseline_part or claim.part)
        after = before if claim.changed is None else figure(second, quantity, claim.part)
        value = COMPARE[compare](before, after)
        scaled = in_unit(value, unit) if compare in ("absolute", "difference") else value
        return Prediction(scaled, before, after, found.said, reliance=first.reliance | second.reliance)
    except RidgepointError as error:
        return Prediction(None, error=error.message)


def _measures(claim: Claim, metric: str, unit: str) -> tuple[str, str]:
    """The claim's quantity and comparison: its own, or the metric's usual ones."""
    quantity, compare = usual(metric, unit)
    return claim.quantity or quantity, claim.compare or compare


def fleet_prediction(fleets: tuple[Fleet, Fleet], compare: Callable[[float, float], float]) -> Prediction:
    """Hourly costs of the cheapest fleets, compared."""
    before, after = (cheapest_usd_per_hour(fleet) for fleet in fleets)
    said = {"baseline": to_builtins(fleets[0]), "changed": to_builtins(fleets[1])}
    return Prediction(compare(before, after), before, after, said, reliance=Reliance(("griggs-2024",)))


def served_prediction(
    served: tuple[Served, Served], quantity: str, compare: Callable[[float, float], float]
) -> Prediction:
    """Seconds or dollars per request of two deployments at the highest rate within the goals, compared."""
    if quantity not in OF_SERVED:
        raise RidgepointError(
            "bad_claim", f"deployments under load have no '{quantity}'", "use " + ", ".join(OF_SERVED)
        )
    before, after = (OF_SERVED[quantity](one) for one in served)
    said = {"baseline": to_builtins(served[0]), "changed": to_builtins(served[1])}
    return Prediction(compare(before, after), before, after, said, reliance=Reliance(("patel-2024", "agrawal-2024")))


OF_SERVED = {"time_per_sample": seconds_per_request, "cost_per_sample": usd_per_request}


def outcome(claim: Claim, made: Callable[[], Prediction] | None = None) -> Outcome:
    """The prediction of a claim beside what its paper reports; ``made``: the prediction where it was begun before.

    Errors: ``unknown_paper`` or ``bad_claim`` for an entry whose row or index does not exist.
    """
    paper = find_paper(claim.slug)
    if claim.index is not None and claim.index >= len(paper.claims):
        raise RidgepointError("bad_claim", f"{claim.slug} has no claim {claim.index}", f"it has {len(paper.claims)}")
    row = None if claim.index is None else paper.claims[claim.index]
    metric, unit = _in_words(claim, row)
    prediction = predict(claim, metric, unit) if made is None else made()
    reported = None if row is None else row.value
    said = state(prediction, reported, row is None)
    if row is not None and row.side and said in COMPARED:
        less = _measures(claim, metric, unit)[1] == "percent_less"
        said = bound_state(float(prediction.value or 0.0), float(reported or 0.0), row.side, less)
    return Outcome(claim, paper, metric, unit, prediction, reported, said)


def _in_words(claim: Claim, row: Figure | None) -> tuple[str, str]:
    """Metric and unit: the claim's own, or those of the paper's row."""
    return claim.metric or (row.metric if row else "speedup"), claim.unit or (row.unit if row else "x")


@contextmanager
def _begun(found: Sequence[Claim], workers: int) -> Iterator[dict[int, Callable[[], Prediction]]]:
    """Claims on deployments, which take seconds each, begun in processes of their own beside all others."""
    long = [c for c in found if c.fleets is not None or c.served is not None]
    if workers < 2 or len(long) < 2:
        yield {}
        return
    with ProcessPoolExecutor(min(workers, len(long)), get_context("spawn")) as pool:
        made: dict[int, Callable[[], Prediction]] = {}
        others = active_children()
        with _interrupts_ignored():  # which the processes inherit: this one ends them
            for claim in long:
                row = None if claim.index is None else find_paper(claim.slug).claims[claim.index]
                made[id(claim)] = pool.submit(predict, claim, *_in_words(claim, row)).result
        try:
            yield made
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                if process not in others:
                    process.terminate()
            raise


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone may set this
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def bound_state(value: float, bound: float, side: Side, percent_less: bool = False) -> str:
    """Whether a prediction agrees with a bound: on its right side, and no more than ``BEYOND`` times past it.

    Of a reduction in per cent, what remains counts as well: 99 % less leaves a fifteenth of what "over 85 % less" leaves.

    >>> bound_state(13.0, 10.0, "at_least"), bound_state(9.9, 10.0, "at_least"), bound_state(100.0, 2.0, "at_least")
    ('agrees with bound', 'off bound', 'off bound')
    >>> bound_state(99.0, 85.0, "at_least", percent_less=True), bound_state(7.0, 12.0, "at_most")
    ('off bound', 'agrees with bound')
    """
    pairs = [(value, bound)] + ([(100.0 - bound, 100.0 - value)] if percent_less else [])
    pairs = pairs if side == "at_least" else [(b, a) for a, b in pairs]
    agrees = all(low > 0.0 and low <= high <= BEYOND * low for high, low in pairs)
    return BOUNDED[0] if agrees else BOUNDED[1]


def state(prediction: Prediction, reported: float | None, unstated: bool) -> str:
    """How near a prediction of a figure is: the larger of the ratio and its inverse decides.

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
    slugs: Iterable[str] | None = None,
    mechanism: str = "",
    progress: Callable[[], None] = lambda: None,
    workers: int = 1,
) -> list[Outcome]:
    """The outcomes of all claims, of some papers, or of one mechanism's papers.

    With several ``workers``, processes of their own predict what takes long (call it from a guarded main module then).

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
    outcomes: dict[int, Outcome] = {}
    with _begun(found, workers) as made:
        for claim in sorted(found, key=lambda c: id(c) in made):  # those that others work on last
            outcomes[id(claim)] = outcome(claim, made.get(id(claim)))
            progress()
    return [outcomes[id(claim)] for claim in found]


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts by state, and how the compared ones are spread: median ratio, share within 10 % and 25 %.

    These are of figures; ``bounds`` counts bounds apart: how many are stated, how many of them the prediction agrees with.
    """
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
        "bounds": {"compared": sum(counts[name] for name in BOUNDED), "agree": counts[BOUNDED[0]]},
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
        "side": found.side or None,
        "predicted": value if value is not None and math.isfinite(value) else None,
        "ratio": found.ratio,
        "state": found.state,
        "assumptions": [{"what": what, "from": source} for what, source in found.claim.assumptions],
        "scenario": dict(found.prediction.said),
        "note": found.claim.note or None,
        "error": found.prediction.error or None,
    }
