"""Memory-bound kernels (design §3, §4)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels import stream
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Stream

MACHINES = ("h100-sxm", "a100-sxm-80gb", "t4", "v100-sxm-16gb", "mi300x", "tpu-v5e", "xeon-8480plus", "m2-ultra")
H100 = find_machine("h100-sxm")

ops = st.builds(
    Stream,
    read_bytes=st.floats(0.0, 1e10),
    write_bytes=st.floats(1.0, 1e10),
    flop=st.floats(0.0, 1e11),
    special=st.floats(0.0, 1e10),
    pattern=st.sampled_from(stream.PATTERNS),
    rows=st.sampled_from([0.0, 1.0, 7.0, 1000.0]),
    launches=st.sampled_from([1.0, 3.0]),
)


@given(ops, st.sampled_from(MACHINES))
def test_expected_is_never_below_bound(op: Stream, name: str):
    machine = find_machine(name)
    assert settle(stream.expected(op, machine)).time_s >= settle(stream.bound(op, machine)).time_s


@given(ops, st.sampled_from(MACHINES))
def test_array_equals_scalar(op: Stream, name: str):
    machine = find_machine(name)
    read, rows = np.array([1e3, op.read_bytes, 1e9]), np.array([0.0, op.rows, 5.0])
    swept = np.asarray(settle(stream.expected(replace(op, read_bytes=read, rows=rows), machine)).time_s)
    for i in range(3):
        alone = replace(op, read_bytes=float(read[i]), rows=float(rows[i]))
        assert swept[i] == pytest.approx(settle(stream.expected(alone, machine)).time_s, rel=1e-12)


@given(ops, st.sampled_from(["read_bytes", "write_bytes", "flop", "special", "launches"]))
def test_more_work_is_not_faster(op: Stream, what: str):
    more = replace(op, **{what: 2.0 * getattr(op, what)})
    assert settle(stream.expected(more, H100)).time_s >= settle(stream.expected(op, H100)).time_s


def test_bound_by_hand():
    """3.35 GB read and written at 3.35 TB/s take a millisecond."""
    op = Stream(read_bytes=2.35e9, write_bytes=1.0e9)
    assert settle(stream.bound(op, H100)).time_s == pytest.approx(1e-3)


def test_one_row_is_slower_than_many():
    """One multiprocessor reduces one row: it draws a part of the bandwidth."""
    op = Stream(read_bytes=1e8, write_bytes=1e8, pattern="softmax")
    one, many = (settle(stream.expected(replace(op, rows=rows), H100)).time_s for rows in (1.0, 1e4))
    assert one > 10.0 * many


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "l40s"])
def test_large_norms_are_memory_bound_on_every_generation(name: str):
    """Kernels of 2023 that load single values told H100 and B200 alone: norms of served models took twice their bytes' time."""
    op = Stream(read_bytes=2.4e8, write_bytes=2.4e8, pattern="norm", rows=8192.0)
    machine = find_machine(name)
    today, single, bound = (
        settle(demand(replace(op, pattern=pattern), machine)).time_s
        for demand, pattern in (
            (stream.expected, "norm"),
            (stream.expected, "scalar_norm"),
            (stream.bound, "norm"),
        )
    )
    assert today < 1.5 * bound
    assert single > 1.5 * today


def test_rows_of_single_values_wait_for_each_load():
    """Measured on H100 and A100 alike: one row of 8,192 values takes some two microseconds more than one of 4,096."""
    small, large = (
        settle(
            stream.expected(Stream(read_bytes=2.0 * n, write_bytes=2.0 * n, pattern="scalar_norm", rows=1.0), H100)
        ).time_s
        for n in (4096.0, 8192.0)
    )
    assert 1e-6 < large - small < 3e-6


def test_launches_bind_small_kernels():
    timing = settle(stream.expected(Stream(read_bytes=1e3, write_bytes=1e3, launches=10.0), H100))
    assert timing.critical_s["launch"] > 0.99 * timing.time_s


def test_unknown_pattern_is_refused():
    """design §2: no silent default for a kernel that nobody described."""
    with pytest.raises(RidgepointError, match="unknown stream pattern 'sort'"):
        stream.expected(Stream(read_bytes=1.0, write_bytes=1.0, pattern="sort"), H100)


def test_without_special_units_vector_units_compute_exponentials():
    op = Stream(read_bytes=1.0, write_bytes=1.0, special=1e9)
    assert set(stream.bound(op, find_machine("xeon-8480plus")).phases[0].seconds) == {"vector", "ddr"}


def test_a_gather_waits_for_index_arithmetic_not_for_memory() -> None:
    """GPUs of one clock and width gather alike, whatever their memory; copies of the same bytes follow the bandwidth."""
    rows = Stream(read_bytes=1e9, write_bytes=1e9, pattern="gather")
    sheet = find_machine("a100-sxm-80gb")
    faster = find_machine("a100-sxm-80gb@hbm=4TB/s")
    gathered, copied = (
        settle(stream.expected(op, sheet)).time_s / settle(stream.expected(op, faster)).time_s
        for op in (rows, replace(rows, pattern="copy"))
    )
    assert gathered == pytest.approx(1.0, rel=0.01)
    assert copied > 1.5
