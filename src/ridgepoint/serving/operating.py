"""The operating curve of a deployment: throughput against latency over concurrency, without simulating.

Step times come from the same passes that the simulator steps through; the balance of work is that of loops.py. A prompt
costs what it adds to the decode steps that it rides in (an engine that mixes), or a step of its own, host time included
(an engine that takes prompts first).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ridgepoint.cost.evaluate import Cost, evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.numeric import Array
from ridgepoint.serving.citing import reliance_of
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.engines import Engine, speeds
from ridgepoint.serving.loops import Pace, Steady, closed_loop
from ridgepoint.serving.passes import Passes
from ridgepoint.serving.reach import beyond
from ridgepoint.serving.scheduling import FULL, MIXED
from ridgepoint.serving.tables import clocked, launches
from ridgepoint.work import Seq, Work


@dataclass(frozen=True)
class Operating:
    """One replica at several concurrencies: requests under way, their latencies and rates. Beyond ``capacity`` they queue."""

    deployment: Deployment
    concurrency: Array
    pace: Pace
    steady: Steady

    @property
    def prompt(self) -> float:
        """Tokens of a prompt."""
        return self.pace.prompt

    @property
    def output(self) -> float:
        """Tokens of an answer."""
        return self.pace.output

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader must know before using the figures."""
        return beyond(self.deployment.model, self.prompt + self.output)

    @property
    def capacity(self) -> float:
        """Requests that a replica holds at once."""
        return self.pace.capacity

    @property
    def ttft_s(self) -> Array:
        """Seconds to the first token."""
        return np.asarray(self.steady.ttft_s, dtype=float)

    @property
    def tpot_s(self) -> Array:
        """Seconds per further token."""
        return np.asarray(self.steady.tpot_s, dtype=float)

    @property
    def requests_per_s(self) -> Array:
        """Requests that a replica completes per second."""
        return np.asarray(self.steady.requests_per_s, dtype=float)

    @property
    def tokens_per_s(self) -> Array:
        """Output tokens of a replica per second."""
        return np.asarray(self.steady.tokens_per_s, dtype=float)

    @cached_property
    def citations(self) -> tuple[str, ...]:
        """What the curve relied on."""
        return reliance_of(self.deployment).lines

    @cached_property
    def knee(self) -> int:
        """Where more concurrency stops to pay: the point of the largest throughput per time of a token, throughput · 1/TPOT
        relative to the best (Kleinrock's power), among those that fit.
        """
        within = self.concurrency <= max(self.capacity, self.concurrency[0])
        power = np.where(within, self.tokens_per_s / np.maximum(self.tpot_s, 1e-12), -1.0)
        return int(np.argmax(power))

    def most_within(self, ttft_s: float | None, tpot_s: float | None) -> int | None:
        """Position of the largest concurrency that keeps both and does not queue; None where none does."""
        good = self.concurrency <= self.capacity
        good &= self.ttft_s <= (ttft_s or np.inf)
        good &= self.tpot_s <= (tpot_s or np.inf)
        found = np.flatnonzero(good)
        return int(found[-1]) if found.size else None


def operating(given: Deployment, prompt: float, output: float, concurrency: Array | None = None) -> Operating:
    """The operating curve of one replica for requests of ``prompt`` and ``output`` tokens.

    >>> from ridgepoint.serving.deployment import deployment
    >>> curve = operating(deployment("llama-3.1-8b", "h100-sxm"), 1024, 256)
    >>> bool(curve.tpot_s[0] < curve.tpot_s[-1]), bool(curve.tokens_per_s[0] < curve.tokens_per_s[-1])
    (True, True)

    Errors: ``does_not_fit``.
    """
    pace = paces(given, [(prompt, output)])[0]
    if pace is None:
        given.cache(prompt + output)  # says why
        raise RidgepointError("does_not_fit", f"no request of {prompt + output:,.0f} tokens fits", "raise --tp")
    count = concurrencies(pace.capacity) if concurrency is None else np.asarray(concurrency, dtype=float)
    return Operating(given, count, pace, closed_loop(pace, count))


def paces(given: Deployment, sizes: Sequence[tuple[float, float]], least: float = 0.0) -> list[Pace | None]:
    """Step times of one replica for every (prompt, output) of ``sizes``, evaluated together; None where one does not fit.
    ``least``: requests that a replica is known to have held for which the memory that is counted has no room at all.
    """
    held = [_capacity(given, prompt, output) for prompt, output in sizes]
    held = [least if most < 1.0 else most for most in held]
    groups: dict[tuple[float, int], list[int]] = {}
    for i, (prompt, _) in enumerate(sizes):
        if held[i] >= 1.0:
            budget = float(given.rules.step_tokens(prompt))
            groups.setdefault((budget, len(_pieces(prompt, budget))), []).append(i)
    found: list[Pace | None] = [None] * len(sizes)
    for (budget, _), members in groups.items():
        timed = _paces(given, [sizes[i] for i in members], [held[i] for i in members], budget)
        for i, pace in zip(members, timed, strict=True):
            found[i] = pace
    return found


def _capacity(given: Deployment, prompt: float, output: float) -> float:
    """Requests that a replica holds at once: of full length where the engine reserves it; 0 where none fits."""
    rules = given.rules
    try:
        cache = given.cache(prompt + output)
    except RidgepointError as error:
        if error.kind != "does_not_fit":
            raise
        return 0.0
    fits = cache.sequences(prompt + output * (1.0 if rules.admits == FULL else 0.5))
    return float(min(fits, rules.max_sequences * given.passes.lanes))


