"""The robust fit: it recovers what made the data, in spite of noise and strangers (design §4)."""

from collections.abc import Mapping

import numpy as np
import pytest

from ridgepoint.machines.calibration import Parameter, fit, robust_spread
from ridgepoint.numeric import Array

PARAMETERS = [
    Parameter("efficiency", 0.3, 0.1, 1.0),
    Parameter("bandwidth", 0.5, 0.1, 1.0),
    Parameter("launch", 1e-6, 1e-7, 1e-4),
]
TRUE = {"efficiency": 0.72, "bandwidth": 0.86, "launch": 3e-6}


def roofline_s(values: dict[str, float], flop: Array, moved: Array) -> Array:
    return np.asarray(
        np.maximum(flop / (1e14 * values["efficiency"]), moved / (2e12 * values["bandwidth"])) + values["launch"]
    )


@pytest.mark.parametrize("strangers", [0.0, 0.1, 0.2])
def test_the_fit_recovers_known_coefficients(strangers: float) -> None:
    # a kernel of its own, four times as slow, in a tenth or a fifth of the rows must not pull the others' coefficients
    rng = np.random.default_rng(1)
    flop, moved = 10 ** rng.uniform(6, 13, 800), 10 ** rng.uniform(4, 10, 800)
    measured = np.log(roofline_s(TRUE, flop, moved)) + rng.normal(0.0, 0.05, 800)
    measured[rng.uniform(size=800) < strangers] += np.log(4.0)
    found = fit(PARAMETERS, lambda values: np.log(roofline_s(dict(values), flop, moved)) - measured)
    for name, value in TRUE.items():
        assert found.values[name] == pytest.approx(value, rel=0.04), name
    assert found.median_error < 0.06


def test_values_stay_within_their_bounds() -> None:
    # data that ask for an efficiency of 3 get the bound, not more: bound ≤ expected rests on it
    found = fit(
        [Parameter("efficiency", 0.5, 0.1, 1.0)], lambda values: np.log(3.0 / values["efficiency"]) * np.ones(5)
    )
    assert 0.99 < found.values["efficiency"] <= 1.0


def test_weights_decide_between_rows_that_disagree() -> None:
    target, weight = np.log(np.array([0.2, 0.8])), np.array([1.0, 10.0])
    found = fit([Parameter("x", 0.4, 0.1, 1.0)], lambda values: np.log(values["x"]) - target, weight)
    assert found.values["x"] == pytest.approx(0.8, rel=0.02)


def test_an_interval_of_the_spread_holds_nine_tenths() -> None:
    # design §4: the residual spread becomes the estimate's interval, whatever the tails
    rng = np.random.default_rng(2)
    for residuals in (rng.normal(0.0, 0.1, 4000), 0.1 * rng.standard_t(2, 4000), rng.laplace(0.0, 0.2, 4000)):
        inside = np.abs(residuals) <= 1.645 * robust_spread(residuals)
        assert np.mean(inside) == pytest.approx(0.9, abs=0.001)


def test_what_the_rows_do_not_tell_stays_where_it_was() -> None:
    # design §4: few parameters; a machine whose rows say nothing of one keeps its family's, one that they tell still comes out
    target = np.log(np.full(200, 0.4)) + np.random.default_rng(5).normal(0.0, 0.02, 200)
    both = [Parameter("told", 0.7, 0.1, 1.0), Parameter("untold", 0.5, 0.1, 1.0)]

    def residuals(values: Mapping[str, float]) -> Array:
        return np.asarray(np.log(values["told"]) + 1e-4 * np.log(values["untold"]) - target)

    held = fit(both, residuals, hold=0.002).values
    assert held["told"] == pytest.approx(0.4, rel=0.01)
    assert held["untold"] == pytest.approx(0.5, rel=0.02)
    moving = [Parameter("told", 0.7, 0.1, 1.0, held=False)]
    assert fit(moving, lambda values: np.log(values["told"]) - target, hold=1.0).values["told"] == pytest.approx(
        0.4, rel=0.01
    )
