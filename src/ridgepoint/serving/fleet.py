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
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_device
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.serving.citing import reliance_of
from ridgepoint.serving.deployment import language_model
from ridgepoint.serving.integer import integer_program
from ridgepoint.serving.offers import (
    Bucket,
    Offer,
    Refused,
    Space,
    buckets_of,
    offers_of,
    offers_on,
    replicated,
    worthwhile,
)
from ridgepoint.serving.outcome import Outcome, Slo
from ridgepoint.serving.reach import beyond
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.serving.workload import Requests

Floats = NDArray[np.float64]
FILL, LEAST_FILL = 0.85, 0.03
"""Part of its rate that a replica is first given, and below which nothing is tried any more."""
LESS, MUCH_LESS, FAR = 0.93, 0.75, 0.8
"""What remains of it after a simulation that falls short a little, and far: below this part of the attainment."""
GAP = 0.002
"""Part by which the integer program's answer may be dearer than the least."""
WORTH = 0.01
"""Part of a fleet's cost that a further kind of replica must save."""
MOST_SIMULATED = 20_000
FRONT = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
"""Multiples of the goals at which the cost is shown."""


@dataclass(frozen=True)
class Member:
    """``count`` equal replicas of a fleet; ``buckets``: part of each bucket that goes to them; ``load`` of their rate used."""

    offer: Offer
    count: int
    buckets: tuple[float, ...]
    load: float

    @property
    def usd_per_hour(self) -> float:
        """Dollars per hour of all its replicas."""
        return self.offer.usd_per_hour * self.count


@dataclass(frozen=True)
class Verified:
    """What the simulation of a fleet found: part of the requests within the goals, 90th percentiles."""

    attainment: float
    ttft_p90_s: float
    tpot_p90_s: float
    requests: int


@dataclass(frozen=True)
class Fleet:
    """Replicas that serve the load together."""

    members: tuple[Member, ...]
    fill: float
    verified: Verified | None = None

    @property
    def usd_per_hour(self) -> float:
        """Dollars per hour."""
        return sum(m.usd_per_hour for m in self.members)


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
    search = _Search(requests, buckets, group, slo, attainment, limits or {}, spare, seed)
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
    return _Search(requests, buckets, group, slo, 0.9, {}, 0, 0).solve(offers, slo, FILL) if offers else None


def _scaled(slo: Slo, factor: float) -> Slo:
    def times(value: float | None) -> float | None:
        return None if value is None else value * factor

    return Slo(times(slo.ttft_s), times(slo.tpot_s))


def _cheapest(singles: tuple[Single, ...]) -> Fleet | None:
    return min((s.fleet for s in singles if s.fleet is not None), key=lambda f: f.usd_per_hour, default=None)


