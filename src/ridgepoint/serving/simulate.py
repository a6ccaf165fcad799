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

from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.plan import Plan
from ridgepoint.serving.deployment import Deployment, deployment
from ridgepoint.serving.outcome import Outcome, Slo
from ridgepoint.serving.replica import Replica, Sink
from ridgepoint.serving.routing import router
from ridgepoint.serving.scheduling import Scheduling, Speculation
from ridgepoint.serving.sequences import Active
from ridgepoint.serving.trace_file import read_trace
from ridgepoint.serving.workload import Requests

Progress = Callable[[int, int], None]
_TELL_EVERY = 2000


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
    power_cap_w: float | None = None,
    slo: Slo | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """Serve ``requests`` (a value of ``serving.workload``, or the path of a trace) and say what happened.

    >>> import ridgepoint as rp
    >>> drawn = rp.poisson_requests(rate=4.0, count=200, prompt="lognormal:1k", output="128")
    >>> found = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=drawn)
    >>> int(found.completed.sum()), found.summary("ttft_s").p50 < 0.2
    (200, True)

    Errors: unknown names, ``bad_trace`` with line and column, ``does_not_fit``, ``bad_plan`` for degrees that do not fit.
    """
    given = deployment(model, on, plan, engine, scheduling, speculation, routing, prefill_replicas, power_cap_w)
    table = requests if isinstance(requests, Requests) else read_trace(requests)
    return simulate_requests(given, table, slo, seed, progress)


def simulate_requests(
    given: Deployment, requests: Requests, slo: Slo | None = None, seed: int = 0, progress: Progress | None = None
) -> Outcome:
    """What happens when ``requests`` arrive at the deployment.

    Errors: ``does_not_fit`` where weights leave no room for a request of mean length.
    """
    run = _Run(given, requests, seed)
    run.go(progress)
    return Outcome(given, requests, run.columns(), tuple(run.replicas), slo or Slo(), run.clock, run.cache)


