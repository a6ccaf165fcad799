"""The cheapest fleet for a load within latency goals (Mélange, Griggs et al. 2024).

Requests fall into buckets of similar size. A replica of type g serves T(g, b) requests of bucket b per second within the
goals, by the steady-state model of open arrivals; with the part A(b, g) of the bucket's rate r(b) on that type

    minimise  Σ_g price(g) · N(g)     subject to   Σ_g A(b, g) = 1,   Σ_b A(b, g) · r(b) / T(g, b) ≤ fill · N(g),   N whole

solved exactly. What comes out is simulated request by request; where fewer requests keep the goals than asked for, less
is put on the replicas (``fill``), until the simulation agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import or_

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_device
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.serving.citing import reliance_of
from ridgepoint.serving.deployment import language_model
from ridgepoint.serving.mix import FILL, Fleet, Search
from ridgepoint.serving.offers import Bucket, Offer, Refused, Space, buckets_of, offers_of, offers_on
from ridgepoint.serving.outcome import Slo
from ridgepoint.serving.reach import beyond
from ridgepoint.serving.workload import Requests

FRONT = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
"""Multiples of the goals at which the cost is shown."""


@dataclass(frozen=True)
class Single:
    """A fleet of one device type alone; None where it cannot."""

    device: str
    fleet: Fleet | None
    why: str = ""


@dataclass(frozen=True)
class ServePlan:
    """The answer of ``plan_serve``."""

    model: Model
    slo: Slo
    attainment: float
    rate: float
    buckets: tuple[Bucket, ...]
    fleet: Fleet
    singles: tuple[Single, ...]
    refused: tuple[Refused, ...]
    front: tuple[tuple[float, Fleet | None], ...]
    """(multiple of the goals, the cheapest fleet by the steady-state model)."""
    spare: int = 0
    longest: int = 0
    """Tokens of the longest request."""

    @property
    def best_single(self) -> Single | None:
        """The cheapest single device type that the simulation confirmed."""
        able = [s for s in self.singles if s.fleet is not None]
        return min(able, key=lambda s: s.fleet.usd_per_hour if s.fleet else np.inf, default=None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader must know before using the plan."""
        return beyond(self.model, self.longest)

    @cached_property
    def citations(self) -> tuple[str, ...]:
        """What the plan relied on: of its own fleet, and of those of one type beside it."""
        fleets = [self.fleet, *(single.fleet for single in self.singles if single.fleet is not None)]
        found = [reliance_of(m.offer.deployment, "griggs-2024") for fleet in fleets for m in fleet.members]
        return reduce(or_, found).lines