def _paces(given: Deployment, sizes: Sequence[tuple[float, float]], held: Sequence[float], budget: float) -> list[Pace]:
    """The same for prompts of as many pieces of ``budget`` tokens; a row of every array is one size."""
    found, engine, rules = given.passes, given.software, given.rules
    lanes, mixed = found.lanes, rules.policy == MIXED
    speed = speeds(found.machine, engine) | under_cap(given)
    prompt, output = (np.array(column)[:, None] for column in zip(*sizes, strict=True))
    count = np.stack([np.rint(np.geomspace(1.0, most, POINTS)) for most in held])
    count[:, -1] = np.floor(held)
    context = prompt + output / 2.0
    decode = _decode_seconds(found, engine, speed, np.ceil(count / lanes), context, count)
    others = _Others(found, engine, speed, np.ceil((count - 1.0) / lanes), context)
    first = others.reading_s(prompt, budget, mixed)
    further = first
    together = 2.0 * prompt <= budget
    if np.any(together):
        both = others.reading_s(prompt, 2.0 * budget, mixed, 2.0)
        further = np.where(together, np.clip(both - first, LEAST_FURTHER * first, first), first)
    rows = zip(count, decode, first, further, sizes, held, strict=True)
    return [Pace(n, d, f, g, size[0], size[1], most, budget, mixed, lanes, engine) for n, d, f, g, size, most in rows]


def under_cap(given: Deployment) -> Speeds:
    """How fast resources that go with the device's clock are under a power cap: it falls until full load fits.

    >>> from ridgepoint.serving.deployment import deployment
    >>> 0.5 < under_cap(deployment("llama-3.1-8b", "h100-sxm", power_cap_w=350.0))["matrix"] < 0.9
    True
    """
    if given.power_cap_w is None:
        return {}
    return dict.fromkeys(clocked(given.machine), given.frequency)


Speeds = dict[str, float]
POINTS = 64
"""Numbers of requests under way at which steps are timed."""
LEAST_FURTHER = 0.1
"""A further prompt in a step never costs less than this part of the first."""


def concurrencies(capacity: float) -> Array:
    """Whole concurrencies up to ``capacity`` and a little beyond, closer together where they are few.

    >>> concurrencies(4.0)
    array([1., 2., 3., 4., 5.])
    """
    most = max(capacity, 1.0)
    spread = np.rint(np.geomspace(1.0, most, POINTS))
    return np.unique(np.concatenate([spread, [most, np.ceil(most * 1.25)]]))


def _decode_seconds(
    found: Passes, engine: Engine, speed: Speeds, lane: Array, context: Array, sequences: Array
) -> Array:
    """Seconds of a decode step of ``sequences``, ``lane`` of them in the fullest lane."""
    work = Seq(found.shared(lane), found.decoding(lane, context), found.choosing(lane))
    device = _seconds(evaluate(work, found.machine, strict=True), speed)
    graph, _ = launches(found, engine)
    return np.maximum(device, graph) + engine.step_s + engine.sequence_s * sequences


def _seconds(cost: Cost, speed: Speeds) -> Array:
    return np.asarray(cost.timing_at(speed).everywhere().time_s, dtype=float)


def _pieces(prompt: float, budget: float) -> list[float]:
    """Earlier tokens of the steps that read a prompt.

    >>> _pieces(20000.0, 8192.0)
    [0.0, 8192.0, 16384.0]
    """
    return [float(start) for start in np.arange(0.0, prompt, budget)]


@dataclass(frozen=True)
class _Others:
    """``lane`` sequences that decode at a mean ``context`` in every lane of a replica, beside which prompts are read."""

    passes: Passes
    engine: Engine
    speed: Speeds
    lane: Array
    context: Array

    @cached_property
    def _decoding(self) -> tuple[Array, Work]:
        """Their number, at least one, and what they do by themselves."""
        count = np.maximum(self.lane, 1.0)
        return count, self.passes.decoding(count, self.context)

    @cached_property
    def _alone(self) -> Cost:
        """A step of theirs."""
        found, (count, own) = self.passes, self._decoding
        return evaluate(Seq(found.shared(count), own, found.choosing(count)), found.machine, strict=True)

    def _device(self, work: Work) -> Array:
        return _seconds(evaluate(work, self.passes.machine, strict=True, like=self._alone), self.speed)

    def reading_s(self, prompt: Array, budget: float, mixed: bool, prompts: float = 1.0) -> Array:
        """Seconds that reading ``prompts`` at once adds to steps of the others (``mixed``), or takes in steps of its own. All
        prompts have as many pieces of ``budget`` tokens.
        """
        found, engine, (beside, decoding) = self.passes, self.engine, self._decoding
        graph, eager = launches(found, engine)
        total = np.zeros(np.shape(self.lane))
        without = np.maximum(_seconds(self._alone, self.speed), graph)
        starts = _pieces(float(prompt.max()), budget)
        for past in starts:
            tokens, last = np.minimum(budget, prompt - past), prompts if past == starts[-1] else 0.0
            own, rows = found.reading(tokens, past, prompts), tokens * prompts
            host = engine.sequence_s * last + engine.token_s * rows
            alone = np.maximum(self._device(Seq(found.shared(rows), own, found.choosing(prompts))), eager)
            if not mixed:
                total = total + alone + host + engine.step_s
                continue
            together = Seq(found.shared(self.lane + rows), decoding, own, found.choosing(beside + last))
            added = np.maximum(np.maximum(self._device(together), eager) - without, 0.0)
            total = total + np.where(self.lane > 0.0, added, alone + engine.step_s) + host
        return total
