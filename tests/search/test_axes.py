"""Axes of a sweep as people write them (design §10)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.plan import Plan
from ridgepoint.request import PLAN_KEYS
from ridgepoint.search.axes import DEGREES, FLAGS, NUMBERS, axis, parse_axis


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("batch=1:256:log2", tuple(2.0**i for i in range(9))),
        ("batch=1:200:log2", tuple(2.0**i for i in range(8))),
        ("context=1k:100k:x4", (1024.0, 4096.0, 16384.0, 65536.0)),
        ("context=1k,8k,128k", (1024.0, 8192.0, 131072.0)),
        ("seq=512:2048:512", (512.0, 1024.0, 1536.0, 2048.0)),
        ("tp=1:4", (1.0, 2.0, 3.0, 4.0)),
        ("memory-fraction=0.8,0.9", (0.8, 0.9)),
        ("weights=bf16,fp8", ("bf16", "fp8")),
        ("graphs=on,off", (True, False)),
        ("mode=eager,compiled", (False, True)),
        ("machine=h100-sxm; h100-sxm@bandwidth=4.8T,memory=141G", ("h100-sxm", "h100-sxm@bandwidth=4.8T,memory=141G")),
        ("machine.hbm=2T,4T", ("2T", "4T")),
    ],
)
def test_what_people_write_is_what_varies(text: str, values: tuple[object, ...]) -> None:
    assert parse_axis(text).values == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch", "says no axis"),
        ("batch=", "says no axis"),
        ("batch=a,b", "'a' is not a count"),
        ("batch=8:1:log2", "is no range"),
        ("batch=0:8:log2", "is no range"),
        ("batch=1:8:x1", "is no range"),
        ("batch=1:8:-1", "is no range"),
        ("batch=1:2:3:4", "is no range"),
        ("batch=1:1e9:1", "has 1,000,000,000 values"),
        ("batch=4,4", "says 4 twice"),
        ("graphs=perhaps", "is no flag"),
        ("machine.color=red", "unknown key 'color'"),
        ("memory-fraction=much", "is not a number"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(text: str, said: str) -> None:
    with pytest.raises(RidgepointError) as caught:
        parse_axis(text)
    assert said in caught.value.message
    assert caught.value.hint


@given(st.integers(1, 10_000), st.integers(1, 64), st.integers(1, 50))
def test_a_range_has_its_ends_and_no_more(first: int, step: int, count: int) -> None:
    last = first + step * (count - 1)
    assert axis("batch", f"{first}:{last}:{step}").values == tuple(float(first + i * step) for i in range(count))


def test_values_may_be_values() -> None:
    assert axis("batch", np.array([1, 2])).values == (1.0, 2.0)
    assert axis("machine.bandwidth", [2e12]).values == ("2000000000000.0",)
    with pytest.raises(RidgepointError, match="give a list of values"):
        axis("batch", 3)


def test_everything_that_a_plan_says_can_vary() -> None:
    """A field that is missing here would be refused, or read as a name where it is a number."""
    assert {*FLAGS, *DEGREES, *NUMBERS} < {*PLAN_KEYS}
    names = {*PLAN_KEYS} - {*FLAGS, *DEGREES, *NUMBERS}
    assert all(isinstance(getattr(Plan(), name), str | None) for name in names)
    assert {"weights", "recompute"} <= names
    assert {"tp", "micro_batch", "chunks", "zero_stage"} <= {*DEGREES}
    assert {"memory_fraction"} <= {*NUMBERS}
