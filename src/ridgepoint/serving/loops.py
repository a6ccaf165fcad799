"""A replica in its steady state, in closed form: rate against mean latencies, for Poisson arrivals and for waiting clients.

λ requests arrive per second, n others decode beside the one that is looked at (n is the mean that it meets, since Poisson
arrivals see time averages). A decode step takes D with it and D₀ without it, F seconds is what reading one prompt adds, and
ρ = λF. While it makes o − 1 further tokens, those prompts are read that arrive then and those that came while its own was
read (b of them, which its first token overtakes):

    TPOT = (D + b · F / (o − 1)) / (1 − ρ)

What it waits for before depends on how prompts enter steps.

- Mixed, several prompts to a step: all that arrive during a step are read in the next one. A step takes X = D₀ + F ·
  Poisson(λX'), so E[X] = D₀ / (1 − ρ) and Var[X] = λF²E[X] / (1 − ρ²). A request falls into an interval in proportion to
  its length: it waits for E[X²] / 2E[X], shares its step with c = λ · E[X²] / E[X] others, and b = λ · (D₀ + (1 + c) · F).
- Mixed, a step or more to a prompt (k steps): prompts queue as in M/D/1 with s = F + k · D₀, and b = λ · (wait + s).
- Prompts first, in steps of their own: they wait for the step under way and for prompts before them, and b = λF.

Prompts that share a step cost less than alone, for weights are read once for all: with μ arrivals in the time of a step F is
F₂ + (F₁ − F₂) · (1 − e^−μ) / μ in the mean, the first one F₁ and each further one F₂.

D over a fluctuating number of others is its mean over n ± √(3n) with the weights of three-point Gauss–Hermite quadrature.
Clients' requests do not come at any time. Answers end with steps, equally many with each whether it reads prompts or not, and
the next request is seen a fixed time after: which step it meets follows from the few since (``_step_met``), and prompts
queue in steps, not in time (``_behind_clients``; Geo/D/1, whose mean wait in steps is M/D/1's).

The concurrency follows by Little's law. Sources: Little 1961; Kleinrock 1975 for M/D/1 and for what arrivals see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ridgepoint.numeric import Array, Num
from ridgepoint.serving.engines import Engine

FEW_OTHERS = 0.05
"""Least mean number of others: where a request is almost always alone."""
_HALVINGS = 44
_MOST_STEPS, _MOST_READ = 12, 12
"""Steps between a client's answer and its next request, and prompts read in one, that are told apart."""
_FACTORIALS = np.cumprod(np.arange(1.0, _MOST_READ + 1.0))


@dataclass(frozen=True)
class Pace:
    """How fast a replica steps: seconds of a decode step of ``concurrency`` requests, what reading a prompt adds to steps
    beside them, and what a further prompt adds to a step that reads one; ``capacity``: requests that its cache holds;
    ``budget``: prompt tokens of a step.
    """

    concurrency: Array
    decode_s: Array
    prompt_s: Array
    further_s: Array
    prompt: float
    output: float
    capacity: float
    budget: float
    mixed: bool
    lanes: float
    engine: Engine


@dataclass(frozen=True)
class Steady:
    """What clients see that wait for their answers: requests running, seconds to the first token, per further token, of
    service, and of waiting for room.
    """

    running: Num
    ttft_s: Num
    tpot_s: Num
    service_s: Num
    wait_s: Num
    output: Num

    @property
    def tokens_per_s(self) -> Num:
        """Output tokens of all running requests per second."""
        return self.running * self.output / self.service_s

    @property
    def requests_per_s(self) -> Num:
        """Requests completed per second."""
        return self.running / self.service_s


def running(clients: Num, capacity: Num) -> Num:
    """Requests that run at once: all clients', or as many as fit; never less than one.

    >>> float(running(64.0, 40.5))
    40.0
    """
    return np.maximum(np.minimum(clients, np.floor(capacity)), 1.0)


@dataclass(frozen=True)
class OpenLoop:
    """One replica with Poisson arrivals, by the mean number of requests under way: their rate and mean latencies."""

    concurrency: Array
    rate: Array
    ttft_s: Array
    tpot_s: Array

    def most_within(self, ttft_s: float | None, tpot_s: float | None) -> float:
        """The highest rate that keeps both means, between the points of the curve; 0 where none does."""
        most = np.inf if ttft_s is None else ttft_s, np.inf if tpot_s is None else tpot_s
        rising = slice(0, int(np.argmax(self.rate)) + 1)
        rates, first, each = self.rate[rising], self.ttft_s[rising], self.tpot_s[rising]
        good = np.flatnonzero((first <= most[0]) & (each <= most[1]))
        if not good.size:
            return 0.0
        last = int(good[-1])
        if last + 1 == len(rates):
            return float(rates[last])
        parts = [
            (limit - values[last]) / (values[last + 1] - values[last])
            for limit, values in zip(most, (first, each), strict=True)
            if values[last + 1] > limit
        ]
        return float(rates[last] + min(parts) * (rates[last + 1] - rates[last]))

    @property
    def most(self) -> float:
        """The highest rate of all, requests per second."""
        return float(self.rate.max())

    def at(self, rate: float) -> tuple[float, float] | None:
        """(TTFT, TPOT) in seconds at a rate, between the points of the curve; None beyond its highest rate."""
        if rate > self.most:
            return None
        rising = int(np.argmax(self.rate)) + 1
        rates, first, each = self.rate[:rising], self.ttft_s[:rising], self.tpot_s[:rising]
        return float(np.interp(rate, rates, first)), float(np.interp(rate, rates, each))


