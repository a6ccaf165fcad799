"""The schedule simulator itself, by hand and by its own rules (design §2)."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.training.schedule import ORDERS, SPLIT, simulate

SECONDS = st.floats(0.01, 10.0)


@st.composite
def steps(draw):
    stages = draw(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=5))
    schedule = draw(st.sampled_from(sorted(ORDERS)))
    chunks = draw(st.integers(1, 3)) if schedule == "interleaved" else 1
    count = draw(st.integers(1, 4)) * (len(stages) if schedule == "interleaved" else 1)
    backward = [b for _, b in stages] if schedule != "forward" else None
    return (
        simulate(
            [f for f, _ in stages],
            backward,
            microbatches=count,
            schedule=schedule,
            chunks=chunks,
            send_s=draw(st.floats(0.0, 3.0)),
            weights_s=[draw(SECONDS) for _ in stages] if schedule != "forward" else None,
        ),
        count,
        schedule,
    )


@given(steps())
def test_every_pass_runs_once_and_a_stage_does_one_at_a_time(step):
    line, count, schedule = step
    each = Counter((span.stage, span.work) for span in line.spans)
    passes = 1 if schedule == "forward" else 3 if schedule in SPLIT else 2
    assert set(each.values()) == {1}
    assert len(each) == line.stages * line.chunks * count * passes
    for stage in range(line.stages):
        spans = line.of_stage(stage)
        assert all(a.end_s <= b.start_s for a, b in pairwise(spans))
        assert line.idle_s(stage) >= -1e-9


@given(steps())
def test_no_pass_starts_before_its_input_exists(step):
    line, _, _ = step
    passes = [s for s in line.spans if not s.work.weights]
    level = {(s.work.chunk * line.stages + s.stage, s.work.microbatch, s.work.backward): s for s in passes}
    for span in (s for s in line.spans if s.work.weights):
        assert level[span.stage, span.work.microbatch, True].end_s <= span.start_s
    last = line.stages * line.chunks - 1
    for (depth, microbatch, backward), span in level.items():
        if backward:
            before = level[depth, microbatch, False] if depth == last else level[depth + 1, microbatch, True]
        else:
            before = level.get((depth - 1, microbatch, False))
        assert before is None or before.end_s <= span.start_s


def test_one_micro_batch_visits_the_stages_one_after_the_other():
    line = simulate([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], microbatches=1, schedule="1f1b", send_s=0.5)
    assert line.makespan_s == 21.0 + 4 * 0.5


def test_a_shared_link_takes_messages_one_after_the_other():
    assert simulate([1.0, 1.0], microbatches=3, send_s=4.0).makespan_s == 1.0 + 3 * 4.0 + 1.0


def test_micro_batches_in_flight_are_those_of_the_papers():
    """All for GPipe; itself and the stages behind it for 1F1B; pp·(1 + (pp − 1)/(pp·v)) interleaved (Narayanan 2021)."""
    stages, v = 4, 2
    times = [1.0] * stages, [2.0] * stages
    assert simulate(*times, microbatches=16, schedule="gpipe").peak_in_flight(0) == 16
    plain = simulate(*times, microbatches=16, schedule="1f1b")
    assert [plain.peak_in_flight(s) for s in range(stages)] == [4, 3, 2, 1]
    mixed = simulate(*times, microbatches=16, schedule="interleaved", chunks=v)
    assert mixed.peak_in_flight(0) == stages * (1 + (stages - 1) / (stages * v))


def test_zero_bubble_schedules_hold_what_the_paper_says():
    """ZB-H1 holds pp micro-batches on every stage at most, ZB-H2 2·pp − 1 (Qi et al. 2023)."""
    for p in range(1, 7):
        times = [1.0] * p, [1.0] * p
        for schedule, most in (("zero_bubble", p), ("zero_bubble_2", 2 * p - 1)):
            line = simulate(*times, weights_s=[1.0] * p, microbatches=4 * p, schedule=schedule)
            assert max(line.peak_in_flight(stage) for stage in range(p)) == most


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"schedule": "zero-bubble"}, "use one of"),
        ({"schedule": "interleaved", "chunks": 2, "microbatches": 3}, "multiple of 2"),
        ({"microbatches": 0}, "at least one"),
        ({"send_s": [1.0]}, "as many"),
    ],
)
def test_bad_input_is_refused_with_what_is_valid(arguments, says):
    with pytest.raises(RidgepointError, match=says):
        simulate([1.0, 1.0], [1.0, 1.0], **{"microbatches": 2, **arguments})
