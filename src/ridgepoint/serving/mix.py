"""The cheapest mix of replicas for a load in buckets, by integer program, and its simulation (``serving/fleet.py``)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgepoint.serving.integer import integer_program
from ridgepoint.serving.offers import Bucket, Offer, replicated, worthwhile
from ridgepoint.serving.outcome import Outcome, Slo
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
class Search:
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
