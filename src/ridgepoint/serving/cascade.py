"""Several models for one stream of requests: a router sends each to one of them, or a cascade asks the next where an answer
is not good enough (FrugalGPT, Chen et al. 2023).

Models have their own devices and do not see each other, so each is simulated by itself: first those that requests reach at
once, then the next on what was passed on, at the times at which answers were there. The user sees the last answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.outcome import Outcome, Slo
from ridgepoint.serving.simulate import Progress, simulate_requests
from ridgepoint.serving.statistics import Summary, summarize
from ridgepoint.serving.workload import Requests

Floats = NDArray[np.float64]
CASCADE, ROUTER = "cascade", "router"


@dataclass(frozen=True)
class Cascade:
    """What a stream of requests met. ``outcomes``: one per model that any request reached, ``indices``: which requests."""

    kind: str
    requests: Requests
    outcomes: tuple[Outcome, ...]
    indices: tuple[NDArray[np.int64], ...]

    @cached_property
    def columns(self) -> dict[str, Floats]:
        """Arrival, first and last token of the answer that the user sees, by request; nan where there is none."""
        count = len(self.requests)
        found = {name: np.full(count, np.nan) for name in ("first_s", "done_s")}
        for outcome, index in zip(self.outcomes, self.indices, strict=True):
            for name, column in found.items():
                column[index] = outcome.columns[name]
        return {"arrived_s": self.requests.arrival_s, **found}

    def summary(self, name: str) -> Summary | None:
        """Mean, percentiles and their intervals of ``ttft_s`` or ``latency_s``.

        Errors: ``bad_option`` for other names.
        """
        ends = {"ttft_s": "first_s", "latency_s": "done_s"}
        if name not in ends:
            raise RidgepointError("bad_option", f"a cascade has no {name}", "use " + " or ".join(ends))
        took = self.columns[ends[name]] - self.columns["arrived_s"]
        return summarize(took[~np.isnan(took)])

    @property
    def completed(self) -> NDArray[np.bool_]:
        """Which requests got the answer that the user sees."""
        return ~np.isnan(self.columns["done_s"])

    @property
    def span_s(self) -> float:
        """Seconds from the first arrival to the last token."""
        if not np.any(self.completed):
            return 0.0
        return float(np.nanmax(self.columns["done_s"]) - self.columns["arrived_s"].min())

    def attainment(self, slo: Slo) -> float:
        """Part of all requests whose user saw the answer within the goals."""
        columns, further = self.columns, self.requests.output - 1
        took = {name: columns[name] - columns["arrived_s"] for name in ("first_s", "done_s")}
        with np.errstate(invalid="ignore"):
            good = self.completed
            good = good & (took["first_s"] <= (np.inf if slo.ttft_s is None else slo.ttft_s))
            good = good & (took["done_s"] <= (np.inf if slo.latency_s is None else slo.latency_s))
            if slo.tpot_s is not None:
                good = good & (columns["done_s"] - columns["first_s"] <= slo.tpot_s * further * (1.0 + 1e-9))
        return float(np.mean(good))

    @property
    def energy_j(self) -> float | None:
        """Joules of all devices over the spans in which their model was in use."""
        parts = [outcome.energy_j for outcome in self.outcomes]
        return None if any(part is None for part in parts) else float(sum(part or 0.0 for part in parts))

    @property
    def cost_usd(self) -> float | None:
        """Dollars for all devices over those spans."""
        parts = [outcome.cost_usd for outcome in self.outcomes]
        return None if any(part is None for part in parts) else float(sum(part or 0.0 for part in parts))

    @property
    def citations(self) -> tuple[str, ...]:
        """What the simulations of all models relied on."""
        return tuple(dict.fromkeys(line for outcome in self.outcomes for line in outcome.citations))


def simulate_cascade(
    deployments: Sequence[Deployment],
    parts: Sequence[float],
    requests: Requests,
    *,
    kind: str = CASCADE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Cascade:
    """Serve ``requests`` with several models. In a cascade ``parts[i]`` is the probability that the answer of model i is
    not good enough and model i + 1 is asked (none for the last); a router sends the part ``parts[i]`` to model i + 1 and the
    rest to the first.

    >>> import ridgepoint as rp
    >>> from ridgepoint.serving.deployment import deployment
    >>> small, large = (deployment(name, "h100-sxm") for name in ("llama-3.2-1b", "llama-3.1-8b"))
    >>> load = rp.poisson_requests(2.0, 100, "500", "50")
    >>> found = simulate_cascade([small, large], [0.3], load)
    >>> [len(index) for index in found.indices][0], 15 < len(found.indices[1]) < 45
    (100, True)

    Errors: ``bad_cascade``, ``bad_workload`` for requests that wait for answers.
    """
    _check(deployments, parts, requests, kind)
    random = np.random.default_rng([seed, 13])
    if kind == ROUTER:
        bounds = np.cumsum([1.0 - sum(parts), *parts])
        where = np.searchsorted(bounds, random.random(len(requests)) * bounds[-1], side="right")
        chosen = [np.flatnonzero(where == i) for i in range(len(deployments))]
        served = [
            (simulate_requests(one, requests.taken(index), seed=seed, progress=progress), index)
            for one, index in zip(deployments, chosen, strict=True)
            if len(index)
        ]
        return Cascade(kind, requests, tuple(o for o, _ in served), tuple(i for _, i in served))
    outcomes, indices = [], []
    index, arrival = np.arange(len(requests)), requests.arrival_s
    for one, part in zip(deployments, [*parts, 0.0], strict=True):
        found = simulate_requests(one, requests.taken(index, arrival), seed=seed, progress=progress)
        outcomes.append(found)
        indices.append(index)
        done = found.columns["done_s"]
        on = ~np.isnan(done) & (random.random(len(index)) < part)
        index, arrival = index[on], done[on]
        order = np.argsort(arrival, kind="stable")
        index, arrival = index[order], arrival[order]
        if not len(index):
            break
    return Cascade(kind, requests, tuple(outcomes), tuple(indices))


def _check(deployments: Sequence[Deployment], parts: Sequence[float], requests: Requests, kind: str) -> None:
    if kind not in (CASCADE, ROUTER):
        raise RidgepointError("bad_cascade", f"kind is '{kind}'", f"use {CASCADE} or {ROUTER}")
    if len(parts) != len(deployments) - 1 or not parts or any(not 0.0 <= part <= 1.0 for part in parts):
        raise RidgepointError(
            "bad_cascade", f"{len(parts)} parts for {len(deployments)} models", "give one from 0 to 1 per further model"
        )
    if kind == ROUTER and sum(parts) > 1.0:
        raise RidgepointError("bad_cascade", f"parts sum to {sum(parts):g}", "leave the rest to the first model")
    if requests.closed:
        raise RidgepointError(
            "bad_workload",
            "conversations and clients wait for the last answer",
            "give a trace or a rate for several models",
        )
