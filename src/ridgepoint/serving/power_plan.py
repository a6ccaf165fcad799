"""How much traffic a power budget serves: which servers, how many, and how far to cap them (POLCA's question).

A replica is provisioned with what it can draw at most: its devices' power limits, and the rest of the server (processors,
fans, power supplies), which a cap does not change:

    replicas = ⌊budget / (devices · (cap · limit + rest · limit))⌋          rate = replicas · rate within the goals

Under a cap the clock falls until full load fits (``operating.under_cap``): prompts are read slower, while decode steps, which
wait for memory, lose little, so that more capped servers serve more than fewer full ones, up to a point. What comes out
is simulated on one replica.

Sources: Patel et al. 2024 (POLCA) for provisioning by capped power; NVIDIA's DGX H100 for the rest of a server: 10.2 kW
for eight devices of 700 W.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import or_

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_device, find_machine
from ridgepoint.models.architecture import Model
from ridgepoint.plan import Plan
from ridgepoint.serving.citing import reliance_of
from ridgepoint.serving.deployment import language_model
from ridgepoint.serving.loops import Pace
from ridgepoint.serving.offers import Bucket, Offer, Refused, Space, buckets_of, offer_of, offers_on
from ridgepoint.serving.outcome import Slo
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.serving.workload import Requests

REST = 10.2 / 5.6 - 1.0
"""Watts of the rest of a server per watt of its devices' limits."""
CAPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Power limits over the sheets' that are tried."""
FILL, LESS, LEAST_FILL = 0.85, 0.93, 0.2
SIMULATED = 3000
SHORTLIST = 3
"""Layouts of a device type, the best without a cap, that are tried under caps."""


@dataclass(frozen=True)
class Capped:
    """Replicas of one kind under one cap: how many the budget feeds, what each may draw with its part of the server, the rate
    that each serves; part of the requests within the goals and drawn watts of the devices, as simulated.
    """

    offer: Offer
    cap: float
    replicas: int
    provisioned_w: float
    rate_each: float
    attainment: float = 0.0
    drawn_w: float = 0.0

    @property
    def rate(self) -> float:
        """Requests per second of all."""
        return self.rate_each * self.replicas

    @property
    def devices(self) -> int:
        """Devices of all."""
        return self.offer.devices * self.replicas

    @property
    def usd_per_hour(self) -> float:
        """Dollars per hour of all."""
        return self.offer.usd_per_hour * self.replicas


@dataclass(frozen=True)
class OnDevice:
    """A device type under the budget: without a cap, and with the cap (or without) that serves most as simulated."""

    device: str
    full: Capped
    best: Capped


@dataclass(frozen=True)
class PowerPlan:
    """The answer of ``plan_power``, best device type first."""

    model: Model
    budget_w: float
    slo: Slo
    attainment: float
    rest: float
    requests: Requests
    found: tuple[OnDevice, ...]
    refused: tuple[Refused, ...]

    @cached_property
    def citations(self) -> tuple[str, ...]:
        """What the answer relied on."""
        kinds = [capped.offer.deployment for on in self.found for capped in (on.best, on.full)]
        return reduce(or_, (reliance_of(given, "patel-2024-polca") for given in kinds)).lines


def plan_power(
    model: Model | str,
    *,
    requests: Requests,
    devices: tuple[str, ...],
    budget_w: float,
    slo: Slo,
    attainment: float = 0.9,
    space: Space | None = None,
    rest: float = REST,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PowerPlan:
    """The most of ``requests``' kind of traffic that ``budget_w`` watts serve within ``slo``, for every device type.

    Errors: ``bad_budget``, ``no_goal``, ``no_plan`` where nothing keeps the goals within the budget, unknown names.
    """
    found = language_model(model)
    slo.needed()
    if not (np.isfinite(budget_w) and budget_w > 0.0):
        raise RidgepointError("bad_budget", f"the power budget is {budget_w:g} W", "write it like --power 1M")
    buckets, _ = buckets_of(requests)
    search = _Search(found, requests, buckets, budget_w, slo, attainment, space or Space(), rest, seed)
    answers: list[OnDevice] = []
    refused: list[Refused] = []
    names = tuple(dict.fromkeys(find_device(name).name for name in devices))
    for i, name in enumerate(names):
        answer = search.on(name)
        if isinstance(answer, Refused):
            refused.append(answer)
        else:
            answers.append(answer)
        if progress is not None:
            progress(i + 1, len(names))
    if not answers:
        reasons = "; ".join(f"{r.device}: {r.why}" for r in refused)
        raise RidgepointError("no_plan", f"none of the devices serves within the budget: {reasons}", "loosen the goals")
    answers.sort(key=lambda on: -on.best.rate)
    return PowerPlan(found, budget_w, slo, attainment, rest, requests, tuple(answers), tuple(refused))


@dataclass(frozen=True)
class _Search:
    model: Model
    requests: Requests
    buckets: tuple[Bucket, ...]
    budget_w: float
    slo: Slo
    attainment: float
    space: Space
    rest: float
    seed: int

    def on(self, name: str) -> OnDevice | Refused:
        """The device type with its best layout, without a cap and with the best one."""
        machine = find_machine(name)
        limit = machine.device.power.tdp
        if limit is None:
            return Refused(name, "its sheet states no power limit")
        offers, why = offers_on(self.model, machine, self.buckets, self.space)
        uncapped = [self._capped(offer, 1.0, float(limit)) for offer in offers]
        able = sorted((c for c in uncapped if c.rate > 0.0), key=lambda c: -c.rate)
        if not able:
            kept = "it keeps the goals at no rate, or the budget is less than a replica draws"
            return Refused(name, kept if offers else why)
        full, tried, engine = able[0], [able[0]], self.space.engine
        for cap in CAPS[1:]:
            timed: dict[Plan, list[Pace | None]] = {}
            for given in able[:SHORTLIST]:
                offer = offer_of(
                    self.model, machine, given.offer.choice, self.buckets, engine, timed, cap * float(limit)
                )
                tried += [self._capped(offer, cap, float(limit))] if offer is not None else []
        best = max(tried, key=lambda c: c.rate)
        simulated = self._simulated(full)
        both = (simulated, simulated if best is full else self._simulated(best))
        return OnDevice(name, simulated, max(both, key=lambda c: c.rate))

    def _capped(self, offer: Offer, cap: float, limit: float) -> Capped:
        provisioned = offer.devices * limit * (cap + self.rest)
        rates = offer.rates(self.slo)
        shares = np.array([bucket.share for bucket in self.buckets])
        mix = 0.0 if np.any(rates <= 0.0) else 1.0 / float(np.sum(shares / rates))
        return Capped(offer, cap, int(self.budget_w // provisioned), provisioned, mix * FILL)

    def _simulated(self, given: Capped) -> Capped:
        """One replica at its rate, less where too few requests keep the goals."""
        fill = 1.0
        while True:
            rate = given.rate_each * fill
            load = self.requests.first(min(len(self.requests), SIMULATED)).at_rate(rate)
            run = simulate_requests(given.offer.deployment, load, self.slo, self.seed)
            if run.attainment >= self.attainment or fill < LEAST_FILL:
                drawn = float(run.energy_j or 0.0) / max(run.span_s, 1e-9)
                return replace(given, rate_each=rate, attainment=float(run.attainment), drawn_w=drawn)
            fill *= LESS
