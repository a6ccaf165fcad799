"""Advice on a deployment: which techniques let it serve more requests within latency goals, or answer sooner at a rate.

A technique is applied to the scenario of one generation, at several numbers of requests under way, and what it does to
the seconds of a decode step, to the reading of a prompt and to the bytes that a request keeps is put into the steady
state of the deployment (serving/loops.py):

    decode' = (decode − host) · TPOT' / TPOT + host · passes' / passes
    prompt' = (prompt + saved) · TTFT' / TTFT − saved'
    capacity' = capacity · (room' / bytes per request') / (room / bytes per request)

where a prompt saves the reading of the weights when it rides in decode steps. Host times, chunked prompts, queues and memory
act on a technique as they do on the deployment without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from math import inf
from operator import or_

import numpy as np

from ridgepoint.advice.remedies import Limits, Remedy, attempt
from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.estimates import Estimate
from ridgepoint.numeric import Array
from ridgepoint.scenario import Scenario
from ridgepoint.serving.capacity import RESERVE
from ridgepoint.serving.citing import reliance_of
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.engines import BINARY
from ridgepoint.serving.loops import OpenLoop, Pace, open_loop
from ridgepoint.serving.operating import operating
from ridgepoint.tasks import Generate
from ridgepoint.techniques.registry import applied, parse, techniques
from ridgepoint.techniques.technique import conflict

OBJECTIVES = ("throughput", "cost", "latency")
USUAL_LOAD = 0.7
"""Part of what the deployment can take within the goals at which latencies are compared where no rate is said."""
HELPS = 1.005
POINTS = 6
"""Numbers of requests under way at which a technique is evaluated."""
ENGINE_OWN = frozenset({"batch", "schedule", "price", "model"})
"""What the engine does by itself (continuous batches, chunked prompts), or what is no change of the deployment."""
LEAST_READING = 0.25
"""A prompt that rides in decode steps never costs less than this part of what it takes alone."""
PASSING = frozenset({"activations", "logits"})
"""Entries of the ledger that live for a step and do not grow with the requests under way."""
STEPS, CANDIDATES, WORTH = 4, 8, 1.02
"""Of the waterfall: techniques at most, candidates at each step, and the least gain of a further one."""


@dataclass(frozen=True)
class Goals:
    """What is asked of the whole deployment: requests per second (None: derived), and the most to the first token and per
    further token, means in seconds.
    """

    rate: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None


@dataclass(frozen=True)
class Served:
    """A deployment, with techniques or without, as open arrivals find it. Rates are those of all replicas."""

    estimate: Estimate
    loop: OpenLoop
    pace: Pace
    replicas: int
    goals: Goals
    usd_per_hour: float | None

    @property
    def capacity(self) -> float:
        """Requests that one replica holds at once."""
        return self.pace.capacity

    @cached_property
    def requests_per_s(self) -> float:
        """The most that is served within the goals; 0 where not even single requests keep them."""
        return self.loop.most_within(self.goals.ttft_s, self.goals.tpot_s) * self.replicas

    @property
    def tokens_per_s(self) -> float:
        """Output tokens at that rate."""
        return self.requests_per_s * self.pace.output

    @property
    def usd_per_million(self) -> float | None:
        """Dollars per million output tokens at that rate; None without a price."""
        if self.usd_per_hour is None or self.requests_per_s <= 0.0:
            return None
        return self.usd_per_hour / 3600.0 / self.tokens_per_s * 1e6

    def at(self, rate: float) -> tuple[float, float] | None:
        """(TTFT, TPOT) when ``rate`` requests arrive per second; None beyond what can be served at all."""
        return self.loop.at(rate / self.replicas)

    def latency_s(self, rate: float) -> float:
        """Mean seconds of a request at that rate; infinite beyond what can be served."""
        found = self.at(rate)
        return inf if found is None else found[0] + (self.pace.output - 1.0) * found[1]


@dataclass(frozen=True)
class ServingRemedy:
    """A technique on a deployment; ``after`` is None where it does not apply, and the remedy says why."""

    remedy: Remedy
    after: Served | None
    reason: str = ""

    @property
    def name(self) -> str:
        """The technique's name."""
        return self.remedy.technique.name


@dataclass(frozen=True)
class ServingStep:
    """One bar of the waterfall."""

    name: str
    gain: float
    after: Served


