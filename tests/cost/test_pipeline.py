"""Closed forms of pipeline schedules against the simulator that is their oracle (design §2)."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.cost.combine import combine
from ridgepoint.cost.pipeline import bubble_fraction
from ridgepoint.kernels.demand import Timing
from ridgepoint.ops import Delay
from ridgepoint.training.schedule import simulate
from ridgepoint.work import Op, Pipeline, Stage

SECONDS = st.floats(0.01, 10.0)


def leaf(op: Op) -> Timing:
    assert isinstance(op, Delay)
    return Timing(op.seconds, {op.label: op.seconds}, {op.label: op.seconds})


def closed(forward, backward, microbatches, schedule, chunks=1, send=0.0) -> Timing:
    """The closed form for stages of the given seconds; every quantity is its own resource."""
    stages = tuple(
        Stage(
            1.0,
            Delay(seconds=f, label=f"f{i}"),
            Delay(seconds=b, label=f"b{i}") if backward is not None else None,
            Delay(seconds=send, label="link") if i + 1 < len(forward) else None,
        )
        for i, (f, b) in enumerate(zip(forward, backward or forward, strict=True))
    )
    return combine(Pipeline(stages, float(microbatches), schedule, float(chunks)), leaf)


def simulated(forward, backward, microbatches, schedule, chunks=1, send=0.0) -> float:
    return simulate(
        forward, backward, microbatches=microbatches, schedule=schedule, chunks=chunks, send_s=send
    ).makespan_s


# design §2: Pipeline is a closed form; the schedule simulator is its oracle
@pytest.mark.parametrize(("schedule", "chunks"), [("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("interleaved", 3)])
def test_equal_stages_are_exact(schedule, chunks):
    for p, groups, extra in product(range(1, 7), (1, 2, 3), range(3)):
        m = groups * p if schedule == "interleaved" else groups * p + extra
        args = ([1.0] * p, [2.0] * p, m, schedule, chunks)
        assert closed(*args).time_s == pytest.approx(simulated(*args)), (p, m)
        assert closed(*args).time_s == pytest.approx(3.0 * m * (1.0 + bubble_fraction(p, m, chunks)))


@given(st.lists(SECONDS, min_size=1, max_size=6), st.integers(1, 12), st.floats(0.0, 10.0))
def test_forward_passes_and_their_messages_are_exact_for_any_stages(forward, m, send):
    assert closed(forward, None, m, "forward", send=send).time_s == pytest.approx(
        simulated(forward, None, m, "forward", send=send)
    )


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=6), st.integers(1, 12), st.floats(0.0, 10.0))
def test_gpipe_is_exact_for_any_stages(both, m, send):
    forward, backward = [f for f, _ in both], [b for _, b in both]
    assert closed(forward, backward, m, "gpipe", send=send).time_s == pytest.approx(
        simulated(forward, backward, m, "gpipe", send=send)
    )


@given(st.lists(SECONDS, min_size=1, max_size=6), st.integers(1, 16), st.floats(0.1, 4.0))
def test_1f1b_is_never_too_short_and_too_long_by_the_stages_behind_the_slowest(forward, m, ratio):
    backward = [ratio * f for f in forward]
    whole = [f + b for f, b in zip(forward, backward, strict=True)]
    found, exact = closed(forward, backward, m, "1f1b").time_s, simulated(forward, backward, m, "1f1b")
    behind = sum(whole[whole.index(max(whole)) + 1 :])
    assert exact * (1 - 1e-9) <= found <= (exact + behind) * (1 + 1e-9)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=6), st.integers(1, 16))
def test_1f1b_takes_at_most_the_time_of_gpipe_whatever_the_stages(both, m):
    forward, backward = [f for f, _ in both], [b for _, b in both]
    exact = simulated(forward, backward, m, "1f1b")
    assert exact <= closed(forward, backward, m, "gpipe").time_s * (1 + 1e-9)


@given(st.lists(SECONDS, min_size=1, max_size=5), st.integers(1, 4), st.integers(2, 4), st.floats(0.1, 4.0))
def test_interleaved_stages_stay_within_the_stated_bounds(forward, groups, chunks, ratio):
    backward = [ratio * f for f in forward]
    whole = [f + b for f, b in zip(forward, backward, strict=True)]
    args = (forward, backward, groups * len(forward), "interleaved", chunks)
    found, exact = closed(*args).time_s, simulated(*args)
    behind = sum(whole[whole.index(max(whole)) + 1 :]) / chunks
    assert exact * 0.985 <= found <= (exact + behind) * (1 + 1e-9)


def test_messages_of_1f1b_hold_up_every_group_of_micro_batches():
    """Exact after whole groups, never too short: a link's latency would otherwise vanish in the steady phase."""
    for p, m, send in product(range(2, 6), range(1, 14), (0.1, 1.0, 7.0)):
        args = ([1.0] * p, [2.0] * p, m, "1f1b", 1, send)
        found, exact = closed(*args).time_s, simulated(*args)
        assert exact * (1 - 1e-9) <= found <= exact + 2 * send * (1 + 1e-9)
        if (m - 1) % p == 0:
            assert found == pytest.approx(exact)


def test_messages_of_interleaved_stages_are_paid_once_per_hop():
    for p, groups, v in product((2, 3, 4), (1, 2, 4), (2, 3)):
        args = ([1.0] * p, [2.0] * p, groups * p, "interleaved", v, 0.4 / v)
        assert closed(*args).time_s == pytest.approx(simulated(*args)), (p, groups, v)


# design §3: critical seconds sum to the time; no resource is busy longer than the time
@given(
    st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=5),
    st.integers(1, 8),
    st.sampled_from(["forward", "gpipe", "1f1b", "interleaved"]),
    st.floats(0.0, 5.0),
)
def test_critical_seconds_sum_to_the_time_and_busy_ones_stay_within(both, m, schedule, send):
    backward = [b for _, b in both] if schedule != "forward" else None
    timing = closed([f for f, _ in both], backward, m, schedule, 2, send)
    assert sum(timing.critical_s.values()) == pytest.approx(timing.time_s)
    assert all(t <= timing.time_s * (1 + 1e-9) for t in timing.busy_s.values())


def test_arrays_of_stage_counts_equal_scalars():
    """One sweep over pp: a stage type that no device has would otherwise slow the others."""
    pp = np.array([2.0, 3.0, 6.0])
    ends = Delay(seconds=1.0, label="ends"), Delay(seconds=3.0, label="middle")

    def pipeline(stages):
        parts = (Stage(1.0, ends[0]), Stage(stages - 2.0, ends[1]), Stage(1.0, ends[0]))
        return combine(Pipeline(parts, 5.0, "forward"), leaf)

    together = pipeline(pp)
    assert np.allclose(together.time_s, [pipeline(p).time_s for p in pp])
    assert together.time_s[0] == 2.0 + 4.0