def open_loop(pace: Pace) -> OpenLoop:
    """The curve under Poisson arrivals; points whose requests under way exceed the capacity are left out."""
    within = pace.concurrency <= max(pace.capacity, 1.0)
    others = np.maximum(pace.concurrency[within] - 1.0, FEW_OTHERS)
    first, further = pace.prompt_s[within], pace.further_s[within]
    steps = _Steps(mean_decode_s(pace, others, 1.0), mean_decode_s(pace, others, 0.0), -np.expm1(-others))

    def decoding(rate: Array) -> Array:
        return rate * (pace.output - 1.0) * _times(pace, steps, first, further, rate)[1]

    rate = _rising(decoding, others, pace.lanes / further)
    ttft, tpot = _times(pace, steps, first, further, rate)
    under_way = rate * (ttft + (pace.output - 1.0) * tpot)
    held = under_way <= max(pace.capacity, 1.0)
    held[0] = True
    return OpenLoop(under_way[held], rate[held], ttft[held], tpot[held])


def closed_loop(pace: Pace, clients: Array) -> Steady:
    """``clients`` that each send the next request when the last one is answered. Of the others those decode that do not wait
    or read; prompts arrive from the others, (clients − 1) / clients of the rate. Beyond the capacity requests queue.
    """
    count = np.asarray(running(clients, pace.capacity))
    first = np.asarray(np.interp(count, pace.concurrency, pace.prompt_s))
    further = np.asarray(np.interp(count, pace.concurrency, pace.further_s))
    others = (count - 1.0) / count

    def times(rate: Array) -> tuple[Array, Array]:
        busy = np.minimum(rate * others * first, 1.0)
        beside = np.maximum((count - 1.0) * (1.0 - busy / np.maximum(count - 1.0, 1.0)), 0.0)
        with_it, without = (np.interp(beside + one, pace.concurrency, pace.decode_s) for one in (1.0, 0.0))
        return _times(
            pace, _Steps(with_it, without, np.minimum(beside, 1.0), closed=True), first, further, rate * others
        )

    def under_way(rate: Array) -> Array:
        ttft, tpot = times(rate)
        return rate * (ttft + (pace.output - 1.0) * tpot)

    rate = _rising(under_way, count, pace.lanes / further / np.maximum(others, 1e-3))
    ttft, tpot = times(rate)
    service = count / rate
    wait = np.maximum(clients - count, 0.0) / count * service
    return Steady(count, ttft + wait, tpot, service, wait, pace.output)


def _rising(load: Callable[[Array], Array], wanted: Array, most: Array) -> Array:
    """The rate at which ``load``, which grows with it, is ``wanted``; by halving."""
    low, high = np.zeros_like(wanted), most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        less = load(middle) < wanted
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return low


@dataclass(frozen=True)
class _Steps:
    """Seconds of a decode step with the request and without it, and the probability that any other decodes."""

    with_it: Array
    without: Array
    any_other: Array
    closed: bool = False
    """Whether requests come where others end, at the ends of steps, and not at any time."""


def mean_decode_s(pace: Pace, mean: Array, beside: float) -> Array:
    """Mean seconds of a step of ``beside`` requests and a Poisson number of others."""
    off = np.sqrt(3.0 * mean)
    points = ((mean - off, 1.0 / 6.0), (mean, 2.0 / 3.0), (mean + off, 1.0 / 6.0))
    return sum((part * np.interp(n + beside, pace.concurrency, pace.decode_s) for n, part in points), np.zeros(()))


def _times(pace: Pace, steps: _Steps, first: Array, further: Array, rate: Array) -> tuple[Array, Array]:
    """(TTFT, TPOT) at a rate of others' arrivals. Ranks that read side by side share the prompts that arrive together."""
    coming = np.maximum(rate * (first + steps.without), 1e-9)
    shared = np.ones_like(coming) if _kind(pace) == "queued" else -np.expm1(-coming) / coming
    each = (further + (first - further) * shared) / np.clip(coming, 1.0, pace.lanes)
    busy = np.minimum(rate * each, 1.0 - 1e-9)
    wait, overtaken = _WAITS[_kind(pace)](pace, rate, each, busy, steps)
    tpot = (steps.with_it + overtaken * each / max(pace.output - 1.0, 1.0)) / (1.0 - busy)
    return pace.engine.request_s + wait + first + pace.engine.lag * steps.with_it, tpot


def _kind(pace: Pace) -> str:
    if not pace.mixed:
        return "first"
    return "together" if 2.0 * pace.prompt <= pace.budget else "queued"


