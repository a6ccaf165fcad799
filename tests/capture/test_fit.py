"""Formulas from captures at several sizes: exact or refused."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.capture.fit import Sampled, fitted, holds, polynomial
from ridgepoint.models.networks.captured.formula import value
from tests.models.networks.captured.graphs import graph, stream

NUMBERS = st.integers(-(10**6), 10**6)


@given(st.lists(NUMBERS, min_size=6, max_size=6), st.integers(1, 10**4), st.integers(1, 10**5))
def test_a_polynomial_is_found_exactly(c, batch, seq):
    def true(b, s):
        return c[0] + c[1] * b + c[2] * s + c[3] * b * s + c[4] * s * s + c[5] * b * s * s

    points = [((b, s), float(true(b, s))) for b, s in product((2, 3), (128, 256, 384))]
    found = polynomial(("batch", "seq"), points, (1, 2))
    sizes = {"batch": float(batch), "seq": float(seq)}
    exact = true(batch, seq)
    assert abs(value(found, sizes) - exact) <= 1e-9 * (abs(exact) + 6e6 * batch * seq * seq)


def sample(point, number):
    return Sampled(point, graph([float(number), 1.0], [stream([0], [1], float(number))]))


def test_what_is_no_polynomial_is_noticed():
    # ⌈s / 100⌉ blocks: a line through two sizes is wrong at a third.
    found = fitted(("seq",), [sample((128,), 2), sample((256,), 3)], (1,))
    assert holds(found, ("seq",), sample((512,), 6)) != ""
    assert holds(found, ("seq",), sample((384,), 4)) == ""
