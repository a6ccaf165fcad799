"""A small robust fit: few positive parameters, in log space, within bounds (design §4).

Residuals are log(predicted / measured). The loss is that of an absolute deviation, rounded off at ``noise``, so that a
few rows of another kernel do not pull the fit:

    loss = mean w·(√(r² + noise²) − noise)

Parameters are x = log(value), mapped through a logistic function so that they stay inside their bounds. Minimised by
iteratively reweighted Levenberg–Marquardt steps on a finite-difference Jacobian, then by a simplex (Nelder and Mead
1965): the kernel models take the best of a menu, so that the loss has kinks where a gradient misleads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ridgepoint.numeric import Array

Values = Mapping[str, float]
Residuals = Callable[[Values], Array]


@dataclass(frozen=True)
class Parameter:
    """A positive number to fit: where it starts, the bounds that it stays within, whether a fit may hold it there."""

    name: str
    start: float
    low: float
    high: float
    held: bool = True

    def inside(self) -> float:
        """The start as the free variable of the logistic map."""
        span = np.log(self.high / self.low)
        place = np.clip(np.log(self.start / self.low) / span, 0.02, 0.98)
        return float(np.log(place / (1.0 - place)))

    def value(self, free: float) -> float:
        """The value at a free variable.

        >>> p = Parameter("efficiency", 0.5, 0.1, 1.0)
        >>> round(p.value(p.inside()), 6)
        0.5
        """
        place = 1.0 / (1.0 + np.exp(-np.clip(free, -30.0, 30.0)))
        return float(self.low * (self.high / self.low) ** place)


@dataclass(frozen=True)
class Fit:
    """Fitted values, the robust standard deviation of the residuals, and their median absolute size."""

    values: dict[str, float]
    spread: float
    median_error: float
    loss: float


def robust_spread(residuals: Array) -> float:
    """The standard deviation of the normal distribution whose 90 % interval holds 90 % of the residuals.

    Residuals of kernels have heavier tails than a normal distribution; an interval should still hold what it says.

    >>> round(robust_spread(np.array([-0.1, 0.1, 0.05, -0.05, 0.0])), 4)
    0.0608
    """
    return float(np.percentile(np.abs(residuals), 90.0) / 1.645)


def fit(
    parameters: list[Parameter],
    residuals: Residuals,
    weights: Array | float = 1.0,
    noise: float = 0.03,
    steps: int = 12,
    polish: int = 30,
    other: float = np.inf,
    hold: float = 0.0,
) -> Fit:
    """The parameters that minimise the robust loss of ``residuals``.

    ``steps`` Levenberg–Marquardt steps, then ``polish`` simplex iterations per parameter. Residuals beyond ``other`` are
    taken for those of another kernel: they saturate there, so that they do not pull the fit at all. ``hold``: a parameter
    leaves its start only where that buys this much of the loss for each factor e; what the rows cannot tell stays.
    """

    def values(free: Array) -> dict[str, float]:
        return {p.name: p.value(float(x)) for p, x in zip(parameters, free, strict=True)}

    def at(free: Array) -> Array:
        found = residuals(values(free))
        found = found if np.isinf(other) else np.asarray(other * np.tanh(found / other))
        return np.concatenate([found, _moved(parameters, values(free))]) if hold else found

    told = weights
    if hold:
        count = len(residuals(values(np.array([p.inside() for p in parameters]))))
        weights = np.concatenate([np.broadcast_to(weights, count), np.full(len(parameters), hold * count)])
    free = np.array([p.inside() for p in parameters])
    for rounding in (5.0 * noise, noise):  # nearly least squares first: it sees past kinks
        free = _descend(free, at, weights, rounding, steps)
    free = _simplex(free, lambda x: _loss(at(x), weights, noise), polish * len(parameters))
    final = residuals(values(free))
    error = float(np.median(np.abs(np.expm1(final))))
    return Fit(values(free), robust_spread(final), error, _loss(final, told, noise))


def _moved(parameters: list[Parameter], values: Values) -> Array:
    """How far, in factors e, each parameter that is held has left its start."""
    return np.array([np.log(values[p.name] / p.value(p.inside())) if p.held else 0.0 for p in parameters])


def _loss(r: Array, weights: Array | float, noise: float) -> float:
    return float(np.mean(weights * (np.sqrt(r * r + noise * noise) - noise)))


def _descend(free: Array, at: Callable[[Array], Array], weights: Array | float, noise: float, steps: int) -> Array:
    """Levenberg–Marquardt on √w-scaled residuals; the damping falls on success and rises on failure."""
    damping, r = 1e-2, at(free)
    for _ in range(steps if len(free) else 0):
        jacobian = np.stack([(at(free + 0.05 * e) - r) / 0.05 for e in np.eye(len(free))], axis=1)
        scale = weights / np.sqrt(r * r + noise * noise)
        normal = jacobian.T @ (scale[:, None] * jacobian)
        gradient = jacobian.T @ (scale * r)
        for _ in range(5):
            step = np.linalg.solve(normal + damping * (np.diag(np.diag(normal)) + 1e-9 * np.eye(len(free))), gradient)
            tried = free - np.clip(step, -1.0, 1.0)
            r_tried = at(tried)
            if _loss(r_tried, weights, noise) < _loss(r, weights, noise):
                free, r, damping = tried, r_tried, damping / 3.0
                break
            damping *= 4.0
        else:
            break
    return free


def _simplex(start: Array, cost: Callable[[Array], float], evaluations: int) -> Array:
    """Nelder–Mead with the dimension-dependent coefficients of Gao and Han 2012."""
    n = len(start)
    if not evaluations:
        return start
    expand, contract, shrink = 1.0 + 2.0 / n, 0.75 - 0.5 / n, 1.0 - 1.0 / max(n, 2)
    points = np.vstack([start, start + 0.3 * np.eye(n)])
    costs = np.array([cost(p) for p in points])
    used = n + 1
    while used < evaluations:
        order = np.argsort(costs)
        points, costs = points[order], costs[order]
        centre = points[:-1].mean(axis=0)
        away = centre - points[-1]
        reflected = centre + away
        tried = cost(reflected)
        used += 1
        if tried < costs[0]:
            further = centre + expand * away
            cost_further = cost(further)
            used += 1
            points[-1], costs[-1] = (further, cost_further) if cost_further < tried else (reflected, tried)
        elif tried < costs[-2]:
            points[-1], costs[-1] = reflected, tried
        else:
            inner = centre + (contract if tried < costs[-1] else -contract) * away
            cost_inner = cost(inner)
            used += 1
            if cost_inner < min(tried, costs[-1]):
                points[-1], costs[-1] = inner, cost_inner
            else:
                points[1:] = points[0] + shrink * (points[1:] - points[0])
                costs[1:] = [cost(p) for p in points[1:]]
                used += n
    return np.asarray(points[int(np.argmin(costs))])
