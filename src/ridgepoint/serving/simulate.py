"""Simulating a deployment request by request: an event loop over arrivals and the ends of replicas' actions.

Replicas meet only where requests are routed and caches handed over, so that an event touches one of them. Between events
nothing is stepped (serving/replica.py). Everything drawn comes from the seed: equal inputs give equal results.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf, nan
from pathlib import Path
from random import Random

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.plan import Plan
from ridgepoint.serving.action import Sink
from ridgepoint.serving.adapters import Adapters
from ridgepoint.serving.budget import PowerBudget
from ridgepoint.serving.building import replicas_of
from ridgepoint.serving.conditions import Conditions
from ridgepoint.serving.deployment import Deployment, deployment
from ridgepoint.serving.failures import Failures
from ridgepoint.serving.handover import transfer
from ridgepoint.serving.outcome import Outcome, Slo
from ridgepoint.serving.pools import Pools
from ridgepoint.serving.replica import Replica
from ridgepoint.serving.scaling import Scaling
from ridgepoint.serving.scheduling import Scheduling, Speculation
from ridgepoint.serving.sequences import Active
from ridgepoint.serving.tiers import CacheTiers
from ridgepoint.serving.trace_file import read_trace
from ridgepoint.serving.workload import Requests

Progress = Callable[[int, int], None]
_TELL_EVERY = 2000
_HOPELESS = 1000
"""Replicas that a request may lose before it is said that it will lose all."""


def simulate(
    model: Model | str,
    *,
    on: Machine | str,
    requests: Requests | Path | str,
    plan: Plan | None = None,
    engine: str = "vllm",
    scheduling: Scheduling | None = None,
    speculation: Speculation | None = None,
    routing: str = "least_loaded",
    prefill_replicas: int = 0,
    mixed_replicas: int = 0,
    sharing: float | None = None,
    tiers: CacheTiers | None = None,
    adapters: Adapters | None = None,
    failures: Failures | None = None,
    scaling: Scaling | None = None,
    power_cap_w: float | None = None,
    budget: PowerBudget | None = None,
    reading: Deployment | None = None,
    slo: Slo | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """Serve ``requests`` (a value of ``serving.workload``, or the path of a trace) and say what happened.

    What can be said of the replicas stands at ``Deployment``.

    >>> import ridgepoint as rp
    >>> drawn = rp.poisson_requests(rate=4.0, count=200, prompt="lognormal:1k", output="128")
    >>> found = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=drawn)
    >>> int(found.completed.sum()), found.summary("ttft_s").p50 < 0.2
    (200, True)

    Errors: unknown names, ``bad_trace`` with line and column, ``does_not_fit``, ``bad_plan`` for degrees that do not fit.
    """
    given = deployment(
        model, on, plan, engine, scheduling, speculation, routing, prefill_replicas, power_cap_w,
        mixed_replicas=mixed_replicas, sharing=sharing, tiers=tiers, adapters=adapters, failures=failures, scaling=scaling,
        budget=budget, reading=reading,
    )  # fmt: skip
    table = requests if isinstance(requests, Requests) else read_trace(requests)
    return simulate_requests(given, table, slo, seed, progress)


def simulate_requests(
    given: Deployment, requests: Requests, slo: Slo | None = None, seed: int = 0, progress: Progress | None = None
) -> Outcome:
    """What happens when ``requests`` arrive at the deployment.

    Errors: ``does_not_fit`` where weights leave no room for a request of mean length, ``bad_failures`` where replicas fail
    before any request ends.
    """
    run = Run(given.checked(), requests, seed)
    run.go(progress)
    columns = run.columns()
    times = columns["done_s"]
    run.conditions.close(float(np.nanmax(times)) if not np.all(np.isnan(times)) else 0.0)
    events, on = tuple(run.conditions.events), tuple(map(tuple, run.conditions.on))
    put_back = np.sort(np.array(run.put_back_s))
    return Outcome(given, requests, columns, tuple(run.replicas), slo or Slo(), run.cache, events, on, put_back)


class Run(Sink):
    """The state of a simulation: one value per request, replicas, what is to come."""

    def __init__(self, given: Deployment, requests: Requests, seed: int) -> None:
        self.given, self.requests = given, requests
        total = requests.prompt + requests.output
        self.cache = given.cache(float(np.mean(total)))
        random = Random(seed)
        self.replicas = replicas_of(given, requests, self, random)
        self.mates = [replica.mate for replica in self.replicas if replica.mate is not None]
        self.pools = Pools(given, self.replicas, random)
        count = len(requests)
        self.arrived, self.begun, self.first, self.last = (array("d", [nan]) * count for _ in range(4))
        self.where, self.put_backs, self.read_cached, self.fetched = (array("l", [0]) * count for _ in range(4))
        self.again, self.shed = (array("l", [0]) * count for _ in range(2))
        self.put_back_s = array("d")
        self._adapter = requests.adapter
        if self._adapter is None and given.adapters is not None:
            self._adapter = given.adapters.drawn(count, seed)
        self._done = 0
        self._held: list[Active] = []
        self._actions: list[tuple[float, int, int, Replica]] = []
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._made = 0
        self._link_free = [0.0] * given.readers
        self._per_token, self._start = transfer(given, self.cache) if given.readers else (0.0, 0.0)
        self._layers = given.model.main.depth
        self._next_of = self._followers()
        self._request_s = given.software.request_s
        self.conditions = Conditions(self, seed)

    def columns(self) -> dict[str, np.ndarray]:
        """Times and counts of requests; nan where it never came to it."""
        named = {"arrived_s": self.arrived, "began_s": self.begun, "first_s": self.first, "done_s": self.last}
        counts = {"replica": self.where, "put_back": self.put_backs, "cached_tokens": self.read_cached}
        more = {"fetched_tokens": self.fetched, "restarted": self.again, "shed": self.shed}
        found = {name: np.array(values) for name, values in (named | counts | more).items()}
        return found if self._adapter is None else found | {"adapter": self._adapter}

    def _followers(self) -> dict[int, int]:
        if self.requests.follows is None:
            return {}
        return {int(before): i for i, before in enumerate(self.requests.follows) if before >= 0}

    # What replicas tell

    def due(self, replica: Replica) -> None:
        """Remember when its action ends."""
        if replica.end_s < inf:
            self._made += 1
            heappush(self._actions, (replica.end_s, self._made, replica.version, replica))

    def began(self, one: Active, time_s: float) -> None:
        """Keep when, and how much of its prompt was cached."""
        index = one.index
        if self.begun[index] != self.begun[index]:
            self.begun[index] = time_s
            self.read_cached[index] = min(one.read, one.target)
        self.fetched[index] += one.fetched

    def answered(self, one: Active, time_s: float) -> None:
        """Keep when its first token came."""
        self.first[one.index] = time_s

    def put_back(self, one: Active, time_s: float) -> None:
        """Count it, and keep when."""
        self.put_backs[one.index] += 1
        self.put_back_s.append(time_s)

    def done(self, one: Active, time_s: float) -> None:
        """Keep when; send its cache on, or let the request that waits for its answer come."""
        if one.left and self.where[one.index] < self.given.readers:
            self._hand_over(one, time_s)
            return
        self.last[one.index] = time_s
        self._done += 1
        self._let_follow(one.index, time_s)

    def _let_follow(self, index: int, time_s: float) -> None:
        follower = self._next_of.get(index)
        if follower is not None:
            when = time_s + float(self.requests.arrival_s[follower]) + self._request_s
            self.at(when, lambda now: self._arrive(follower, now))

    def _hand_over(self, one: Active, time_s: float) -> None:
        """Layers are sent as they are read; the last one follows the end, and a replica sends one cache at a time."""
        sender = self.where[one.index]
        seconds = one.target * self._per_token + self._start
        begun = max(self.begun[one.index], self._link_free[sender])
        ready = max(time_s + seconds / self._layers, begun + seconds)
        self._link_free[sender] = ready
        self.at(ready, lambda now: self._deliver(one, now))

    # Time

    def at(self, time_s: float, happens: Callable[[float], None]) -> None:
        """Have something happen."""
        self._made += 1
        heappush(self._events, (time_s, self._made, happens))

    def go(self, progress: Progress | None) -> None:
        """Run until every request is answered or refused."""
        requests = self.requests
        open_loop = (requests.arrival_s + self._request_s).tolist()  # when engines see them
        waits = requests.follows.tolist() if requests.follows is not None else None
        order = [i for i in range(len(requests)) if waits is None or waits[i] < 0]
        if waits is not None:
            order.sort(key=lambda i: open_loop[i])
        at, count, told, all_of_them = 0, len(order), 0, len(requests)
        actions, events = self._actions, self._events
        while self._done < all_of_them:
            coming = open_loop[order[at]] if at < count else inf
            happens = events[0][0] if events else inf
            due = actions[0][0] if actions else inf
            if due <= coming and due <= happens:
                if due == inf:
                    raise RuntimeError(f"{all_of_them - self._done} requests wait for what never comes")
                _, _, version, replica = heappop(actions)
                if replica.version == version:
                    replica.finish()
            elif happens <= coming:
                when, _, event = heappop(events)
                event(when)
            else:
                self._arrive(order[at], coming)
                at += 1
            if progress is not None and self._done >= told:
                progress(self._done, all_of_them)
                told += _TELL_EVERY
        if progress is not None:
            progress(all_of_them, all_of_them)

    def _arrive(self, index: int, time_s: float) -> None:
        requests = self.requests
        self.arrived[index] = time_s - self._request_s
        prompt, output = int(requests.prompt[index]), int(requests.output[index])
        ids: list[int] = []
        if requests.offsets is not None:
            ids = requests.ids[requests.offsets[index] : requests.offsets[index + 1]].tolist()
        priority = int(requests.priority[index]) if requests.priority is not None else 0
        one = Active(index, prompt, output, ids, priority)
        if self._adapter is not None:
            one.adapter = int(self._adapter[index])
        replica = self.pools.take(one)
        full = self.given.rules.max_waiting
        refused = replica is not None and full is not None and replica.queued >= full
        if refused or not self.holds(prompt, output):
            self.where[index] = -1
            self._done += 1
            self._let_follow(index, time_s)
            return
        self.give(one, replica, time_s)
        if self.given.rules.shed_after_s is not None:
            self.at(time_s + self.given.rules.shed_after_s, lambda now: self._shed(one, now))

    def _shed(self, one: Active, time_s: float) -> None:
        """``one`` is dropped if nothing was done for it yet."""
        index = one.index
        if self.begun[index] == self.begun[index]:
            return
        if one in self._held:
            self._held.remove(one)
        else:
            self.replicas[self.where[index]].forget(one)
        self.shed[index] = 1
        self.where[index] = -1
        self._done += 1
        self._let_follow(index, time_s)

    def holds(self, prompt: int, output: int) -> bool:
        """Whether such a request could ever be served."""
        return self.replicas[0].holds(prompt, output) and self.replicas[-1].holds(prompt, output)

    def give(self, one: Active, replica: Replica | None, time_s: float) -> None:
        """To ``replica``, or to the first that comes up."""
        if replica is None:
            self._held.append(one)
            return
        self.where[one.index] = replica.name
        replica.submit(one, time_s)

    def _deliver(self, one: Active, time_s: float) -> None:
        one.read = one.target
        self.give(one, self.pools.take_on(one), time_s)

    def place(self, one: Active, time_s: float) -> None:
        """Where it goes now, whose prompt may have been read elsewhere."""
        handed = one.read >= one.target and bool(self.given.readers)
        self.give(one, self.pools.take_on(one) if handed else self.pools.take(one), time_s)

    def begin_again(self, lost: list[Active], time_s: float) -> None:
        """Requests that lost their replica are read once more, elsewhere."""
        for one in lost:
            self.again[one.index] += 1
            if self.again[one.index] >= _HOPELESS:
                raise RidgepointError(
                    "bad_failures",
                    f"request {one.index + 1} was begun {_HOPELESS:,} times and lost its replica each time: it never ends",
                    "give more time between failures, which is that of one device, or fewer devices per replica",
                )
            self.place(one, time_s)

    def came_up(self, time_s: float) -> None:
        """Requests that found no replica have one."""
        held, self._held = self._held, []
        for one in held:
            self.place(one, time_s)

    @property
    def under_way(self) -> int:
        """Requests that arrived and are not answered."""
        return len(self._held) + sum(replica.load for replica in self.replicas)