@dataclass(frozen=True)
class ServingAdvice:
    """Everything that was tried on a deployment. ``rate``: where latencies are compared."""

    given: Deployment
    baseline: Served
    objective: str
    limits: Limits
    rate: float
    tried: tuple[ServingRemedy, ...]

    def gain(self, after: Served) -> float:
        """How many times better the objective gets."""
        return self._better(self.baseline, after)

    def _better(self, now: Served, then: Served) -> float:
        if self.objective == "latency":
            old, new = now.latency_s(self.rate), then.latency_s(self.rate)
            return float(then.loop.most / now.loop.most) if old == new == inf else old / new
        if then.requests_per_s <= 0.0:
            return 1.0 if now.requests_per_s <= 0.0 else 0.0
        if self.objective == "cost" and now.usd_per_hour and then.usd_per_hour:
            return then.tokens_per_s / max(now.tokens_per_s, 1e-300)
        return inf if now.requests_per_s <= 0.0 else then.requests_per_s / now.requests_per_s

    @cached_property
    def _ranked(self) -> tuple[tuple[float, float, ServingRemedy], ...]:
        found = [(self.gain(r.after), -r.after.latency_s(self.rate), r) for r in self.tried if r.after is not None]
        return tuple(sorted(found, key=lambda item: item[:2], reverse=True))

    @cached_property
    def remedies(self) -> tuple[ServingRemedy, ...]:
        """What helps whatever the workload, best first."""
        return tuple(r for gain, _, r in self._ranked if gain >= HELPS and not r.remedy.technique.presumes)

    @cached_property
    def presuming(self) -> tuple[ServingRemedy, ...]:
        """What helps only a workload of which nothing was said, best first."""
        return tuple(r for gain, _, r in self._ranked if gain >= HELPS and r.remedy.technique.presumes)

    @cached_property
    def useless(self) -> tuple[ServingRemedy, ...]:
        """What applies and does not help, best first."""
        return tuple(r for gain, _, r in self._ranked if gain < HELPS)

    @cached_property
    def refused(self) -> tuple[ServingRemedy, ...]:
        """What does not apply, with its reasons, by name."""
        return tuple(r for r in self.tried if r.after is None)

    @cached_property
    def citations(self) -> tuple[str, ...]:
        """What the advice relied on: the deployment, and everything that helps."""
        helping = [r.after.estimate.reliance for r in (*self.remedies, *self.presuming) if r.after is not None]
        return reduce(or_, helping, reliance_of(self.given)).lines

    @cached_property
    def steps(self) -> tuple[ServingStep, ...]:
        """The greedy waterfall: the best technique, then the best on top of it, while one brings 2 %."""
        left: Sequence[ServingRemedy] = self.remedies[:CANDIDATES]
        steps: list[ServingStep] = []
        now = self.baseline
        tool = _Tool(self.given, self.baseline.pace, self.baseline.estimate, self.baseline.goals, self.limits)
        while left and len(steps) < STEPS:
            # On top of the baseline alone each was tried already.
            tried = [tool.tried(now.estimate.scenario, r.remedy.technique.name) for r in left] if steps else left
            options = [(self._better(now, r.after), r.after, r) for r in tried if r.after is not None]
            if not options:
                break
            gain, after, best = max(options, key=lambda option: option[0])
            if gain < WORTH:
                break
            steps.append(ServingStep(best.name, gain, after))
            now = after
            left = [r for r in left if not conflict(r.remedy.technique, best.remedy.technique)]
        return tuple(steps)


def serving_advice(
    given: Deployment,
    prompt: float,
    output: float,
    goals: Goals | None = None,
    objective: str = "throughput",
    limits: Limits | None = None,
    apply: Sequence[str] = (),
) -> ServingAdvice:
    """Every technique tried on a deployment that serves requests of ``prompt`` and ``output`` tokens.

    ``objective``: throughput (requests per second within the goals), cost ($ per token at that rate) or latency (of a
    request at the rate of the goals). ``apply``: techniques that the baseline has already.

    >>> from ridgepoint.serving.deployment import deployment
    >>> found = serving_advice(deployment("llama-3.1-8b", "h100-sxm"), 1024, 256, Goals(tpot_s=0.02))
    >>> found.remedies[0].after.requests_per_s > found.baseline.requests_per_s > 5
    True

    Errors: ``unknown_objective``, ``does_not_fit``, ``bad_goal``; those of techniques.
    """
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    wanted, kept = goals or Goals(), limits or Limits()
    for name, value in (("--rate", wanted.rate), ("--ttft", wanted.ttft_s), ("--tpot", wanted.tpot_s)):
        if value is not None and not 0.0 < value < inf:
            raise RidgepointError("bad_goal", f"{name} is {value:g}", "give a positive number")
    pace = operating(given, prompt, output).pace
    plain = Estimate(_scenario(given, pace, prompt, output))
    tool = _Tool(given, pace, plain, wanted, kept)
    start = tool.served(Estimate(applied(plain.scenario, apply))) if apply else tool.served(plain)
    if objective == "cost" and start.usd_per_hour is None:
        raise RidgepointError(
            "no_figure", f"{given.machine.device.name} has no price in its sheet", "use throughput or latency"
        )
    rate = wanted.rate or USUAL_LOAD * (start.requests_per_s or start.loop.most * given.replicas)
    tried = tuple(tool.tried(start.estimate.scenario, name) for name in techniques())
    return ServingAdvice(given, start, objective, kept, rate, tried)


