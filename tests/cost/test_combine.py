"""Timings of parts make the timing of a whole, by hand (design §2, §3)."""

import numpy as np
import pytest

from ridgepoint.cost.combine import combine
from ridgepoint.cost.order_statistics import expected_maximum
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.demand import Timing
from ridgepoint.ops import Delay
from ridgepoint.work import Mix, Overlap, Repeat, Seq, Slowest, Work

TIMINGS = {
    "matrix": Timing(4.0, {"matrix": 4.0, "hbm": 3.0}, {"matrix": 4.0}),
    "copy": Timing(3.0, {"hbm": 3.0}, {"hbm": 3.0}),
    "launch": Timing(1.0, {"launch": 1.0}, {"launch": 1.0}),
    "wait": Timing(2.0, {"launch": 2.0}, {"launch": 2.0}),
}


def op(name: str) -> Delay:
    return Delay(seconds=0.0, label=name)


def timed(work: Work) -> Timing:
    return combine(work, lambda leaf: TIMINGS[leaf.label])


def responsible(timing: Timing) -> dict[str, float]:
    return {r: float(t) for r, t in timing.critical_s.items() if t}


def test_a_sequence_adds_times_and_responsibilities():
    found = timed(Seq(op("matrix"), op("copy"), op("launch")))
    assert found.time_s == 8.0
    assert found.busy_s == {"matrix": 4.0, "hbm": 6.0, "launch": 1.0}
    assert found.critical_s == {"matrix": 4.0, "hbm": 3.0, "launch": 1.0}


def test_an_overlap_is_held_up_by_what_its_parts_share():
    """Both parts stream from one memory: 3 + 3 s of it are needed, although each part alone takes at most 4 s."""
    found = timed(Overlap(op("matrix"), op("copy")))
    assert found.time_s == 6.0
    assert responsible(found) == {"hbm": 6.0}


def test_what_parts_share_is_told_apart_by_component():
    """A report by component would lose the time that a shared resource takes."""
    kinds = {"a": Timing(3.0, {"a\0hbm": 3.0}, {"a\0hbm": 3.0}), "b": Timing(2.0, {"b\0hbm": 2.0}, {"b\0hbm": 2.0})}
    found = combine(Overlap(op("a"), op("b")), lambda leaf: kinds[leaf.label])
    assert found.time_s == 5.0
    assert found.critical_s == {"a\0hbm": 3.0, "b\0hbm": 2.0}


def test_an_overlap_without_shared_resources_takes_its_longest_part():
    found = timed(Overlap(op("copy"), op("launch")))
    assert found.time_s == 3.0
    assert responsible(found) == {"hbm": 3.0}


def test_waiting_is_done_side_by_side():
    """Two streams wait for their launches at the same time: latencies are not a shared rate."""
    found = timed(Overlap(op("launch"), op("wait")))
    assert found.time_s == 2.0
    assert found.busy_s == {"launch": 2.0}


def test_repetitions_mixtures_and_nothing():
    assert timed(Repeat(2.5, op("copy"))).time_s == 7.5
    assert timed(Mix((0.25, op("matrix")), (0.75, op("wait")))).time_s == 2.5
    assert timed(Mix((0.25, op("matrix")), (0.75, op("wait")))).critical_s == {"matrix": 1.0, "launch": 1.5}
    assert timed(Seq()).time_s == 0.0
    assert timed(Overlap()).time_s == 0.0


def test_waiting_for_the_slowest_of_many_stretches_the_time_but_not_the_use():
    found = timed(Slowest(8.0, op("copy"), 0.2))
    assert found.time_s == pytest.approx(3.0 * (1 + 0.2 * expected_maximum(8.0)))
    assert found.busy_s == {"hbm": 3.0}
    assert found.critical_s["hbm"] == pytest.approx(found.time_s)


def test_the_longest_part_is_chosen_point_by_point():
    count = np.array([0.25, 1.0, 2.0])
    found = timed(Overlap(Repeat(count, op("launch")), op("copy")))
    assert np.array_equal(found.time_s, [3.0, 3.0, 3.0])
    found = timed(Overlap(Repeat(count, op("matrix")), op("wait")))
    assert np.array_equal(found.time_s, [2.0, 4.0, 8.0])
    assert np.array_equal(found.critical_s["matrix"], [0.0, 4.0, 8.0])
    assert np.array_equal(found.critical_s["launch"], [2.0, 0.0, 0.0])


def test_combining_leaves_the_timings_of_the_parts_alone():
    """Sums are added up in place: never in somebody else's array."""
    shared = Timing(np.array([1.0, 2.0]), {"hbm": np.array([1.0, 2.0])}, {"hbm": np.array([1.0, 2.0])})
    work = Seq(op("a"), Repeat(np.array([2.0, 3.0]), op("a")), Repeat(2.0, Seq(op("a"), op("a"))), op("a"))
    found = combine(work, lambda _: shared)
    assert np.array_equal(found.time_s, [8.0, 18.0])
    assert np.array_equal(shared.time_s, [1.0, 2.0])
    assert np.array_equal(shared.busy_s["hbm"], [1.0, 2.0])


def test_an_unknown_constructor_is_refused():
    class Other(Work):
        pass

    with pytest.raises(RidgepointError, match="Other"):
        timed(Other())
