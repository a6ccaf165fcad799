"""Units at the edges: text in, SI floats inside, readable text out; GB is 1e9 bytes (design §4, §9)."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.units import duration, parse_count, parse_quantity, si, significant


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("80 GB", "B", 80e9),  # not 80·2^30: that makes estimates 7.4 % faster than the machine
        ("80 GiB", "B", 80 * 2.0**30),
        ("3.35 TB/s", "B/s", 3.35e12),
        ("400 Gb/s", "B/s", 50e9),
        ("400 Gbps", "B/s", 50e9),
        ("8 Gb", "B", 1e9),
        ("989.4 TFLOP/s", "FLOP/s", 989.4e12),
        ("1979 TOP/s", "FLOP/s", 1979e12),
        ("312T", "FLOP/s", 312e12),
        ("1.5e3", "W", 1500.0),
        ("700 W", "W", 700.0),
        ("1.8 GHz", "Hz", 1.8e9),
        ("20ms", "s", 0.02),
        ("3 µs", "s", 3e-6),
        ("3 μs", "s", 3e-6),  # the Greek letter beside the micro sign
        ("5 ps", "s", 5e-12),
        ("2 min", "s", 120.0),
        ("1.5 h", "s", 5400.0),
        (42, "B", 42.0),
        (" .5 kJ ", "J", 500.0),
    ],
)
def test_quantities_are_read_in_si(text, unit, value):
    assert parse_quantity(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "unit"),
    [("80 GB/s", "B"), ("80 GB", "B/s"), ("fast", "B"), ("", "s"), ("5 W", "s"), ("nan", "s"), (math.inf, "B"), (True, "B"),
     ("1e999", "B"), ("3 Kib", "B"), ("5 GFLOP", "FLOP/s"), ("1 2 GB", "B")],
)  # fmt: skip
def test_what_is_no_quantity_of_the_unit_is_refused_with_an_example(text, unit):
    with pytest.raises(RidgepointError, match="write it like") as error:
        parse_quantity(text, unit)
    assert error.value.kind == "bad_quantity"


@given(st.text(max_size=12), st.sampled_from(["B", "B/s", "FLOP/s", "s", "W", "Hz", "J"]))
def test_any_text_is_a_number_or_an_error_sentence(text, unit):
    with contextlib.suppress(RidgepointError):
        assert math.isfinite(parse_quantity(text, unit))


def test_context_lengths_count_in_powers_of_1024():
    assert [parse_count(t) for t in ("8k", "128K", "1M", "32", 7)] == [8192.0, 131072.0, 1048576.0, 32.0, 7.0]


@pytest.mark.parametrize("text", ["many", "8 kB", "8k/s", "", "nan", "1e999"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(RidgepointError, match="count"):
        parse_count(text)


@given(st.floats(1e-12, 1e17), st.sampled_from(["B", "B/s", "FLOP/s", "W", "J"]))
def test_printed_values_read_back_to_three_digits(value, unit):
    printed = si(value, unit)
    if value < 1.0 and unit in ("B", "B/s", "FLOP/s"):
        return  # nobody writes millibytes
    assert parse_quantity(printed, unit) == pytest.approx(value, rel=5.1e-3)
    assert printed == si(float(f"{value:.2e}"), unit)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (0.0142, "14.2 ms"), (1.0, "1.00 s"), (90.0, "1.50 min"), (86.0, "86.0 s"), (2e6, "23.1 days"),
     (math.inf, "inf s"), (math.nan, "nan s")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_rounding_up_to_the_next_digit_keeps_three_digits():
    assert [significant(v) for v in (9.996, 99.96, 999.6, 0.09996)] == ["10.0", "100", "1,000", "0.100"]
    assert [si(v, "B") for v in (999.96, 999.4, 1e6)] == ["1.00 kB", "999 B", "1.00 MB"]
    assert si(1.457e19, "FLOP/s") == "14.6 EFLOP/s"
