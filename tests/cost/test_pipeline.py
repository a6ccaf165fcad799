"""Closed forms of pipeline schedules against the simulator that is their oracle (design §2)."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.cost.combine import combine
from ridgepoint.kernels.demand import Timing
from ridgepoint.numeric import as_num
from ridgepoint.ops import Delay
from ridgepoint.training.schedule import simulate
from ridgepoint.work import Op, Pipeline, Stage

SECONDS = st.floats(0.01, 10.0)


def leaf(op: Op) -> Timing:
    assert isinstance(op, Delay)
    return Timing(op.seconds, {op.label: op.seconds}, {op.label: op.seconds})


def closed(forward, backward, microbatches, schedule, chunks=1, send=0.0, weights=None, closing=None) -> Timing:
    """The closed form for stages of the given seconds; every quantity is its own resource."""
    stages = tuple(
        Stage(
            1.0,
            Delay(seconds=f, label=f"f{i}"),
            Delay(seconds=b, label=f"b{i}") if backward is not None else None,
            Delay(seconds=send, label="link") if i + 1 < len(forward) else None,
            Delay(seconds=weights[i], label=f"w{i}") if weights is not None else None,
        )
        for i, (f, b) in enumerate(zip(forward, backward or forward, strict=True))
    )
    last = Delay(seconds=closing, label="closing") if closing is not None else None
    return combine(Pipeline(stages, float(microbatches), schedule, as_num(chunks), last), leaf)


def simulated(forward, backward, microbatches, schedule, chunks=1, send=0.0) -> float:
    return simulate(
        forward, backward, microbatches=microbatches, schedule=schedule, chunks=chunks, send_s=send
    ).makespan_s


# design §2: Pipeline is a closed form; the schedule simulator is its oracle. Idle over useful time is (p − 1)/(v·m), section
# 2.2 of Narayanan et al. 2021.
@pytest.mark.parametrize(("schedule", "chunks"), [("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("interleaved", 3)])
def test_equal_stages_are_exact(schedule, chunks):
    for p, groups, extra in product(range(1, 7), (1, 2, 3), range(3)):
        m = groups * p if schedule == "interleaved" else groups * p + extra
        args = ([1.0] * p, [2.0] * p, m, schedule, chunks)
        assert closed(*args).time_s == pytest.approx(simulated(*args)), (p, m)
        assert closed(*args).time_s == pytest.approx(3.0 * m * (1.0 + (p - 1) / (chunks * m)))


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


def test_zero_bubble_has_the_bubble_of_its_paper():
    """ZB-H1: (p − 1)(F + B − W) beside m·(F + B + W), simulated too; ZB-H2 from step to step (p − 1)(F + B − 2W) (Qi 2023)."""
    for p, groups, extra in product(range(1, 8), (1, 2, 4), (0, 1)):
        m = groups * p + extra
        one = [1.0] * p
        found = closed(one, one, m, "zero_bubble", weights=one).time_s
        assert found == pytest.approx(3.0 * m + (p - 1.0))
        line = simulate(one, one, weights_s=one, microbatches=m, schedule="zero_bubble")
        assert line.makespan_s == pytest.approx(found)
        if m >= 2 * p - 1:
            assert closed(one, one, m, "zero_bubble_2", weights=one).time_s == pytest.approx(3.0 * m)
            second = simulate(one, one, weights_s=one, microbatches=m, schedule="zero_bubble_2")
            assert second.makespan_s - (p - 1.0) == pytest.approx(3.0 * m)


@given(st.integers(1, 7), st.integers(1, 5), st.floats(0.8, 1.5), st.floats(0.5, 1.0), st.floats(0.0, 0.2), st.data())
def test_zero_bubble_stays_near_the_simulation(p, groups, backward, ratio, send, data):
    """Equal stages whose gradients of weights take no longer than those of inputs, messages short beside the passes."""
    m = data.draw(st.integers(p, p * (groups + 1)))
    times = [1.0] * p, [backward] * p
    weights = [backward * ratio] * p
    found = closed(*times, m, "zero_bubble", send=send, weights=weights).time_s
    exact = simulate(*times, weights_s=weights, microbatches=m, schedule="zero_bubble", send_s=send).makespan_s
    assert 0.94 * exact <= found <= exact * 1.001 + 2 * p * send


def test_what_closes_a_step_hides_behind_the_last_backward_pass_only():
    """An exchange of gradients as long as half of the step would otherwise vanish behind the whole pipeline."""
    args = ([1.0] * 4, [2.0] * 4, 8)
    for schedule, chunks in (("1f1b", 1), ("gpipe", 1), ("interleaved", 2)):
        alone = closed(*args, schedule, chunks).time_s
        window = 2.0 / chunks
        for seconds in (0.5 * window, window, window + 3.0, 20.0):
            found = closed(*args, schedule, chunks, closing=seconds)
            assert found.time_s == pytest.approx(alone + max(seconds - window, 0.0))
            assert sum(found.critical_s.values()) == pytest.approx(found.time_s)


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
    st.sampled_from(Pipeline.SCHEDULES),
    st.floats(0.0, 5.0),
    st.floats(0.0, 50.0),
)
def test_critical_seconds_sum_to_the_time_and_busy_ones_stay_within(both, m, schedule, send, closing):
    backward = [b for _, b in both] if schedule != "forward" else None
    weights = backward if schedule.startswith("zero") else None
    timing = closed([f for f, _ in both], backward, m, schedule, 2, send, weights, closing if backward else None)
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


@given(st.lists(SECONDS, min_size=2, max_size=6), st.integers(1, 12), st.floats(0.0, 4.0))
def test_one_chunk_per_stage_is_1f1b(forward, m, send):
    """Otherwise asking for interleaved stages would hide messages for nothing; in arrays each point has its own chunks."""
    backward = [2.0 * f for f in forward]
    plain_time = closed(forward, backward, m, "1f1b", send=send).time_s
    assert closed(forward, backward, m, "interleaved", 1, send).time_s == pytest.approx(plain_time)
    both = np.asarray(closed(forward, backward, m, "interleaved", np.array([1.0, 2.0]), send).time_s)
    assert both[0] == pytest.approx(plain_time)
    assert both[1] == pytest.approx(closed(forward, backward, m, "interleaved", 2, send).time_s)