class _Run(Sink):
    """The state of a simulation: one value per request, replicas, what is to come."""

    def __init__(self, given: Deployment, requests: Requests, seed: int) -> None:
        self.given, self.requests = given, requests
        total = requests.prompt + requests.output
        self.cache = given.cache(float(np.mean(total)))
        self.clock = given.clock(int(total.max()), int(requests.prompt.max()))
        random = Random(seed)
        steps = _drawn_steps(given.speculation, random) if given.speculation else _plain_steps
        self.replicas = [
            Replica(i, self.clock, self.cache, given.rules, self, steps, requests.id_tokens)
            for i in range(given.replicas)
        ]
        front = self.replicas[: given.prefill_replicas] or self.replicas
        for replica in front if given.prefill_replicas else ():
            replica.hands_over = True
        self._route = router(given.routing, front, random)
        self._route_on = router(given.routing, self.replicas[given.prefill_replicas :], random)
        count = len(requests)
        self.arrived, self.begun, self.first, self.last = (array("d", [nan]) * count for _ in range(4))
        self.where, self.put_backs, self.read_cached = (array("l", [0]) * count for _ in range(3))
        self._deliveries: list[tuple[float, int, Active]] = []
        self._later: list[tuple[float, int]] = []
        self._done = 0
        self._actions: list[tuple[float, int, int]] = []
        self._link_free = [0.0] * given.replicas
        self._per_token, self._start = given.transfer(self.cache) if given.prefill_replicas else (0.0, 0.0)
        self._layers = given.model.main.depth
        self._next_of = self._followers()
        self._request_s = given.software.request_s

    def columns(self) -> dict[str, np.ndarray]:
        """Times and counts of requests; nan where it never came to it."""
        named = {"arrived_s": self.arrived, "began_s": self.begun, "first_s": self.first, "done_s": self.last}
        counts = {"replica": self.where, "put_back": self.put_backs, "cached_tokens": self.read_cached}
        return {name: np.array(values) for name, values in (named | counts).items()}

    def _followers(self) -> dict[int, int]:
        if self.requests.follows is None:
            return {}
        return {int(before): i for i, before in enumerate(self.requests.follows) if before >= 0}

    # What replicas tell

    def began(self, one: Active, time_s: float) -> None:
        """Keep when, and how much of its prompt was cached."""
        index = one.index
        if self.begun[index] != self.begun[index]:
            self.begun[index] = time_s
            self.read_cached[index] = min(one.read, one.target)

    def answered(self, one: Active, time_s: float) -> None:
        """Keep when its first token came."""
        self.first[one.index] = time_s

    def put_back(self, one: Active) -> None:
        """Count it."""
        self.put_backs[one.index] += 1

    def done(self, one: Active, time_s: float) -> None:
        """Keep when; send its cache on, or let the request that waits for its answer come."""
        if one.left and self.given.prefill_replicas and self.where[one.index] < self.given.prefill_replicas:
            self._hand_over(one, time_s)
            return
        self.last[one.index] = time_s
        self._done += 1
        self._let_follow(one.index, time_s)

    def _let_follow(self, index: int, time_s: float) -> None:
        follower = self._next_of.get(index)
        if follower is not None:
            heappush(self._later, (time_s + float(self.requests.arrival_s[follower]) + self._request_s, follower))

    def _hand_over(self, one: Active, time_s: float) -> None:
        """Layers are sent as they are read; the last one follows the end, and a replica sends one cache at a time."""
        sender = self.where[one.index]
        seconds = one.target * self._per_token + self._start
        begun = max(self.begun[one.index], self._link_free[sender])
        ready = max(time_s + seconds / self._layers, begun + seconds)
        self._link_free[sender] = ready
        heappush(self._deliveries, (ready, one.index, one))

    # Time

    def go(self, progress: Progress | None) -> None:
        """Run until every request is answered or refused."""
        requests = self.requests
        open_loop = (requests.arrival_s + self._request_s).tolist()  # when engines see them
        waits = requests.follows.tolist() if requests.follows is not None else None
        order = [i for i in range(len(requests)) if waits is None or waits[i] < 0]
        if waits is not None:
            order.sort(key=lambda i: open_loop[i])
        at, count, told = 0, len(order), 0
        actions, later, deliveries, replicas = self._actions, self._later, self._deliveries, self.replicas
        while True:
            coming = open_loop[order[at]] if at < count else inf
            follow = later[0][0] if later else inf
            handed = deliveries[0][0] if deliveries else inf
            due = actions[0][0] if actions else inf
            if due <= coming and due <= follow and due <= handed:
                if due == inf:
                    break
                _, number, version = heappop(actions)
                replica = replicas[number]
                if replica.version == version:
                    replica.finish()
                    self._schedule(replica)
            elif handed <= coming and handed <= follow:
                self._deliver(*heappop(deliveries))
            elif coming <= follow:
                self._arrive(order[at], coming)
                at += 1
            else:
                when, index = heappop(later)
                self._arrive(index, when)
            if progress is not None and self._done >= told:
                progress(self._done, len(requests))
                told += _TELL_EVERY
        if progress is not None:
            progress(len(requests), len(requests))

    def _schedule(self, replica: Replica) -> None:
        if replica.end_s < inf:
            heappush(self._actions, (replica.end_s, replica.name, replica.version))

    def _arrive(self, index: int, time_s: float) -> None:
        requests = self.requests
        self.arrived[index] = time_s - self._request_s
        prompt, output = int(requests.prompt[index]), int(requests.output[index])
        ids: list[int] = []
        if requests.offsets is not None:
            ids = requests.ids[requests.offsets[index] : requests.offsets[index + 1]].tolist()
        priority = int(requests.priority[index]) if requests.priority is not None else 0
        one = Active(index, prompt, output, ids, priority)
        replica = self._route(one)
        full = self.given.rules.max_waiting
        if not replica.holds(prompt, output) or (full is not None and len(replica.waiting) >= full):
            self.where[index] = -1
            self._let_follow(index, time_s)
            return
        self.where[index] = replica.name
        if replica.submit(one, time_s):
            self._schedule(replica)

    def _deliver(self, time_s: float, index: int, one: Active) -> None:
        one.read = one.target
        replica = self._route_on(one)
        self.where[index] = replica.name
        if replica.submit(one, time_s):
            self._schedule(replica)


def _plain_steps(tokens: int) -> tuple[int, float]:
    return tokens, 1.0


def _drawn_steps(speculation: Speculation, random: Random) -> Callable[[int], tuple[int, float]]:
    """Passes until a number of tokens is there, the tokens of each drawn; and the mean tokens of one."""
    sizes = range(1, speculation.drafted + 2)
    bounds = np.cumsum(speculation.accepted).tolist()
    mean = speculation.tokens_per_step

    def steps(tokens: int) -> tuple[int, float]:
        made = count = 0
        while made < tokens:
            for size in random.choices(sizes, cum_weights=bounds, k=max(1, int((tokens - made) / mean))):
                made += size
                count += 1
                if made >= tokens:
                    break
        return count, tokens / count

    return steps
