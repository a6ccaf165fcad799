"""Small mixed-integer programs against enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.serving.integer import integer_program, linear_program


@given(seed=st.integers(0, 400))
def test_covering_programs_have_the_least_value_that_enumeration_finds(seed):
    """min c·x, D x ≥ d, x whole: what a fleet asks."""
    random = np.random.default_rng(seed)
    kinds, needs = int(random.integers(1, 4)), int(random.integers(1, 4))
    cost, gives = random.integers(1, 9, kinds).astype(float), random.integers(0, 5, (needs, kinds)).astype(float)
    wants = random.integers(0, 8, needs).astype(float)
    found = integer_program(cost, -gives, -wants, list(range(kinds)))
    best = min(
        (float(cost @ np.array(x)) for x in product(range(9), repeat=kinds) if np.all(gives @ np.array(x) >= wants)),
        default=None,
    )
    assert (found is None) == (best is None)
    if found is not None:
        assert found[0] == pytest.approx(best)
        assert np.all(gives @ found[1] >= wants - 1e-9)


def test_only_some_variables_need_to_be_whole():
    value, x = integer_program(np.array([1.0, 10.0]), np.array([[-1.0, -1.0], [1.0, 0.0]]), np.array([-2.5, 1.7]), [0])  # type: ignore[misc]
    assert x.tolist() == pytest.approx([1.0, 1.5])
    assert value == pytest.approx(16.0)


def test_what_cannot_be_and_what_has_no_end():
    assert linear_program(np.array([1.0]), np.array([[1.0], [-1.0]]), np.array([1.0, -2.0])) is None
    with pytest.raises(ValueError, match="no least"):
        linear_program(np.array([-1.0]), np.array([[-1.0]]), np.array([0.0]))
