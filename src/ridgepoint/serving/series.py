"""How a simulated deployment looks over time: exact means of what is constant between actions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgepoint.serving.outcome import Outcome

Floats = NDArray[np.float64]
BINS = 60


def series(found: Outcome, bins: int = BINS) -> dict[str, Floats]:
    """Per bin of the span: ``end_s`` of the bin; requests that arrive and tokens that are made per second; in the mean over
    time requests that decode and that wait, the part of the cache in use, the part of the replicas at work.
    """
    start = float(np.nanmin(found.columns["arrived_s"]))
    edges = np.linspace(start, start + max(found.span_s, 1e-9), bins + 1)
    width = np.diff(edges)
    totals = {name: np.zeros(bins) for name in ("decoding", "cache", "busy", "tokens_per_s")}
    for done in found.actions:
        log = done.log
        values = {
            "decoding": log["sequences"],
            "cache": log["used"] / found.cache.blocks / len(found.replicas),
            "busy": np.full(len(log["seconds"]), 1.0 / len(found.replicas)),
            "tokens_per_s": log["sequences"] * log["steps"] * _made(found) / np.maximum(log["seconds"], 1e-12),
        }
        for name, height in values.items():
            totals[name] += _areas(log["start_s"], log["seconds"], height, edges) / width
    arrived, began = found.columns["arrived_s"], found.columns["began_s"]
    comes = np.sort(arrived[~np.isnan(arrived)])
    waits = np.nan_to_num(began - arrived)
    taken = ~np.isnan(began)
    waiting = _areas(arrived[taken], waits[taken], np.ones(int(taken.sum())), edges, overlapping=True) / width
    arrivals = np.diff(np.searchsorted(comes, edges, side="right")) / width
    return {"end_s": edges[1:], "arrivals_per_s": arrivals, "waiting": waiting, **totals}


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