def _scenario(given: Deployment, pace: Pace, prompt: float, output: float) -> Scenario:
    """One generation at several numbers of requests under way on every replica; the first is a single one."""
    most = float(pace.concurrency[-1])
    counts = np.unique(np.rint(np.geomspace(1.0, max(most, 2.0), POINTS)))
    task = Generate(batch=counts * given.replicas, prompt=float(prompt), output=float(output))
    return Scenario(given.model, given.machine, task, given.complete_plan)


@dataclass(frozen=True)
class _Tool:
    """Puts techniques into the steady state of a deployment: ``pace`` and ``plain`` are those without any."""

    given: Deployment
    pace: Pace
    plain: Estimate
    goals: Goals
    limits: Limits

    def tried(self, on: Scenario, name: str) -> ServingRemedy:
        """One technique on top of ``on``."""
        technique, said = parse(name)
        if technique.occupies & ENGINE_OWN:
            reason = "the engine forms batches and schedules prompts by itself"
            return ServingRemedy(Remedy(technique, self.plain, None, reason, said), None, reason)
        remedy = attempt(
            self.plain, on, name, Limits(quality=self.limits.quality, training_free=self.limits.training_free)
        )
        if not remedy.applies:
            return ServingRemedy(remedy, None, remedy.reason)
        if not np.array_equal(remedy.changed.built.layout.dp, self.plain.built.layout.dp):
            return ServingRemedy(
                remedy, None, "it changes the number of replicas; `ridgepoint plan serve` tries layouts"
            )
        try:
            return ServingRemedy(remedy, self.served(remedy.changed))
        except RidgepointError as error:
            return ServingRemedy(remedy, None, error.message)

    def served(self, est: Estimate) -> Served:
        """The deployment with what an estimate differs by.

        Errors: ``does_not_fit``.
        """
        pace = self._changed(est)
        price = est.scenario.machine.device.price
        hourly = (
            None if price is None or price.usd_per_hour is None else price.usd_per_hour * self.given.machine.devices
        )
        return Served(est, open_loop(pace), pace, self.given.replicas, self.goals, hourly)

    def _changed(self, est: Estimate) -> Pace:
        if est is self.plain:
            return self.pace
        pace, engine = self.pace, self.pace.engine
        counts = np.asarray(self.plain.scenario.task.sizes()["batch"], dtype=float) / self.given.replicas
        host = engine.step_s + engine.sequence_s * pace.concurrency
        device = np.maximum(pace.decode_s - host, 0.0)
        times = np.interp(pace.concurrency, counts, np.asarray(est.tpot_s / self.plain.tpot_s, dtype=float))
        first = float(np.asarray(est.ttft_s / self.plain.ttft_s)[0])
        passes = _passes(est) / _passes(self.plain)

        def read(seconds: Array) -> Array:
            # What a prompt saves by riding in steps is one reading of the weights, and shrinks as a pass does.
            saved = np.maximum(pace.prompt_s[0] - seconds, 0.0)
            still = saved * min(float(times[0]) / passes, 1.0)
            found: Array = np.maximum((seconds + saved) * first - still, LEAST_READING * seconds * first)
            return found

        sizes = est.scenario.task.sizes()
        return replace(
            pace,
            decode_s=device * times + host * passes,
            prompt_s=read(pace.prompt_s),
            further_s=read(pace.further_s),
            prompt=float(sizes["prompt"]),
            output=float(sizes["output"]),
            capacity=self._capacity(est),
        )

    def _capacity(self, est: Estimate) -> float:
        """Requests whose bytes fit beside what does not grow with them, in proportion to the deployment's own."""
        own, changed = _room(self.plain), _room(est)
        if changed[0] < changed[1]:
            raise RidgepointError("does_not_fit", "no request's cache fits beside the weights", "use more devices")
        rules = self.given.rules
        found = self.pace.capacity * (changed[0] / changed[1]) / (own[0] / own[1])
        return float(np.floor(min(found, rules.max_sequences * self.pace.lanes)))


def _room(est: Estimate) -> tuple[float, float]:
    """(bytes of a device that requests may fill, bytes that one takes there)."""
    sizes = np.asarray(est.scenario.task.sizes()["batch"], dtype=float)
    entries = [np.broadcast_to(size, sizes.shape) for name, size in est.memory.entries.items() if name not in PASSING]
    total: Array = np.sum(entries, axis=0)
    here = sizes / np.asarray(est.built.layout.dp)
    each = float((total[-1] - total[0]) / max(here[-1] - here[0], 1e-9))
    fixed = float(total[0]) - each * float(here[0])
    return est.memory.usable_bytes * BINARY - RESERVE - fixed, max(each, 1.0)


def _passes(est: Estimate) -> float:
    """Passes of the model per output token after the first: as often as its logits are made."""
    made = [np.mean(np.asarray(count)) for op, count in est.cost.occurrences if op.label == "head.logits"]
    steps = max(float(est.scenario.task.sizes()["output"]) - 1.0, 1.0)
    return float(np.clip((sum(made) - 1.0) / steps, 0.02, 1.0)) if made else 1.0
