"""Statistics of simulated requests: percentiles with intervals that know that neighbours in time are alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BATCHES = 20
"""Stretches of requests in order of arrival whose percentiles are compared (method of batch means)."""
T_95 = 2.093
"""Student's t for 19 degrees of freedom, 95 % two-sided."""


@dataclass(frozen=True)
class Summary:
    """Mean and percentiles of one quantity; ``interval`` holds 95 % intervals where there are enough values."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    interval: dict[str, tuple[float, float]]


POINTS = {"p50": 50.0, "p90": 90.0, "p99": 99.0}


def summarize(values: Floats) -> Summary | None:
    """The summary of ``values`` in order of arrival; None without any.

    Intervals are batch means: a percentile is taken in each of ``BATCHES`` stretches of time, so that queues that build up and
    drain widen it, as they should. A percentile needs ten values beyond it in each stretch.

    >>> summarize(np.arange(1.0, 101.0)).p50
    50.5
    """
    if not len(values):
        return None
    found = {name: float(np.percentile(values, q)) for name, q in POINTS.items()}
    return Summary(len(values), float(np.mean(values)), **found, interval=_intervals(values, found))


def _intervals(values: Floats, found: dict[str, float]) -> dict[str, tuple[float, float]]:
    each = len(values) // BATCHES
    stretches = values[: each * BATCHES].reshape(BATCHES, each) if each else None
    intervals: dict[str, tuple[float, float]] = {}
    for name, q in {"mean": 50.0, **POINTS}.items():
        if stretches is None or each * (1.0 - q / 100.0) < 10.0:
            continue
        parts = stretches.mean(axis=1) if name == "mean" else np.percentile(stretches, q, axis=1)
        half = T_95 * float(parts.std(ddof=1)) / BATCHES**0.5
        centre = float(np.mean(values)) if name == "mean" else found[name]
        intervals[name] = (max(centre - half, 0.0), centre + half)
    return intervals


def weighted_percentile(values: Floats, weights: Floats, q: float) -> float:
    """The percentile of values that each occur ``weights`` times.

    >>> weighted_percentile(np.array([1.0, 2.0]), np.array([99.0, 1.0]), 50.0)
    1.0
    """
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][min(np.searchsorted(below, q / 100.0 * below[-1]), len(values) - 1)])
