"""How the timings of parts make the timing of a whole: one rule per constructor of the algebra (design §2, §3).

Each rule keeps three promises: the critical seconds sum to the time; no resource is busy longer than the time; nothing gets
slower when a part gets faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ridgepoint.cost.order_statistics import expected_maximum
from ridgepoint.cost.pipeline import Terms, pipeline_terms
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.demand import Timing
from ridgepoint.numeric import Num, plain
from ridgepoint.work import Counted, Mix, Op, Overlap, Pipeline, Repeat, Seq, Slowest, Work

NOT_SHARED = frozenset({"launch", "wave", "delay", "link_latency", "network_latency", "storage_latency"})
"""Waiting that concurrent works do side by side: it is not summed over the parts of an ``Overlap``."""


Leaf = Callable[[Op], Timing]


def combine(work: Work, leaf: Leaf) -> Timing:
    """The timing of ``work`` at all points, given that of each of its ops."""
    return _added(_combine(work, leaf))


def summed(work: Work) -> bool:
    """Whether the time of ``work`` is a sum of those of its ops: nothing runs side by side.

    >>> from ridgepoint.ops import Delay
    >>> summed(Seq(Delay(seconds=1.0))), summed(Overlap(Delay(seconds=1.0), Delay(seconds=2.0)))
    (True, False)
    """
    return isinstance(work, Op) or (type(work) in _SUMS and all(summed(child) for child in work.children()))


def _combine(work: Work, leaf: Leaf) -> list[Timing]:
    """Timings that add up to that of ``work``, one per partition of the sweep: sums stay small until something that is not
    a sum needs all points.
    """
    if isinstance(work, Op):
        return [leaf(work)]
    if type(work) in _SUMS:
        return _by_partition(list(_terms(work, 1.0, leaf)))
    rule = _RULES.get(type(work))
    if rule is None:
        raise RidgepointError(
            "bad_work", f"no rule combines a {type(work).__name__}", "use the constructors of work.py"
        )
    return [rule(work, leaf)]


def _terms(work: Work, weight: float, leaf: Leaf) -> Iterator[tuple[Num, Timing]]:
    """The terms of a sum of sums, each with its weight; a weight that varies over a sweep is applied to a whole part."""
    if isinstance(work, Op):
        yield weight, leaf(work)
    elif type(work) in _SUMS:
        for times, part in _SUMS[type(work)](work):
            if isinstance(times, int | float):
                yield from _terms(part, weight * times, leaf)
            else:
                yield from ((weight * times, timing) for timing in _combine(part, leaf))
    else:
        yield from ((weight, timing) for timing in _combine(work, leaf))


def weighted_occurrences(occurrences: list[Counted], leaf: Leaf) -> Timing:
    """The sum over ops, each as often as it occurs, as if they ran one after the other."""
    return _added(_by_partition([(count, leaf(op)) for op, count in occurrences]))


def _by_partition(terms: list[tuple[Num, Timing]]) -> list[Timing]:
    groups: dict[int, list[tuple[Num, Timing]]] = {}
    for weight, timing in _merged(terms):
        # A weight that varies over the sweep fits no partition.
        here = timing.everywhere() if isinstance(weight, np.ndarray) else timing
        groups.setdefault(id(here.partition), []).append((weight, here))
    return [replace(weighted_sum(group), partition=group[0][1].partition) for group in groups.values()]


def _merged(terms: list[tuple[Num, Timing]]) -> list[tuple[Num, Timing]]:
    """One term for all ops that share a timing, as equal ops do."""
    found: dict[int, tuple[Num, Timing]] = {}
    others: list[tuple[Num, Timing]] = []
    for weight, timing in terms:
        if not isinstance(weight, float):
            others.append((weight, timing))
        elif id(timing) in found:
            found[id(timing)] = found[id(timing)][0] + weight, timing
        else:
            found[id(timing)] = weight, timing
    return [*found.values(), *others]


def _added(timings: list[Timing]) -> Timing:
    if len(timings) == 1:
        return timings[0].everywhere()
    return weighted_sum((1.0, timing.everywhere()) for timing in timings)


def weighted_sum(terms: Iterable[tuple[Num, Timing]]) -> Timing:
    """Σ weight · timing of timings over the same points: sequences, repetitions and expected values are of this form."""
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
        single = isinstance(weight, float)
        plain = single and weight == 1.0
        for key, value in part.items():
            if single and isinstance(value, float):
                total[key] = total.get(key, 0.0) + value * weight
                continue
            scaled = value if plain else value * weight
            if key not in total:
                total[key] = scaled
                if not plain and isinstance(scaled, np.ndarray):
                    own.add(key)
                continue
            so_far = total[key]
            if key in own and isinstance(so_far, np.ndarray) and np.shape(scaled) in ((), so_far.shape):
                so_far += scaled
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
    return {
        key: _choose(condition, yes.get(key, 0.0), no.get(key, 0.0)) for key in (*no, *(k for k in yes if k not in no))
    }


def _slowest(work: Slowest, leaf: Leaf) -> Timing:
    """One copy's mean, times 1 + spread · E[max of n standard normals]: every copy's resources wait with it."""
    body = combine(work.body, leaf)
    factor = 1.0 + work.spread * expected_maximum(work.count)
    return Timing(body.time_s * factor, body.busy_s, {r: t * factor for r, t in body.critical_s.items()})


def _overlap(work: Overlap, leaf: Leaf) -> Timing:
    return _side_by_side([combine(part, leaf) for part in work.parts])


def _side_by_side(parts: list[Timing]) -> Timing:
    """The longest part, or the resource that all parts together need longest."""
    busy = weighted_sum((1.0, part) for part in parts).busy_s
    keys: dict[str, list[str]] = {}
    for key in busy:
        keys.setdefault(_resource(key), []).append(key)
    shared = []
    for resource, mine in keys.items():
        if resource in NOT_SHARED or sum(any(key in part.busy_s for key in mine) for part in parts) < 2:
            continue
        shared.append(Timing(sum((busy[key] for key in mine), 0.0), {}, {key: busy[key] for key in mine}))
    longest = largest([*parts, *shared]) if parts else Timing(0.0)
    return Timing(longest.time_s, _capped(busy, longest.time_s), longest.critical_s)


def _capped(busy: Mapping[str, Num], time_s: Num) -> dict[str, Num]:
    """Waiting that is done side by side is busy no longer than the whole."""
    return {key: np.minimum(t, time_s) if _resource(key) in NOT_SHARED else t for key, t in busy.items()}


def _resource(key: str) -> str:
    """The resource of a key, which may be told apart by component as ``component\\0resource``."""
    return key.rpartition("\0")[2]


@dataclass(frozen=True)
class _Stages:
    """The timings of one micro-batch on every stage."""

    forward: list[Timing]
    backward: list[Timing]
    weights: list[Timing]
    send: list[Timing]

    @property
    def chain(self) -> list[Timing]:
        """What the next stage waits for."""
        return [weighted_sum([(1.0, f), (1.0, b)]) for f, b in zip(self.forward, self.backward, strict=True)]

    @property
    def whole(self) -> list[Timing]:
        """All that a stage computes."""
        return [weighted_sum([(1.0, c), (1.0, w)]) for c, w in zip(self.chain, self.weights, strict=True)]


def _stages(work: Pipeline, leaf: Leaf) -> _Stages:
    def each(name: str) -> list[Timing]:
        parts = [(getattr(stage, name), stage.count) for stage in work.stages]
        return [Timing(0.0) if part is None else _masked(combine(part, leaf), n) for part, n in parts]

    return _Stages(each("forward"), each("backward"), each("weight_gradient"), each("send"))


def _pipeline(work: Pipeline, leaf: Leaf) -> Timing:
    """The closed forms of ``cost/pipeline.py``; devices are busy with the mean over the stages."""
    counts = [stage.count for stage in work.stages]
    devices = sum(counts[1:], counts[0])
    terms, one = pipeline_terms(work, devices), _stages(work, leaf)
    chain, whole = one.chain, one.whole
    split = terms.weights is not None
    closing = None if work.closing is None else combine(work.closing, leaf)
    filled = counts if closing is None else [counts[0] - 1.0, *counts[1:]]
    total = weighted_sum(
        [
            *((terms.fill * count, timing) for count, timing in zip(filled, chain if split else whole, strict=True)),
            *_steady(work, terms, one, chain, whole),
            *(_last(one, terms, closing) if closing is not None else []),
            *((terms.sends * count, timing) for count, timing in zip(counts, one.send, strict=True)),
        ]
    )
    if split:
        total = largest([total, *(weighted_sum([(work.microbatches, w)]) for w in whole)])
    once = [
        (times * count * work.microbatches / devices, timing)
        for i, count in enumerate(counts)
        for times, timing in ((1.0, whole[i]), (work.messages, one.send[i]))
    ]
    busy = weighted_sum([*once, *([(1.0, closing)] if closing is not None else [])]).busy_s
    return Timing(total.time_s, _capped(busy, total.time_s), total.critical_s)


def _steady(
    work: Pipeline, terms: Terms, one: _Stages, chain: list[Timing], whole: list[Timing]
) -> list[tuple[Num, Timing]]:
    """What the slowest stage adds for all micro-batches but the one that fills the pipeline."""
    if work.schedule in ("forward", "gpipe"):
        back = [weighted_sum([(1.0, b), (1.0, w)]) for b, w in zip(one.backward, one.weights, strict=True)]
        ways = [one.forward, back] if work.schedule == "gpipe" else [one.forward]
        return [
            (terms.steady, largest([_side_by_side(list(pair)) for pair in zip(way, one.send, strict=True)]))
            for way in ways
        ]
    if work.schedule == "interleaved":
        each = plain(np.where(np.asarray(work.chunks) > 1.0, 2.0 * np.asarray(work.chunks), 0.0))
        chunks = [weighted_sum([(each, s)]) for s in one.send]
        pairs = zip(whole, chunks, strict=True)
        return [(terms.steady, largest([_side_by_side(list(pair)) for pair in pairs]))]
    if terms.weights is None:
        return [(terms.steady, largest(whole))]
    both = zip(chain, one.weights, strict=True)
    return [(1.0, largest([weighted_sum([(terms.steady, c), (terms.weights, w)]) for c, w in both]))]


def _last(one: _Stages, terms: Terms, closing: Timing) -> list[tuple[Num, Timing]]:
    """The first stage's part of the filling, beside the closing work: that stage ends last, and only its own last backward
    pass hides what comes after it. Other stages have the draining pipeline for theirs.
    """
    hiding = weighted_sum([(terms.fill, one.backward[0])])
    found = [(terms.fill, one.forward[0]), (1.0, _side_by_side([hiding, closing]))]
    return found if terms.weights is not None else [*found, (terms.fill, one.weights[0])]


def _masked(timing: Timing, count: Num) -> Timing:
    """A stage type that no device has cannot be the slowest one."""
    exists = np.where(np.asarray(count) > 0, 1.0, 0.0)
    return weighted_sum([(float(exists) if exists.ndim == 0 else exists, timing)])


_SUMS: dict[type[Work], Callable[..., list[tuple[Num, Work]]]] = {
    Seq: lambda work: [(1.0, part) for part in work.parts],
    Repeat: lambda work: [(work.count, work.body)],
    Mix: lambda work: list(work.cases),
}
_RULES: dict[type[Work], Callable[..., Timing]] = {
    Slowest: _slowest,
    Overlap: _overlap,
    Pipeline: _pipeline,
}
