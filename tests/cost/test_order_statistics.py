"""Waiting for the slowest of many: exact values, and draws (design §2, Slowest)."""

import numpy as np
import pytest

from ridgepoint.cost.order_statistics import expected_maximum


# Closed forms for two and three; for four and five from tables of normal order statistics (Harter 1961).
@pytest.mark.parametrize(
    ("count", "exact"),
    [(1, 0.0), (2, 1 / np.sqrt(np.pi)), (3, 1.5 / np.sqrt(np.pi)), (4, 1.0293754), (5, 1.1629645), (100, 2.5075936)],
)
def test_known_values(count, exact):
    assert expected_maximum(float(count)) == pytest.approx(exact, abs=2e-4)


@pytest.mark.parametrize("count", [2, 7, 64, 1000])
def test_draws_have_the_same_mean(count):
    """A wrong table would misprice every straggler."""
    draws = np.random.default_rng(1).standard_normal((4000, count)).max(axis=1)
    assert expected_maximum(float(count)) == pytest.approx(draws.mean(), abs=4 * draws.std() / np.sqrt(len(draws)))


def test_it_never_falls_with_the_count_and_arrays_equal_scalars():
    counts = np.unique(np.geomspace(1, 1e9, 500))
    found = expected_maximum(counts)
    assert np.all(np.diff(found) >= 0.0)
    assert np.array_equal(found, np.array([expected_maximum(float(c)) for c in counts]))
