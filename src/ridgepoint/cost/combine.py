"""How the timings of parts make the timing of a whole: one rule per constructor of the algebra (design §2, §3).

Each rule keeps three promises: the critical seconds sum to the time; no resource is busy longer than the time; nothing gets
slower when a part gets faster.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

import numpy as np

from ridgepoint.cost.order_statistics import expected_maximum
from ridgepoint.cost.pipeline import pipeline_terms
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.demand import Timing
from ridgepoint.numeric import Num
from ridgepoint.work import Mix, Op, Overlap, Pipeline, Repeat, Seq, Slowest, Work

Key = TypeVar("Key", bound=Hashable)

NOT_SHARED = frozenset({"launch", "wave", "delay", "link_latency", "network_latency", "storage_latency"})
"""Waiting that concurrent works do side by side: it is not summed over the parts of an ``Overlap``."""


def combine(work: Work, leaf: Callable[[Op], Timing]) -> Timing:
    """The timing of ``work``, given that of each of its ops."""
    if isinstance(work, Op):
        return leaf(work)
    rule = _RULES.get(type(work))
    if rule is None:
        raise RidgepointError("bad_work", f"no rule combines a {type(work).__name__}", "use the constructors of work.py")
    return rule(work, leaf)


def weighted_sum(terms: Iterable[tuple[Num, Timing]]) -> Timing:
    """Σ weight · timing: sequences, repetitions and expected values are all of this form."""
    time, busy, critical = _Sums(), _Sums(), _Sums()
    for weight, timing in terms:
        time.add({"time": timing.time_s}, weight)
        busy.add(timing.busy_s, weight)
        critical.add(timing.critical_s, weight)
    return Timing(time.total.get("time", 0.0), busy.total, critical.total)


class _Sums:
    """Sums by key. Over a sweep they are added up in place, in arrays that the sum itself made."""

    def __init__(self) -> None:
        self.total: dict[str, Num] = {}
        self._own: set[str] = set()

    def add(self, part: Mapping[str, Num], weight: Num) -> None:
        total, own = self.total, self._own
        plain = isinstance(weight, float) and weight == 1.0
        for key, value in part.items():
            scaled = value if plain else value * weight
            if key not in total:
                total[key] = scaled
                if not plain and isinstance(scaled, np.ndarray):
                    own.add(key)
                continue
            so_far = total[key]
            if key in own and np.shape(scaled) in ((), np.shape(so_far)):
                np.add(so_far, scaled, out=so_far)
                continue
            total[key] = so_far + scaled
            if isinstance(total[key], np.ndarray):
                own.add(key)


def largest(candidates: list[Timing]) -> Timing:
    """Point by point the candidate that takes longest (the first of equals); its busy seconds come along."""
    best = candidates[0]
    for other in candidates[1:]:
        longer = np.asarray(other.time_s) > np.asarray(best.time_s)
        best = Timing(
            _choose(longer, other.time_s, best.time_s),
            _choose_each(longer, other.busy_s, best.busy_s),
            _choose_each(longer, other.critical_s, best.critical_s),
        )
    return best


def _choose(condition: np.ndarray, yes: Num, no: Num) -> Num:
    if condition.ndim == 0:
        return yes if condition else no
    return np.where(condition, yes, no)


def _choose_each(condition: np.ndarray, yes: Mapping[str, Num], no: Mapping[str, Num]) -> dict[str, Num]:
    return {key: _choose(condition, yes.get(key, 0.0), no.get(key, 0.0)) for key in (*no, *(k for k in yes if k not in no))}


def _seq(work: Seq, leaf: Callable[[Op], Timing]) -> Timing:
    return weighted_sum((1.0, combine(part, leaf)) for part in work.parts)


def _repeat(work: Repeat, leaf: Callable[[Op], Timing]) -> Timing:
    return weighted_sum([(work.count, combine(work.body, leaf))])


def _mix(work: Mix, leaf: Callable[[Op], Timing]) -> Timing:
    return weighted_sum((p, combine(part, leaf)) for p, part in work.cases)


def _slowest(work: Slowest, leaf: Callable[[Op], Timing]) -> Timing:
    """One copy's mean, times 1 + spread · E[max of n standard normals]: every copy's resources wait with it."""
    body = combine(work.body, leaf)
    factor = 1.0 + work.spread * expected_maximum(work.count)
    return Timing(body.time_s * factor, body.busy_s, {r: t * factor for r, t in body.critical_s.items()})


def _overlap(work: Overlap, leaf: Callable[[Op], Timing]) -> Timing:
    parts = [combine(part, leaf) for part in work.parts]
    busy = weighted_sum((1.0, part) for part in parts).busy_s
    shared = [
        Timing(total, {}, {resource: total})
        for resource, total in busy.items()
        if resource not in NOT_SHARED and sum(resource in part.busy_s for part in parts) > 1
    ]
    longest = largest([*parts, *shared]) if parts else Timing(0.0)
    # Waiting that is done side by side is busy no longer than the whole.
    capped = {r: np.minimum(t, longest.time_s) if r in NOT_SHARED else t for r, t in busy.items()}
    return Timing(longest.time_s, capped, longest.critical_s)


def _pipeline(work: Pipeline, leaf: Callable[[Op], Timing]) -> Timing:
    """The closed forms of ``cost/pipeline.py``; devices are busy with the mean over the stages."""
    empty = Timing(0.0)
    counts = [stage.count for stage in work.stages]
    forward, backward, send = (
        [empty if part is None else _masked(combine(part, leaf), n) for part, n in zip(parts, counts, strict=True)]
        for parts in zip(*((stage.forward, stage.backward, stage.send) for stage in work.stages), strict=True)
    )
    whole = [weighted_sum([(1.0, f), (1.0, b)]) for f, b in zip(forward, backward, strict=True)]
    devices = sum(counts[1:], counts[0])
    terms = pipeline_terms(work, devices)
    if work.schedule in ("forward", "gpipe"):
        slowest = [largest([*forward, *send])]
        slowest += [largest([*backward, *send])] if work.schedule == "gpipe" else []
    elif work.schedule == "interleaved":
        slowest = [largest([*whole, *(weighted_sum([(2.0 * work.chunks, s)]) for s in send)])]
    else:
        slowest = [largest(whole)]
    total = weighted_sum(
        [
            *((terms.fill * count, timing) for count, timing in zip(counts, whole, strict=True)),
            *((terms.steady, timing) for timing in slowest),
            *((terms.sends * count, timing) for count, timing in zip(counts, send, strict=True)),
        ]
    )
    once = [
        (times * count * work.microbatches / devices, timing)
        for i, count in enumerate(counts)
        for times, timing in ((1.0, whole[i]), (work.messages, send[i]))
    ]
    return Timing(total.time_s, weighted_sum(once).busy_s, total.critical_s)


def _masked(timing: Timing, count: Num) -> Timing:
    """A stage type that no device has cannot be the slowest one."""
    exists = np.where(np.asarray(count) > 0, 1.0, 0.0)
    return weighted_sum([(float(exists) if exists.ndim == 0 else exists, timing)])


_RULES: dict[type[Work], Callable[..., Timing]] = {
    Seq: _seq,
    Repeat: _repeat,
    Mix: _mix,
    Slowest: _slowest,
    Overlap: _overlap,
    Pipeline: _pipeline,
}
