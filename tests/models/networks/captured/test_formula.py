"""Sizes as formulas (design §5: closed forms that sweep); a work file may come from anywhere, so only arithmetic is read."""

import numpy as np
import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.formula import value


def test_arrays_and_scalars_agree():
    formula = "max(2*batch*seq - 3, ceil(seq/128))"
    swept = value(formula, {"batch": np.array([1.0, 4.0]), "seq": np.array([100.0, 1000.0])})
    assert list(np.ravel(swept)) == [value(formula, {"batch": b, "seq": s}) for b, s in ((1.0, 100.0), (4.0, 1000.0))]


@pytest.mark.parametrize(
    "formula",
    ["__import__('os')", "batch.__class__", "(lambda: 1)()", "[1][0]", "open('x')", "'a'*3", "1 if batch else 2",
     "__builtins__", "min", "batch and seq", "x" * 5000, "1 +", "max(1, key=batch)"],
)  # fmt: skip
def test_only_arithmetic_is_a_formula(formula):
    with pytest.raises(RidgepointError) as raised:
        value(formula, {"batch": 1.0, "seq": 1.0})
    assert raised.value.kind == "bad_work"


@pytest.mark.parametrize("formula", ["9**9**9**9", "1/(batch - 1)", "max(1)"])
def test_what_has_no_value_is_said_at_once(formula):
    with pytest.raises(RidgepointError, match="has no value here"):
        value(formula, {"batch": 1.0})


def test_a_size_that_is_not_there_is_named():
    with pytest.raises(RidgepointError, match="names the size 'seq'"):
        value("batch*seq", {"batch": 1.0})
