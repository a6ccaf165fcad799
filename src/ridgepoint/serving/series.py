"""How a simulated deployment looks over time: exact means of what is constant between actions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgepoint.serving.outcome import Outcome
from ridgepoint.serving.replica import READS
from ridgepoint.serving.usage import usage

Floats = NDArray[np.float64]
BINS = 60


def series(found: Outcome, bins: int = BINS) -> dict[str, Floats]:
    """Per bin of the span: ``end_s`` of the bin; requests that arrive, tokens that are made and sequences that are put back
    per second; in the mean over time requests that decode and that wait, the part of the cache in use, the part of the
    replicas at work, how many are switched on, and the power of all devices (nan where the sheet states none).
    """
    edges = _edges(found, bins)
    width = np.diff(edges)
    totals = {name: np.zeros(bins) for name in ("decoding", "cache", "busy", "tokens_per_s")}
    drawn = np.zeros(bins)
    for done, half, own in zip(found.actions, found.halves, found.worth_s, strict=True):
        log = done.log
        holds = half.half != READS  # of a shared device's cache the half says enough that decodes
        values = {
            "decoding": log["sequences"],
            "cache": holds * log["used"] / half.cache.blocks / len(found.replicas),
            "busy": np.full(len(log["seconds"]), 1.0 / len(found.halves)),
            "tokens_per_s": log["sequences"] * log["steps"] * _made(found) / np.maximum(log["seconds"], 1e-12),
        }
        for name, height in values.items():
            totals[name] += _areas(log["start_s"], log["seconds"], height, edges) / width
        above = (found.watts(half.name) or (np.nan, np.nan))[1]
        worth = own / np.maximum(log["seconds"], 1e-12)
        drawn += above * _areas(log["start_s"], log["seconds"], worth, edges) / width
    arrived, began = found.columns["arrived_s"], found.columns["began_s"]
    comes = np.sort(arrived[~np.isnan(arrived)])
    waits = np.nan_to_num(began - arrived)
    taken = ~np.isnan(began)
    waiting = _areas(arrived[taken], waits[taken], np.ones(int(taken.sum())), edges, overlapping=True) / width
    on = [_areas(*_columns(spans), edges, overlapping=True) / width for spans in found.on]
    idle = [(found.watts(i) or (np.nan, np.nan))[0] * each for i, each in enumerate(on)]
    return {
        "end_s": edges[1:],
        "arrivals_per_s": _rate(comes, edges),
        "waiting": waiting,
        **totals,
        "put_back_per_s": _rate(found.put_back_s, edges),
        "replicas_on": np.sum(on, axis=0),
        "power_w": np.sum(idle, axis=0) + drawn,
    }


def shares_over_time(found: Outcome, bins: int = 30) -> dict[str, Floats]:
    """Per bin: ``end_s``, and by resource the part of the replicas' time that it was responsible for; ``idle`` is the rest.
    An action counts in the bin in which it began.
    """
    edges = _edges(found, bins)
    parts: list[dict[str, float]] = [{} for _ in range(bins)]
    for done, half in zip(found.actions, found.halves, strict=True):
        where = np.clip(np.searchsorted(edges, done.log["start_s"], side="right") - 1, 0, bins - 1)
        for number in np.unique(where).tolist():
            for resource, seconds in usage(done.where(where == number), half.clocks).critical_s.items():
                parts[number][resource] = parts[number].get(resource, 0.0) + seconds
    span = np.diff(edges) * len(found.halves)
    names = [name for name in found.shares if any(part.get(name) for part in parts)]
    table = {name: np.array([part.get(name, 0.0) for part in parts]) for name in names}
    busy = np.sum(list(table.values()), axis=0) if table else np.zeros(bins)
    whole = np.maximum(span, busy)
    return {
        "end_s": edges[1:],
        **{name: seconds / whole for name, seconds in table.items()},
        "idle": 1.0 - busy / whole,
    }


def _edges(found: Outcome, bins: int) -> Floats:
    start = float(np.nanmin(found.columns["arrived_s"]))
    return np.linspace(start, start + max(found.span_s, 1e-9), bins + 1)


def _rate(times: Floats, edges: Floats) -> Floats:
    return np.diff(np.searchsorted(times, edges, side="right")) / np.diff(edges)


def _columns(spans: tuple[tuple[float, float], ...]) -> tuple[Floats, Floats, Floats]:
    """Starts, seconds and heights of 1 of spans."""
    start, end = (np.array([span[i] for span in spans]) for i in (0, 1))
    return start, end - start, np.ones(len(spans))


def _made(found: Outcome) -> float:
    speculation = found.deployment.speculation
    return 1.0 if speculation is None else speculation.tokens_per_step


def _areas(start: Floats, seconds: Floats, height: Floats, edges: Floats, overlapping: bool = False) -> Floats:
    """∫ height over each bin, for rectangles from ``start`` that last ``seconds``."""
    if not len(start):
        return np.zeros(len(edges) - 1)
    if overlapping:  # the integral of a sum of unit steps, one up and one down per rectangle
        ups, downs = np.sort(start), np.sort(start + seconds)
        return np.diff(_ramps(ups, edges) - _ramps(downs, edges))
    times = np.stack([start, start + seconds], axis=1).ravel()
    totals = np.stack([np.zeros(len(start)), seconds * height], axis=1).ravel().cumsum()
    return np.diff(np.interp(edges, times, totals))


def _ramps(steps: Floats, at: Floats) -> Floats:
    """Σ max(0, t − step) at every t."""
    count = np.searchsorted(steps, at, side="right")
    sums = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(count * at - sums[count], dtype=np.float64)