@dataclass(frozen=True)
class _Search:
    """A load and its goals; finds fleets for it."""

    requests: Requests
    buckets: tuple[Bucket, ...]
    group: NDArray[np.int64]
    slo: Slo
    attainment: float
    limits: dict[str, int]
    spare: int
    seed: int

    def verified(self, offers: list[Offer]) -> Fleet | None:
        """The cheapest fleet that the simulation confirms; None where there is none."""
        fill = FILL
        before: tuple[tuple[int, int], ...] = ()
        while fill >= LEAST_FILL:
            fleet = self.solve(offers, self.slo, fill)
            if fleet is None:
                return None
            counted = tuple((id(m.offer), m.count) for m in fleet.members)
            if counted != before:
                found = self.simulate(fleet)
                if found.attainment >= self.attainment:
                    return replace(fleet, verified=found)
                before = counted
            fill *= LESS if found.attainment >= FAR * self.attainment else MUCH_LESS
        return None

    def solve(self, offers: list[Offer], slo: Slo, fill: float) -> Fleet | None:
        """The cheapest fleet by the model; kinds of replica that save less than ``WORTH`` of its cost are left out."""
        found = self._solved(offers, slo, fill)
        if found is None:
            return None
        most = found.usd_per_hour * (1.0 + WORTH)
        dropped = True
        while dropped and len(found.members) > 1:
            dropped = False
            for member in sorted(found.members, key=lambda m: m.usd_per_hour):
                fewer = self._solved([m.offer for m in found.members if m is not member], slo, fill)
                if fewer is not None and fewer.usd_per_hour <= most:
                    found, dropped = fewer, True
                    break
        return found

    def _solved(self, offers: list[Offer], slo: Slo, fill: float) -> Fleet | None:
        """The integer program; variables are N of every offer, then A by offer and bucket."""
        rates = np.array([offer.rates(slo) for offer in offers]).reshape(len(offers), len(self.buckets))
        able = worthwhile(offers, rates)
        if not able or not np.all(rates[able].max(axis=0) > 0.0):
            return None
        kinds, parts = len(able), len(self.buckets)
        arriving = np.array([bucket.share * self.requests.rate for bucket in self.buckets])
        cost = np.concatenate([[offers[i].usd_per_hour for i in able], np.zeros(kinds * parts)])
        rows, bounds = self._constraints(offers, able, rates, arriving, fill)
        answer = integer_program(cost, rows, bounds, list(range(kinds)), GAP)
        if answer is None:
            return None
        _, x = answer
        given = x[kinds:].reshape(kinds, parts)
        members = []
        for k, i in enumerate(able):
            if x[k] < 0.5:
                continue
            safe = np.where(rates[i] > 0.0, rates[i], 1.0)
            load = float(np.sum(given[k] * arriving / safe)) / x[k]
            members.append(Member(offers[i], round(float(x[k])) + self.spare, tuple(given[k].tolist()), load))
        return Fleet(tuple(members), fill)

    def _constraints(
        self, offers: list[Offer], able: list[int], rates: Floats, arriving: Floats, fill: float
    ) -> tuple[Floats, Floats]:
        kinds, parts = len(able), len(self.buckets)
        size = kinds + kinds * parts
        rows: list[Floats] = []
        bounds: list[float] = []

        def add(entries: dict[int, float], bound: float) -> None:
            row = np.zeros(size)
            for column, value in entries.items():
                row[column] = value
            rows.append(row)
            bounds.append(bound)

        for b in range(parts):  # every bucket is served
            add({kinds + k * parts + b: -1.0 for k in range(kinds)}, -1.0)
        for k, i in enumerate(able):
            fits = {kinds + k * parts + b: arriving[b] / rates[i, b] for b in range(parts) if rates[i, b] > 0.0}
            add({k: -fill, **fits}, 0.0)
            never = {kinds + k * parts + b: 1.0 for b in range(parts) if rates[i, b] <= 0.0}
            if never:
                add(never, 0.0)
        for device, most in self.limits.items():
            mine = {k: float(offers[i].devices) for k, i in enumerate(able) if offers[i].device == device}
            if mine:
                add(mine, float(most) - self.spare * max(mine.values()))
        return np.array(rows), np.array(bounds)

    def simulate(self, fleet: Fleet) -> Verified:
        """Every member serves its part of each bucket, drawn at random."""
        requests = self.requests.first(MOST_SIMULATED)
        group = self.group[: len(requests)]
        parts = np.array([member.buckets for member in fleet.members])
        bounds = np.cumsum(parts / parts.sum(axis=0), axis=0)
        drawn = np.random.default_rng([self.seed, 7]).random(len(requests))
        where = (drawn[None, :] > bounds[:, group]).sum(axis=0).clip(max=len(fleet.members) - 1)
        found = [
            simulate_requests(
                replicated(member.offer, member.count), _subset(requests, where == i), self.slo, self.seed
            )
            for i, member in enumerate(fleet.members)
            if np.any(where == i)
        ]
        return _verified(found, len(requests))


def _subset(requests: Requests, chosen: NDArray[np.bool_]) -> Requests:
    return Requests(
        requests.arrival_s[chosen], requests.prompt[chosen], requests.output[chosen], source=requests.source
    )


def _verified(found: list[Outcome], count: int) -> Verified:
    ttft = np.concatenate([f.ttft_s for f in found])
    tpot = np.concatenate([f.tpot_s for f in found])
    good = sum(int(f.good.sum()) for f in found)
    p90 = [float(np.percentile(v, 90.0)) if len(v) else np.inf for v in (ttft, tpot)]
    return Verified(good / count, p90[0], p90[1], count)


def _single(search: _Search, name: str, offers: list[Offer], refused: list[Refused]) -> Single:
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
        known = [curve for curve in curves if curve is not None]
        if not known:
            return f"{size} do not fit its memory"
        ttft, tpot = min(float(c.ttft_s[0]) for c in known), min(float(c.tpot_s[0]) for c in known)
        parts = []
        if slo.ttft_s is not None and ttft > slo.ttft_s:
            parts.append(f"a first token takes {ttft * 1e3:,.0f} ms at best")
        if slo.tpot_s is not None and tpot > slo.tpot_s:
            parts.append(f"a further token takes {tpot * 1e3:,.1f} ms at best")
        return f"{size}: {', '.join(parts) or 'no layout keeps both goals at once'}"
    return "the simulation keeps fewer requests within the goals than asked for, or there are too few devices"


def _nothing(
    model: Model,
    offers: list[Offer],
    refused: list[Refused],
    slo: Slo,
    buckets: tuple[Bucket, ...],
    search: _Search,
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
