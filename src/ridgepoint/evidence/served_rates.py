"""The highest rate that a deployment of a claim serves within goals relative to an idle machine (Splitwise, DistServe).

Goals are slowdowns at percentiles: the latency of every request over what a request of its size takes alone on the
reference machine. The rate is found by halving in simulations with Poisson arrivals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.claims import Served
from ridgepoint.plan import Plan
from ridgepoint.serving.deployment import Deployment, deployment
from ridgepoint.serving.loops import closed_loop
from ridgepoint.serving.operating import paces
from ridgepoint.serving.outcome import Outcome
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.serving.workload import poisson_requests

Floats = NDArray[np.float64]
FINE = 1.04
"""Ratio of two rates that count as the same."""
LEAST, MOST = 0.5, 1e4
SIZES = 24
"""Prompts whose latency alone is computed; between them it is interpolated."""


def seconds_per_request(served: Served) -> float:
    """1 / the highest rate, requests per second, at which every goal is kept.

    Errors: ``no_plan`` where no rate keeps them; unknown names.
    """
    return 1.0 / _highest(msgspec.json.encode(served))


def usd_per_request(served: Served) -> float:
    """Dollars of all devices per request at that rate.

    Errors: ``no_figure`` where a device has no price, and those of ``seconds_per_request``.
    """
    hourly = 0.0
    for part in _deployment(served).parts:
        price = part.machine.device.price
        if price is None or price.usd_per_hour is None:
            raise RidgepointError("no_figure", f"{part.machine.device.name} has no price in its sheet", "")
        hourly += price.usd_per_hour * part.devices_per_replica * part.replicas
    return hourly / 3600.0 * seconds_per_request(served)


@cache
def _highest(written: bytes) -> float:
    served = msgspec.json.decode(written, type=Served)
    given, alone = _deployment(served), _Alone.of(served)

    def keeps(rate: float) -> bool:
        load = poisson_requests(rate, served.requests, served.prompt, served.output)
        return alone.keeps(simulate_requests(given, load), served.slowdowns)

    low = LEAST
    if not keeps(low):
        raise RidgepointError("no_plan", f"{served.machine} keeps the goals at no rate", "loosen the slowdowns")
    high = low * 4.0
    while high < MOST and keeps(high):
        low, high = high, high * 4.0
    while high / low > FINE:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


def _deployment(served: Served) -> Deployment:
    plan, reading = _plan(served), None
    if served.reading:
        reading = _limited(deployment(served.model, served.reading, plan, served.engine), served)
    found = deployment(
        served.model,
        served.machine,
        plan,
        served.engine,
        prefill_replicas=served.prefill_replicas,
        power_cap_w=served.power_cap_w,
    )
    return replace(_limited(found, served), reading=reading).checked()


def _plan(served: Served) -> Plan:
    return Plan(tp=float(served.tp))


def _limited(given: Deployment, served: Served) -> Deployment:
    rules = replace(
        given.rules,
        token_budget=served.token_budget,
        max_sequences=served.max_sequences,
        chunked=served.chunked,
    )
    return replace(given, scheduling=rules)


@dataclass(frozen=True)
class _Alone:
    """Latencies of single requests on the reference machine, by prompt; ``output``: tokens of a usual answer."""

    prompts: Floats
    ttft_s: Floats
    tpot_s: Floats

    @staticmethod
    def of(served: Served) -> _Alone:
        drawn = poisson_requests(1.0, served.requests, served.prompt, served.output)
        sizes = np.unique(np.quantile(drawn.prompt, np.linspace(0.0, 1.0, SIZES)).round())
        reference = _limited(deployment(served.model, served.reference, _plan(served), served.engine), served)
        found = paces(reference, [(float(size), float(drawn.output.mean())) for size in sizes])
        alone = [closed_loop(pace, np.ones(1)) for pace in found if pace is not None]
        first, each = (np.array([float(np.asarray(getattr(one, n))[0]) for one in alone]) for n in ("ttft_s", "tpot_s"))
        return _Alone(sizes[: len(alone)], first, each)

    def keeps(self, found: Outcome, slowdowns: dict[str, dict[str, float]]) -> bool:
        """Whether every percentile is within its slowdown, and the queue does not grow."""
        if found.failed or found.queue.overloaded:
            return False
        prompt, further = found.requests.prompt.astype(float), found.requests.output - 1.0
        first, each = (np.interp(prompt, self.prompts, values) for values in (self.ttft_s, self.tpot_s))
        several = further > 0.0
        slower = {
            "ttft": found.ttft_s / first,
            "tpot": found.tpot_s / each[several],
            "latency": found.latency_s / (first + further * each),
        }
        return all(
            float(np.percentile(slower[name], float(q.removeprefix("p")))) <= most
            for name, goals in slowdowns.items()
            for q, most in goals.items()
        )
