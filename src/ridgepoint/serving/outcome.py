"""What a simulation found: latencies, throughput, goodput, use of resources, cache and queue, energy and money."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ridgepoint.cost.energy import idle_w, usd
from ridgepoint.errors import RidgepointError
from ridgepoint.serving.capacity import Cache
from ridgepoint.serving.citing import reliance_of
from ridgepoint.serving.clock import Clock
from ridgepoint.serving.conditions import Event
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.power import Draws
from ridgepoint.serving.reach import beyond
from ridgepoint.serving.replica import Replica
from ridgepoint.serving.statistics import Summary, summarize, weighted_percentile
from ridgepoint.serving.usage import Actions, Usage, actions, covered_s, token_gaps, total, usage
from ridgepoint.serving.workload import Requests
from ridgepoint.units import duration

Floats = NDArray[np.float64]
GROWING = 0.05
"""Part of the arrivals of the second half by which the queue grows when a deployment counts as overloaded."""
OVER_BUDGET = 1.03
"""Mean power over the budget's above which a reader is warned: clocks follow the power by some seconds."""


@dataclass(frozen=True)
class Slo:
    """What a request must keep to count as good: seconds to its first token, mean seconds per further one, seconds in all."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    latency_s: float | None = None

    def __bool__(self) -> bool:
        return any(v is not None for v in (self.ttft_s, self.tpot_s, self.latency_s))

    def needed(self) -> None:
        """Errors: ``no_goal`` where no goal says what a step may take: nothing can be sized without."""
        if self.ttft_s is None and self.tpot_s is None:
            raise RidgepointError("no_goal", "no latency goal is given", "add --ttft 500ms, --tpot 30ms or both")


@dataclass(frozen=True)
class Queue:
    """Requests that wait: in the mean over time, at most, when the last one arrived, and by how many it grew per second
    through the second half of the arrivals.
    """

    mean: float
    largest: float
    at_end: float
    growth_per_s: float
    overloaded: bool


@dataclass(frozen=True)
class Outcome:
    """The answer of a simulation. ``columns`` hold one value per request; nan where it never came to it. ``events``: what
    befell replicas, in order; ``on``: spans in which each was switched on; ``put_back_s``: when sequences lost their cache.
    """

    deployment: Deployment
    requests: Requests
    columns: Mapping[str, Floats]
    replicas: tuple[Replica, ...]
    slo: Slo
    cache: Cache
    events: tuple[Event, ...] = ()
    on: tuple[tuple[tuple[float, float], ...], ...] = ()
    put_back_s: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def clock(self) -> Clock:
        """Step times of a replica at its usual clock."""
        return self.replicas[0].clocks[0]

    @cached_property
    def citations(self) -> tuple[str, ...]:
        """What the simulation relied on."""
        return reliance_of(self.deployment).lines

    @cached_property
    def completed(self) -> NDArray[np.bool_]:
        """Which requests got all their tokens."""
        return ~np.isnan(self.columns["done_s"])

    @property
    def failed(self) -> int:
        """Requests that were refused: too long for the cache, too many waiting, or dropped while they waited."""
        return int(np.sum(~self.completed))

    @property
    def shed(self) -> int:
        """Those of them that were dropped because nothing was done for them in time."""
        return int(self.columns["shed"].sum())

    @cached_property
    def ttft_s(self) -> Floats:
        """Seconds to the first token of every completed request, in order."""
        return (self.columns["first_s"] - self.columns["arrived_s"])[self.completed]

    @cached_property
    def latency_s(self) -> Floats:
        """Seconds to the last token."""
        return (self.columns["done_s"] - self.columns["arrived_s"])[self.completed]

    @cached_property
    def tpot_s(self) -> Floats:
        """Mean seconds per token after the first, of requests that have any."""
        several = self.completed & (self.requests.output > 1)
        took = self.columns["done_s"] - self.columns["first_s"]
        return took[several] / (self.requests.output[several] - 1)

    def summary(self, name: str) -> Summary | None:
        """Mean, percentiles and their intervals of ``ttft_s``, ``tpot_s`` or ``latency_s``."""
        return summarize(getattr(self, name))

    @cached_property
    def token_gap_s(self) -> dict[str, float] | None:
        """Percentiles over all gaps between tokens (ITL)."""
        parts = [token_gaps(done) for done in self.actions]
        gaps, counts = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
        kept = counts > 0.0
        if not np.any(kept):
            return None
        gaps, counts = gaps[kept], counts[kept]
        found = {f"p{q:g}": weighted_percentile(gaps, counts, q) for q in (50.0, 90.0, 99.0)}
        return {"mean": float(np.average(gaps, weights=counts)), **found, "largest": float(gaps.max())}

    @cached_property
    def span_s(self) -> float:
        """Seconds from the first arrival to the last token."""
        start = float(np.nanmin(self.columns["arrived_s"]))
        return float(np.nanmax(self.columns["done_s"])) - start if np.any(self.completed) else 0.0

    @property
    def requests_per_s(self) -> float:
        """Completed requests per second of the span."""
        return float(np.sum(self.completed)) / max(self.span_s, 1e-12)

    @property
    def tokens_per_s(self) -> float:
        """Output tokens per second."""
        return float(self.requests.output[self.completed].sum()) / max(self.span_s, 1e-12)

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """Which requests were completed within the SLO."""
        columns, found = self.columns, self.completed.copy()
        with np.errstate(invalid="ignore"):
            if self.slo.ttft_s is not None:
                found &= columns["first_s"] - columns["arrived_s"] <= self.slo.ttft_s
            if self.slo.latency_s is not None:
                found &= columns["done_s"] - columns["arrived_s"] <= self.slo.latency_s
            if self.slo.tpot_s is not None:
                most = self.slo.tpot_s * (self.requests.output - 1)
                found &= columns["done_s"] - columns["first_s"] <= most * (1.0 + 1e-9)
        return found

    @property
    def attainment(self) -> float:
        """Part of all requests that were completed within the SLO."""
        return float(np.mean(self.good))

    @property
    def goodput_per_s(self) -> float:
        """Requests per second that were completed within the SLO."""
        return float(np.sum(self.good)) / max(self.span_s, 1e-12)

    @cached_property
    def halves(self) -> tuple[Replica, ...]:
        """The replicas, and behind them the halves that decode on shared devices."""
        return (*self.replicas, *(replica.mate for replica in self.replicas if replica.mate is not None))

    @cached_property
    def actions(self) -> tuple[Actions, ...]:
        """What every one of ``halves`` did."""
        return tuple(actions(replica.log) for replica in self.halves)

    @cached_property
    def usage(self) -> Usage:
        """Seconds by resource, of all replicas."""
        return total(usage(done, half.clocks) for done, half in zip(self.actions, self.halves, strict=True))

    @cached_property
    def shares(self) -> dict[str, float]:
        """Resource → part of the busy time that it is responsible for, largest first; they sum to 1."""
        total = sum(self.usage.critical_s.values())
        return {r: t / total for r, t in self.usage.critical_s.items() if t > 0.0} if total else {}

    @cached_property
    def utilization(self) -> tuple[float, ...]:
        """Part of the span in which each replica did something."""
        count, span = len(self.replicas), max(self.span_s, 1e-12)
        own = [self.actions[i::count] for i in range(count)]
        return tuple(min(covered_s(halves) / span, 1.0) for halves in own)

    @property
    def devices(self) -> int:
        """Devices of all replicas."""
        return sum(part.devices_per_replica * part.replicas for part in self.deployment.parts)

    @cached_property
    def on_s(self) -> tuple[float, ...]:
        """Seconds of the span in which each replica was switched on."""
        start = float(np.nanmin(self.columns["arrived_s"]))
        end = start + self.span_s
        return tuple(sum(max(min(until, end) - max(since, start), 0.0) for since, until in spans) for spans in self.on)

    @cached_property
    def worth_s(self) -> tuple[Floats, ...]:
        """Seconds at full power that each action of each of ``halves`` is worth (``serving/power.py``)."""
        known, found = dict[int, Draws](), []
        for done, half in zip(self.actions, self.halves, strict=True):
            machine = self.deployment.of(half.name).machine
            draws = known.setdefault(id(half.clocks), Draws(machine, half.clocks))
            found.append(draws.worth_s(done))
        return tuple(found)

    @cached_property
    def energy_j(self) -> float | None:
        """Joules of all devices over the span, or None where a sheet states no power."""
        count, joules = len(self.replicas), 0.0
        for i, on_s in enumerate(self.on_s):
            watts = self.watts(i)
            if watts is None:
                return None
            own = sum(float(part.sum()) for part in self.worth_s[i::count])
            # A device draws no more than its limit, whatever its halves do.
            joules += watts[0] * on_s + watts[1] * min(own, covered_s(self.actions[i::count]))
        return joules

    def watts(self, number: int) -> tuple[float, float] | None:
        """Power of a replica's devices that do nothing, and what they draw above it at most; None where it is not known."""
        part = self.deployment.of(number)
        idle = idle_w(part.machine)
        if idle is None:
            return None
        above = float(part.machine.device.power.tdp or 0.0) - idle
        return idle * part.devices_per_replica, above * part.devices_per_replica

    @property
    def cost_usd(self) -> float | None:
        """Dollars for all devices while they were switched on, or None without a price."""
        parts = [self.deployment.of(i) for i in range(len(self.replicas))]
        paid = [usd(p.machine, p.devices_per_replica * on_s) for p, on_s in zip(parts, self.on_s, strict=True)]
        return None if any(one is None for one in paid) else float(sum(one or 0.0 for one in paid))

    @cached_property
    def cache_use(self) -> tuple[float, float]:
        """(mean over busy time, most) of the part of the cache that sequences hold."""
        seconds = sum(done.seconds for done in self.actions)
        held = most = 0.0
        for done, half in zip(self.actions, self.halves, strict=True):
            used = done.log["used"] / half.cache.blocks
            held += float(np.dot(used, done.log["seconds"]))
            most = max(most, float(used.max(initial=0.0)))
        return held / max(seconds, 1e-12), most

    @property
    def fetched(self) -> dict[str, int]:
        """Tokens that were fetched from each lower tier of the cache."""
        below = [replica.blocks.below for replica in self.replicas]
        names = list(dict.fromkeys(name for one in below if one is not None for name in one.fetched))
        return {name: sum(one.fetched[name] for one in below if one is not None) for name in names}

    @property
    def put_back(self) -> int:
        """How often a sequence lost its cache and was computed again (preemptions)."""
        return int(self.columns["put_back"].sum())

    @cached_property
    def queue(self) -> Queue:
        """Requests between arrival and admission."""
        arrived, began = self.columns["arrived_s"], self.columns["began_s"]
        after = self.deployment.rules.shed_after_s
        if after is not None:
            began = np.where(self.columns["shed"] > 0, arrived + self.deployment.software.request_s + after, began)
        taken = ~np.isnan(began)
        if not np.any(taken):
            return Queue(0.0, 0.0, 0.0, 0.0, False)
        comes, goes = np.sort(arrived[taken]), np.sort(began[taken])
        start, end = comes[0], comes[-1]
        waiting = np.arange(1, len(comes) + 1) - np.searchsorted(goes, comes, side="right")
        half = start + (end - start) / 2.0
        at_half = waiting[min(np.searchsorted(comes, half), len(comes) - 1)]
        growth = float((waiting[-1] - at_half) * 2.0 / (end - start)) if end > start else 0.0
        later = max(float(np.sum(comes >= half)), 1.0)
        overloaded = not self.requests.closed and len(comes) >= 100 and waiting[-1] - at_half > GROWING * later
        mean = float((began[taken] - arrived[taken]).sum()) / max(self.span_s, 1e-12)
        return Queue(mean, float(waiting.max()), float(waiting[-1]), growth, bool(overloaded))

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What the reader must know before using the figures."""
        said = []
        queue = self.queue
        if queue.overloaded:
            served = self.requests.rate - queue.growth_per_s
            said.append(
                f"overloaded: {self.requests.rate:.3g} requests arrive per second and about {max(served, 0.0):.3g} are begun; "
                f"the queue grew by {queue.growth_per_s:.3g} per second to {queue.at_end:,.0f}. Latencies depend on how long "
                "this lasts"
            )
        if self.cache.recurrent and self.requests.offsets is not None and self.deployment.rules.prefix_cache:
            said.append("prefixes are not shared: layers of the model keep recurrent states instead of tokens")
        if self.requests.offsets is None:
            by_prefix = self.deployment.routing == "prefix_aware"
            said += ["no request names a prefix: the cache's lower tiers stay empty"] if self.deployment.tiers else []
            said += ["no request names a prefix: all go to the least loaded replica"] if by_prefix else []
        if self.failed:
            said.append(f"{self.failed:,} of {len(self.requests):,} requests were refused: {self._why_refused()}")
        budget, joules = self.deployment.budget, self.energy_j if self.deployment.budget else None
        if budget is not None and joules is not None and joules > OVER_BUDGET * budget.watts * self.span_s:
            said.append(
                f"over budget: the devices draw {joules / self.span_s:,.0f} W in the mean, more than {budget.watts:,.0f} W, "
                f"though their clocks fall to {min(budget.clocks):.0%}"
            )
        return (*said, *beyond(self.deployment.model, float((self.requests.prompt + self.requests.output).max())))

    def _why_refused(self) -> str:
        refused = ~self.completed & (self.columns["shed"] == 0)
        ends, requests = (self.replicas[0], self.replicas[-1]), self.requests
        sizes = zip(requests.prompt[refused].tolist(), requests.output[refused].tolist(), strict=True)
        fits = np.array([all(end.holds(*size) for end in ends) for size in sizes], dtype=bool)
        long, many = int(np.sum(~fits)), int(np.sum(fits))
        parts = [f"{long:,} longer than the cache of {self.cache.size}"] if long else []
        parts += [f"{many:,} because too many waited"] if many else []
        after = self.deployment.rules.shed_after_s
        parts += [f"{self.shed:,} dropped after {duration(after)} in the queue"] if self.shed and after else []
        return ", ".join(parts)