def _together(pace: Pace, rate: Array, each: Array, busy: Array, steps: _Steps) -> tuple[Array, Array]:
    """(seconds before the own reading, prompts overtaken): all that arrive in a step are read in the next."""
    step, decoding = steps.without, steps.any_other
    mean = step / (1.0 - busy)
    met = rate * each**2 / (1.0 - busy**2) + mean
    residual = met / 2.0
    if steps.closed:
        met, residual = _step_met(pace, rate * mean, each, residual, steps)
    beside = decoding * rate * met
    wait = decoding * residual + (1.0 - decoding) * busy * each / 2.0
    return wait + beside * each + decoding * step, rate * (step + (1.0 + beside) * each)


def _step_met(pace: Pace, ends: Array, each: Array, residual: Array, steps: _Steps) -> tuple[Array, Array]:
    """(length, rest) of the step in which a client's next request is seen, a fixed time after its last answer ended with a
    step; ``ends`` answers end per step. Either no step meanwhile reads, or the first that does is still under way, or it
    is over and the request comes at any time of another (``residual``).
    """
    later, step = _later(pace, steps), steps.without
    count = np.ceil(later / step)
    none = np.exp(-ends * count)
    axes = (slice(None), slice(None), *(None for _ in np.shape(ends)))
    told = int(np.clip(np.max(count), 1.0, _MOST_STEPS))  # those from the largest count on have no chance
    before, read = np.arange(told)[:, None][axes], np.arange(1, _MOST_READ + 1)[None, :][axes]
    chance = (
        np.where(before < count, np.exp(-ends * before), 0.0) * np.exp(-ends) * ends**read / _FACTORIALS[None, :][axes]
    )
    chance = chance * (1.0 - none) / np.maximum(chance.sum(axis=(0, 1)), 1e-300)  # of more prompts than are told apart
    long = step + each * read
    rest = before * step + long - later
    met = none * step + (chance * np.where(rest > 0.0, long, 2.0 * residual)).sum(axis=(0, 1))
    left = none * (count * step - later) + (chance * np.where(rest > 0.0, rest, residual)).sum(axis=(0, 1))
    return met, left


def _later(pace: Pace, steps: _Steps) -> Array:
    """Seconds from the step that ends a client's answer until its next request is seen."""
    return pace.engine.request_s + pace.engine.lag * steps.without


def _queued(pace: Pace, rate: Array, each: Array, busy: Array, steps: _Steps) -> tuple[Array, Array]:
    """The same where a prompt fills a step or several: one after the other."""
    pieces, step, decoding = np.ceil(pace.prompt / pace.budget), steps.without, steps.any_other
    service = each + decoding * pieces * step
    if steps.closed:
        wait = decoding * _behind_clients(pace, rate * step / (1.0 - busy), each, service, steps)
    else:
        load = np.minimum(rate * service, 1.0 - 1e-9)
        wait = decoding * (1.0 - load) * step / 2.0 + load * service / (2.0 * (1.0 - load))
    return wait + decoding * pieces * step, rate * (wait + service)


def _behind_clients(pace: Pace, ends: Array, each: Array, service: Array, steps: _Steps) -> Array:
    """What a client's prompt waits for where prompts queue: a step lets equally many answers end (``ends``) whether it
    reads or not, so that the queue is one in steps, not in time. Prompts behind fill up the last step of the own one.
    """
    pieces = np.ceil(pace.prompt / pace.budget)
    load, piece = np.minimum(ends * pieces, 1.0 - 1e-9), service / pieces
    later, count = _later(pace, steps), np.ceil(_later(pace, steps) / steps.without)
    undisturbed, left = np.exp(-ends * count), count * steps.without - later
    begun = (1.0 - load) * (1.0 - undisturbed)
    met = load * np.maximum(piece - later, piece / 2.0) + begun * np.maximum(service - later / 2.0, service / 2.0)
    queue = load * service / (2.0 * (1.0 - load))
    filled = (pieces * pace.budget / pace.prompt - 1.0) * each * -np.expm1(-ends * (pieces - 0.5 + load))
    found: Array = (1.0 - load) * undisturbed * left + met + queue + filled
    return found


def _first(pace: Pace, rate: Array, each: Array, busy: Array, steps: _Steps) -> tuple[Array, Array]:
    """The same where prompts get steps of their own before anything is decoded."""
    step, decoding = steps.without, steps.any_other
    plain = np.maximum((1.0 - rate * (step + each)) / step, 0.0)
    residual = (rate * (step + each) ** 2 + decoding * plain * step**2) / 2.0
    ahead = busy * each / (2.0 * (1.0 - busy))
    if not steps.closed:
        return residual + ahead, rate * each
    # Answers end with decode steps: several at once, whose next prompts are read together. Where reading takes longer than
    # a client to come back, nothing ends meanwhile: those are ahead whose answers ended while the own client was away.
    ends, later = rate * step / (1.0 - busy), _later(pace, steps)
    together = decoding * ends * each / 2.0
    short = residual + ahead + together
    away = decoding * (step / 2.0 + ends * later / step * (each - later / 2.0)) + together
    return np.where(each > later, away, short), rate * each


_WAITS = {"together": _together, "queued": _queued, "first": _first}
