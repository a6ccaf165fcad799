"""The operating curve of a deployment: throughput against latency over concurrency, without simulating.

Step times come from the same passes that the simulator steps through; the balance of work is that of loops.py. A prompt
costs what it adds to the decode steps that it rides in (an engine that mixes), or a step of its own, host time included
(an engine that takes prompts first).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.numeric import Array
from ridgepoint.serving.citing import reliance_of
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.engines import Engine, speeds
from ridgepoint.serving.loops import Pace, closed_loop
from ridgepoint.serving.passes import Passes
from ridgepoint.serving.scheduling import FULL, MIXED
from ridgepoint.serving.steady import Steady
from ridgepoint.serving.tables import launches
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
    rules = given.rules
    cache = given.cache(prompt + output)
    capacity = min(
        cache.sequences(prompt + output * (1.0 if rules.admits == FULL else 0.5)),
        rules.max_sequences * given.passes.lanes,
    )
    grid = concurrencies(capacity)
    pace = _pace(given, prompt, output, capacity, grid[grid <= max(capacity, 1.0)])
    count = grid if concurrency is None else np.asarray(concurrency, dtype=float)
    return Operating(given, count, pace, closed_loop(pace, count))


def _pace(given: Deployment, prompt: float, output: float, capacity: float, count: Array) -> Pace:
    """Step times beside ``count`` requests under way."""
    found, engine, rules = given.passes, given.software, given.rules
    lanes, mixed = found.lanes, rules.policy == MIXED
    decode = decode_seconds(found, engine, np.ceil(count / lanes), prompt + output / 2.0, count)
    pieces = _pieces(prompt, rules.token_budget)
    others = np.ceil((count - 1.0) / lanes)
    first = _prompt_seconds(found, engine, others, prompt, output, pieces, mixed)
    further = first
    if len(pieces) == 1 and 2.0 * prompt <= rules.token_budget:
        both = _prompt_seconds(found, engine, others, prompt, output, pieces, mixed, 2.0)
        further = np.clip(both - first, LEAST_FURTHER * first, first)
    budget = float(rules.token_budget)
    return Pace(count, decode, first, further, prompt, output, capacity, budget, mixed, lanes, engine)


LEAST_FURTHER = 0.1
"""A further prompt in a step never costs less than this part of the first."""


def concurrencies(capacity: float) -> Array:
    """Whole concurrencies up to ``capacity`` and a little beyond, closer together where they are few.

    >>> concurrencies(4.0)
    array([1., 2., 3., 4., 5.])
    """
    most = max(capacity, 1.0)
    spread = np.rint(np.geomspace(1.0, most, 64))
    return np.unique(np.concatenate([spread, [most, np.ceil(most * 1.25)]]))


def decode_seconds(found: Passes, engine: Engine, lane: Array, context: float, sequences: Array) -> Array:
    """Seconds of a decode step of ``sequences``, ``lane`` of them in the fullest lane."""
    device = _device(found, engine, Seq(found.shared(lane), found.decoding(lane, context), found.choosing(lane)))
    graph, _ = launches(found, engine)
    return np.maximum(device, graph) + engine.step_s + engine.sequence_s * sequences


def _device(found: Passes, engine: Engine, work: Work) -> Array:
    timing = evaluate(work, found.machine, strict=True).timing_at(speeds(found.machine, engine))
    return np.asarray(timing.everywhere().time_s, dtype=float)


def _pieces(prompt: float, budget: float) -> list[tuple[float, float]]:
    """(tokens, earlier tokens) of the steps that read a prompt."""
    starts = np.arange(0.0, prompt, budget)
    return [(float(min(budget, prompt - start)), float(start)) for start in starts]


def _prompt_seconds(
    found: Passes, engine: Engine, lane: Array, prompt: float, output: float, pieces: list[tuple[float, float]],
    mixed: bool, prompts: float = 1.0,
) -> Array:  # fmt: skip
    """Seconds that reading ``prompts`` at once adds beside ``lane`` sequences that decode (``mixed``), or takes in steps of
    its own.
    """
    context = prompt + output / 2.0
    graph, eager = launches(found, engine)
    total = np.zeros(np.shape(lane))
    beside = np.maximum(lane, 1.0)
    without = np.maximum(
        _device(found, engine, Seq(found.shared(beside), found.decoding(beside, context), found.choosing(beside))),
        graph,
    )
    for i, (tokens, past) in enumerate(pieces):
        last = prompts if i == len(pieces) - 1 else 0.0
        own, rows = found.reading(tokens, past, prompts), tokens * prompts
        host = engine.sequence_s * last + engine.token_s * rows
        alone = np.maximum(_device(found, engine, Seq(found.shared(rows), own, found.choosing(prompts))), eager)
        if not mixed:
            total = total + alone + host + engine.step_s
            continue
        together = Seq(found.shared(lane + rows), found.decoding(beside, context), own, found.choosing(beside + last))
        with_it = np.maximum(_device(found, engine, together), eager)
        added = np.maximum(with_it - without, 0.0)
        total = total + np.where(lane > 0.0, added, alone + engine.step_s) + host
    return total
