"""The operating curve of a deployment: throughput against latency over concurrency, without simulating.

Step times come from the same passes that the simulator steps through; the balance of work is that of loops.py. A prompt
costs what it adds to the decode steps that it rides in (an engine that mixes), or a step of its own, host time included
(an engine that takes prompts first).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.numeric import Array
from ridgepoint.serving.certainty import factors
from ridgepoint.serving.citing import reliance_of
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.engines import Engine, speeds
from ridgepoint.serving.loops import Pace, Steady, closed_loop
from ridgepoint.serving.passes import Passes
from ridgepoint.serving.reach import beyond
from ridgepoint.serving.scheduling import FULL, MIXED
from ridgepoint.serving.tables import clocked, launches
from ridgepoint.work import Work


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
    def factors(self) -> dict[str, float]:
        """Factors either way within which nine measurements in ten are expected at the knee (``certainty.factors``)."""
        return factors(self.deployment, float(self.concurrency[self.knee]), self.prompt, self.output)

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
    prompt, output = (np.array(column)[:, None] for column in zip(*sizes, strict=True))
    count = np.stack([np.rint(np.geomspace(1.0, most, POINTS)) for most in held])
    count[:, -1] = np.floor(held)
    lane, others = np.ceil(count / lanes), np.ceil((count - 1.0) / lanes)
    together = 2.0 * prompt <= budget
    ways = _Ways.of(prompt, budget, bool(np.any(together)))
    timed = _timed(found, speeds(found.machine, engine) | under_cap(given), lane, others, prompt + output / 2.0, ways)
    graph, eager = launches(found, engine)
    decode = np.maximum(timed.decoding, graph) + engine.step_s + engine.sequence_s * count
    every = _reading_s(engine, timed, ways, others, (graph, eager), mixed)
    first = every[:, : ways.pieces].sum(axis=1)
    further = first
    if np.any(together):
        further = np.where(together, np.clip(every[:, -1] - first, LEAST_FURTHER * first, first), first)
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


def _pieces(prompt: float, budget: float) -> list[float]:
    """Earlier tokens of the steps that read a prompt.

    >>> _pieces(20000.0, 8192.0)
    [0.0, 8192.0, 16384.0]
    """
    return [float(start) for start in np.arange(0.0, prompt, budget)]


@dataclass(frozen=True)
class _Ways:
    """Steps that read prompts, a column each, sizes down the rows: ``tokens`` of each of ``prompts`` prompts, after ``past``
    earlier ones; ``last``: those whose first token it makes. The first ``pieces`` columns are the pieces of one prompt; one
    more are two whole prompts, where two may fit.
    """

    tokens: Array
    past: Array
    prompts: Array
    last: Array
    pieces: int

    @staticmethod
    def of(prompt: Array, budget: float, together: bool) -> _Ways:
        """All prompts have as many pieces of ``budget`` tokens: one where any two of them fit ``together``."""
        starts = np.array(_pieces(float(prompt.max()), budget))
        one = np.ones(starts.size)
        ends = np.where(starts == starts[-1], 1.0, 0.0)
        tokens = np.minimum(budget, prompt - starts)
        if not together:
            return _Ways(tokens, starts, one, ends, starts.size)
        both = np.concatenate([tokens, prompt], axis=1)
        return _Ways(both, np.append(starts, 0.0), np.append(one, 2.0), np.append(ends, 2.0), starts.size)

    @property
    def rows(self) -> Array:
        """Prompt tokens that pass."""
        return self.tokens * self.prompts


@dataclass(frozen=True)
class _Timed:
    """Device seconds: of a step of all that run (``decoding``) and of the others alone (``without``), size by number under
    way; of steps that read prompts alone, size by way; and of those beside the others, size by way by number under way.
    """

    decoding: Array
    without: Array
    alone: Array
    beside: Array


def _timed(found: Passes, speed: Speeds, lane: Array, others: Array, context: Array, ways: _Ways) -> _Timed:
    """Every part of a step is timed once, at the distinct counts of all steps that have it: a step is the sum of its parts."""

    def seconds(work: Work, shape: tuple[int, ...]) -> Array:
        return np.broadcast_to(evaluate(work, found.machine, strict=True).time_at(speed), shape)

    def each(build: Callable[[Array], Work], *counts: Array) -> list[Array]:
        points, where = np.unique(np.concatenate([c.ravel() for c in counts]), return_inverse=True)
        spread = seconds(build(points), points.shape)[where]
        ends = np.cumsum([c.size for c in counts])[:-1]
        return [part.reshape(c.shape) for part, c in zip(np.split(spread, ends), counts, strict=True)]

    beside = np.maximum(others, 1.0)
    joined = others[:, None, :] + ways.rows[:, :, None]
    chosen = beside[:, None, :] + ways.last[:, None]
    passing = each(found.shared, lane, beside, ways.rows, joined)
    choosing = each(found.choosing, lane, beside, np.broadcast_to(ways.prompts, ways.rows.shape), chosen)
    both = np.concatenate([lane, beside], axis=1)
    decoding, own = np.split(seconds(found.decoding(both, context), both.shape), 2, axis=1)
    reading = seconds(found.reading(ways.tokens, ways.past, ways.prompts), ways.rows.shape)
    return _Timed(
        passing[0] + decoding + choosing[0],
        passing[1] + own + choosing[1],
        passing[2] + reading + choosing[2],
        passing[3] + own[:, None, :] + reading[:, :, None] + choosing[3],
    )


def _reading_s(
    engine: Engine, timed: _Timed, ways: _Ways, others: Array, launched: tuple[float, float], mixed: bool
) -> Array:
    """Seconds that each way of reading adds to steps of the others (``mixed``), or takes in steps of its own."""
    graph, eager = launched
    host = (engine.sequence_s * ways.last + engine.token_s * ways.rows)[:, :, None]
    alone = np.maximum(timed.alone, eager)[:, :, None]
    if not mixed:
        return np.broadcast_to(alone + host + engine.step_s, timed.beside.shape)
    added = np.maximum(np.maximum(timed.beside, eager) - np.maximum(timed.without, graph)[:, None, :], 0.0)
    found: Array = np.where(others[:, None, :] > 0.0, added, alone + engine.step_s) + host
    return found