def plan_serve(
    model: Model | str,
    *,
    requests: Requests,
    devices: tuple[str, ...],
    slo: Slo,
    attainment: float = 0.9,
    space: Space | None = None,
    limits: dict[str, int] | None = None,
    spare: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ServePlan:
    """The cheapest fleet of ``devices`` that serves ``requests`` such that the part ``attainment`` of them keeps ``slo``.

    ``space``: what is tried of layouts and formats (serving/offers.py). ``limits``: devices of a type that can be had.
    ``spare``: replicas beyond need of every type in use, for failures.

    Errors: ``no_goal``, ``no_plan`` where nothing keeps the goals (with the nearest and what binds), unknown names.
    """
    found = language_model(model)
    slo.needed()
    if requests.closed or requests.rate <= 0.0:
        raise RidgepointError("bad_workload", "a fleet is sized for arrivals at a rate", "give a trace or a rate")
    if not 0.0 < attainment < 1.0:
        raise RidgepointError("bad_goal", f"an attainment of {attainment:g} is no part of requests", "use 0.9 or 0.99")
    if spare < 0:
        raise RidgepointError("bad_option", f"{spare} spare replicas cannot be had", "use 0 or more")
    names = tuple(dict.fromkeys(find_device(name).name for name in devices))
    buckets, group = buckets_of(requests)
    offers, refused = offers_of(found, names, buckets, space or Space(), progress)
    search = Search(requests, buckets, group, slo, attainment, limits or {}, spare, seed)
    best = search.verified(offers)
    if best is None:
        raise _nothing(found, offers, refused, slo, buckets, search)
    singles = tuple(_single(search, name, offers, refused) for name in names)
    if (alone := _cheapest(singles)) is not None and alone.usd_per_hour < best.usd_per_hour:
        best = alone  # the simulation thinned the mix more than the single type
    front = tuple((factor, search.solve(offers, _scaled(slo, factor), best.fill)) for factor in FRONT)
    longest = int((requests.prompt + requests.output).max())
    return ServePlan(
        found, slo, attainment, requests.rate, buckets, best, singles, tuple(refused), front, spare, longest
    )


def cheapest(
    model: Model, machines: tuple[Machine, ...], requests: Requests, slo: Slo, space: Space | None = None
) -> Fleet | None:
    """The cheapest fleet of devices like ``machines`` (one device each) by the steady state alone, not simulated."""
    buckets, group = buckets_of(requests)
    offers = [offer for one in machines for offer in offers_on(model, one, buckets, space or Space())[0]]
    return Search(requests, buckets, group, slo, 0.9, {}, 0, 0).solve(offers, slo, FILL) if offers else None


def _scaled(slo: Slo, factor: float) -> Slo:
    def times(value: float | None) -> float | None:
        return None if value is None else value * factor

    return Slo(times(slo.ttft_s), times(slo.tpot_s))


def _cheapest(singles: tuple[Single, ...]) -> Fleet | None:
    return min((s.fleet for s in singles if s.fleet is not None), key=lambda f: f.usd_per_hour, default=None)


def _single(search: Search, name: str, offers: list[Offer], refused: list[Refused]) -> Single:
    mine = [offer for offer in offers if offer.device == name]
    if not mine:
        return Single(name, None, next((r.why for r in refused if r.device == name), "no layout fits"))
    fleet = search.verified(mine)
    return Single(name, fleet, "" if fleet is not None else _binds(mine, search.slo, search.buckets))


def _binds(offers: list[Offer], slo: Slo, buckets: tuple[Bucket, ...]) -> str:
    """Which bucket a device type cannot serve, how near it comes and in what."""
    for b, bucket in enumerate(buckets):
        curves = [offer.curves[b] for offer in offers]
        if any(curve is not None and curve.most_within(slo.ttft_s, slo.tpot_s) > 0.0 for curve in curves):
            continue
        size = f"prompts of {bucket.prompt:,.0f} and outputs of {bucket.output:,.0f} tokens"
        known = [(curve, offer) for curve, offer in zip(curves, offers, strict=True) if curve is not None]
        if not known:
            return f"{size} do not fit its memory"
        parts = []
        for what, goal, name, digits in (("first", slo.ttft_s, "ttft_s", 0), ("further", slo.tpot_s, "tpot_s", 1)):
            best, on = min(
                ((float(getattr(curve, name)[0]), offer) for curve, offer in known), key=lambda pair: pair[0]
            )
            if goal is not None and best > goal:
                devices = f"{on.devices} × {on.device}" if on.devices > 1 else on.device
                parts.append(f"a {what} token takes {best * 1e3:,.{digits}f} ms at best, on {devices}")
        return f"{size}: {', '.join(parts) or 'no layout keeps both goals at once'}"
    return "the simulation keeps fewer requests within the goals than asked for, or there are too few devices"


def _nothing(
    model: Model,
    offers: list[Offer],
    refused: list[Refused],
    slo: Slo,
    buckets: tuple[Bucket, ...],
    search: Search,
) -> RidgepointError:
    if not offers:
        reasons = "; ".join(f"{r.device}: {r.why}" for r in refused)
        return RidgepointError(
            "no_plan", f"none of the devices can serve {model.name}: {reasons}", "name other --devices"
        )
    free = replace(search, limits={}).solve(offers, slo, FILL) if search.limits else None
    if free is not None and search.solve(offers, slo, FILL) is None:
        needed = ", ".join(f"{m.count * m.offer.devices} × {m.offer.device}" for m in free.members)
        return RidgepointError(
            "no_plan", f"too few devices: the goals take {needed}", "raise the limits in --devices, or lower the rate"
        )
    factor = next((f for f in (1.25, 1.5, 2.0, 3.0, 5.0, 10.0) if search.solve(offers, _scaled(slo, f), FILL)), None)
    nearest = (
        f"goals {factor:g} times as long can be kept" if factor else "not even goals ten times as long can be kept"
    )
    return RidgepointError(
        "no_plan",
        f"no fleet of these devices keeps the goals: {_binds(offers, slo, buckets)}",
        f"{nearest}; other devices may",
    )
