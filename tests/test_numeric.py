"""Helpers that keep scalar and array code the same (design §2)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ridgepoint.numeric import as_num, ceil_div, distinct, plain


def test_anything_without_dimensions_becomes_a_float():
    assert [type(as_num(v)) for v in (3, 3.0, np.int64(3), np.array(3))] == [float] * 4
    assert isinstance(as_num([1, 2]), np.ndarray)
    assert plain(np.float64(2.0)) == 2.0


@pytest.mark.parametrize(("a", "b", "pieces"), [(256, 128, 2), (257, 128, 3), (1, 128, 1), (0, 128, 0)])
def test_whole_pieces(a, b, pieces):
    assert ceil_div(float(a), float(b)) == pieces


@given(arrays(float, (2, 4000), elements=st.sampled_from([1.0, 2.0, 3.0, 1e9, 1e9 + 1, 0.1, 0.3])))
def test_distinct_rows_spread_back_to_the_original(values):
    """Rows that were taken for equal although they differ would give one point another's time."""
    found = distinct(values[0], values[1], 5.0)
    if found is not None:
        (a, b, c), spread = found
        assert np.array_equal(spread(a), values[0])
        assert np.array_equal(spread(b), values[1])
        assert c == 5.0


def test_distinct_is_not_worth_it_for_few_or_for_different_points():
    assert distinct(np.arange(10.0)) is None
    assert distinct(np.arange(5000.0)) is None
