"""Requests to serve, as columns: a trace's, or drawn from distributions of arrivals and lengths under a seed.

Arrivals are open (a rate that does not wait for answers: Poisson, gamma-distributed gaps, a daily cycle) or closed (clients,
or turns of a conversation: the next request follows the answer to the one before it).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.tasks.lengths import draw
from ridgepoint.units import parse_count, parse_quantity

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ARRIVALS = {
    "poisson": "poisson",
    "bursty": "bursty:COEFFICIENT OF VARIATION of the gaps (gamma)",
    "diurnal": "diurnal:AMPLITUDE[:PERIOD]",
    "even": "even",
}
CACHED_BLOCK = 64
"""Tokens of the blocks by which generated conversations name their shared prefixes."""


@dataclass(frozen=True)
class Requests:
    """Requests in order of arrival: seconds and tokens, one value each.

    ``ids[offsets[i]:offsets[i + 1]]`` name the blocks of ``id_tokens`` tokens that request i starts with (and that its
    output fills, where more are given): equal ids are equal prefixes. ``follows[i]`` is the request whose answer request i
    waits for (−1: none); it then arrives ``arrival_s[i]`` seconds after that answer. ``priority``: larger is served first.
    ``adapter``: the number of the adapter that a request names, −1 for none.
    """

    arrival_s: Floats
    prompt: Ints
    output: Ints
    ids: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    offsets: Ints | None = None
    id_tokens: int = 0
    follows: Ints | None = None
    priority: Ints | None = None
    adapter: Ints | None = None
    source: str = ""

    def __post_init__(self) -> None:
        count = len(self.arrival_s)
        columns = (self.prompt, self.output, self.follows, self.priority, self.adapter)
        if any(c is not None and len(c) != count for c in columns):
            raise RidgepointError(
                "bad_workload", "columns of requests have different lengths", "give one value per request"
            )
        if count == 0:
            raise RidgepointError("bad_workload", "there are no requests", "give a trace with rows, or --requests N")
        if np.any(self.prompt < 1) or np.any(self.output < 1):
            raise RidgepointError(
                "bad_workload", "a request has no prompt or no output", "give at least 1 token of each"
            )

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def closed(self) -> bool:
        """Whether any request waits for the answer to another."""
        return self.follows is not None and bool(np.any(self.follows >= 0))

    @property
    def rate(self) -> float:
        """Requests per second over the span of arrivals; 0 where arrivals wait for answers."""
        span = float(self.arrival_s[-1] - self.arrival_s[0]) if not self.closed else 0.0
        return (len(self) - 1) / span if span > 0.0 else 0.0

    def at_rate(self, rate: float) -> Requests:
        """The same requests with all gaps scaled such that ``rate`` of them arrive per second."""
        if self.rate <= 0.0:
            raise RidgepointError(
                "bad_workload",
                "arrivals that span no time have no rate to change",
                "give arrivals that are apart, or no rate",
            )
        start = self.arrival_s[0]
        return replace(self, arrival_s=start + (self.arrival_s - start) * (self.rate / rate))

    def taken(self, index: Ints, arrival_s: Floats | None = None) -> Requests:
        """The requests of ``index`` in that order, which none of them may follow; at other times where they are given.

        >>> some = Requests(np.arange(3.0), np.array([5, 6, 7]), np.ones(3, dtype=np.int64))
        >>> some.taken(np.array([2, 0])).prompt
        array([7, 5])
        """

        def chosen(column: Ints | None) -> Ints | None:
            return None if column is None else column[index]

        ids, offsets = self.ids, self.offsets
        if offsets is not None:
            parts = [self.ids[offsets[i] : offsets[i + 1]] for i in index.tolist()]
            ids = np.concatenate([*parts, np.zeros(0, dtype=np.int64)])
            offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return replace(
            self,
            arrival_s=self.arrival_s[index] if arrival_s is None else arrival_s,
            prompt=self.prompt[index],
            output=self.output[index],
            ids=ids,
            offsets=offsets,
            follows=None,
            priority=chosen(self.priority),
            adapter=chosen(self.adapter),
        )

    def with_urgent(self, part: float, seed: int = 0) -> Requests:
        """The same requests of which ``part``, drawn at random, have priority 1, the others 0.

        Errors: ``bad_workload`` for what is no part.
        """
        if not 0.0 <= part <= 1.0:
            raise RidgepointError("bad_workload", f"{part:g} is no part of the requests", "use 0 to 1")
        drawn = np.random.default_rng([seed, 5]).random(len(self))
        return replace(self, priority=(drawn < part).astype(np.int64))

    def first(self, count: int) -> Requests:
        """The first ``count`` requests."""
        if count >= len(self):
            return self
        end = None if self.offsets is None else self.offsets[: count + 1]

        def cut(column: Ints | None) -> Ints | None:
            return None if column is None else column[:count]

        return replace(
            self,
            arrival_s=self.arrival_s[:count],
            prompt=self.prompt[:count],
            output=self.output[:count],
            offsets=end,
            follows=cut(self.follows),
            priority=cut(self.priority),
            adapter=cut(self.adapter),
        )


def poisson_requests(
    rate: float, count: int, prompt: str, output: str, arrivals: str = "poisson", seed: int = 0
) -> Requests:
    """``count`` open-loop requests at ``rate`` per second with lengths as ``lengths`` reads them.

    >>> drawn = poisson_requests(10.0, 1000, "lognormal:1k", "256")
    >>> 8.0 < drawn.rate < 12.0, int(drawn.output.max())
    (True, 256)
    """
    arrival_rng, prompt_rng, output_rng = (np.random.default_rng([seed, part]) for part in range(3))
    gaps = _arrival_times(_positive(rate, "--rate"), count, arrivals, arrival_rng)
    return Requests(
        gaps, lengths(prompt, count, prompt_rng), lengths(output, count, output_rng), source=f"{arrivals} {rate:g}/s"
    )


def client_requests(concurrency: int, count: int, prompt: str, output: str, seed: int = 0) -> Requests:
    """``concurrency`` clients that send one request after the other, ``count`` in all."""
    if concurrency < 1:
        raise RidgepointError("bad_workload", f"--concurrency is {concurrency}", "give at least 1 client")
    prompt_rng, output_rng = (np.random.default_rng([seed, part]) for part in (1, 2))
    follows = np.arange(count) - concurrency
    return Requests(
        np.zeros(count),
        lengths(prompt, count, prompt_rng),
        lengths(output, count, output_rng),
        follows=np.maximum(follows, -1),
        source=f"{concurrency} clients",
    )


def session_requests(
    rate: float, count: int, prompt: str, output: str, turns: float, think_s: float, seed: int = 0, shared: int = 0
) -> Requests:
    """Conversations that begin at ``rate`` per second: a geometric number of turns (mean ``turns``), each with everything
    said before as its prefix, ``think_s`` seconds (exponential) after the answer. ``shared`` tokens of a system prompt
    begin every conversation. ``count`` requests in all.
    """
    rng = np.random.default_rng([seed, 3])
    begin = np.cumsum(rng.exponential(1.0 / _positive(rate, "--rate"), count))
    new = lengths(prompt, count, np.random.default_rng([seed, 1]))
    answer = lengths(output, count, np.random.default_rng([seed, 2]))
    many = rng.geometric(1.0 / max(turns, 1.0), count)
    session = np.repeat(np.arange(count), many)[:count]
    first = np.concatenate([[True], session[1:] != session[:-1]])
    history = _history(first, new + answer)
    prompts = np.where(first, new + shared, new + shared + history)
    arrival = np.where(first, begin[session], rng.exponential(max(think_s, 1e-9), count))
    # Requests are listed in the order in which conversations begin; a turn stands after the one it follows.
    follows = np.where(first, -1, np.arange(count) - 1)
    ids, offsets = _session_ids(session, prompts + answer, shared)
    return Requests(arrival, prompts, answer, ids, offsets, CACHED_BLOCK, follows, source=f"conversations {rate:g}/s")


def _history(first: NDArray[np.bool_], said: Ints) -> Ints:
    """Tokens that were said in the same conversation before each turn."""
    before = np.cumsum(said) - said
    begun = np.maximum.accumulate(np.where(first, np.arange(len(said)), 0))
    return before - before[begun]


def _session_ids(session: Ints, tokens: Ints, shared: int) -> tuple[Ints, Ints]:
    blocks = tokens // CACHED_BLOCK
    offsets = np.concatenate([[0], np.cumsum(blocks)])
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], blocks)
    own = np.repeat(session + 1, blocks)
    common = place < shared // CACHED_BLOCK
    return np.where(common, place, own * 2**24 + place).astype(np.int64), offsets


def lengths(spec: str, count: int, rng: np.random.Generator) -> Ints:
    """Token counts: a number, or a distribution (``tasks/lengths.py``)."""
    return draw(spec, count, rng)


_NEEDED = {"bursty": 1, "diurnal": 1}


def _spec(text: str, known: dict[str, str], plain: str, kind: str) -> tuple[str, list[float]]:
    parts = str(text).split(":")
    try:
        if parts[0] not in known:
            parts = [plain, *parts]
        name, written = parts[0], parts[1:]
        values = [parse_quantity(w, "s") if name == "diurnal" and i else parse_count(w) for i, w in enumerate(written)]
        most = known[name].count(":")
        good = _NEEDED.get(name, 0) <= len(values) <= most and all(v > 0.0 for v in values)
    except RidgepointError:
        good = False
    if not good:
        raise RidgepointError(kind, f"'{text}' is not understood", "write " + ", ".join(known.values()))
    return name, values


def _arrival_times(rate: float, count: int, arrivals: str, rng: np.random.Generator) -> Floats:
    name, values = _spec(arrivals, ARRIVALS, "poisson", "bad_arrivals")
    if name == "even":
        return np.arange(1, count + 1) / rate
    if name == "bursty":
        shape = 1.0 / values[0] ** 2
        return np.cumsum(rng.gamma(shape, 1.0 / (rate * shape), count))
    unit = np.cumsum(rng.exponential(1.0, count))
    return unit / rate if name == "poisson" else _diurnal(unit, rate, *values)


def _diurnal(unit: Floats, rate: float, amplitude: float, period_s: float = 86400.0) -> Floats:
    """Arrivals of rate λ(t) = rate · (1 − amplitude · cos(2πt/period)), from unit-rate ones through the inverse of ∫λ."""
    if amplitude > 1.0:
        raise RidgepointError("bad_arrivals", f"a daily cycle of amplitude {amplitude:g} is no rate", "use 0 to 1")
    end = unit[-1] / rate + 2.0 * period_s
    time = np.linspace(0.0, end, max(4096, int(256.0 * end / period_s)))
    angle = 2.0 * np.pi / period_s
    return np.interp(unit, rate * (time - amplitude * np.sin(angle * time) / angle), time)


def _positive(value: float, name: str) -> float:
    if not (np.isfinite(value) and value > 0.0):
        raise RidgepointError("bad_workload", f"{name} is {value:g}", "give a positive number")
    return value
