"""Works are frozen values that check themselves and print as trees (design §2)."""

import dataclasses

import numpy as np
import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.ops import Delay, Gemm
from ridgepoint.work import Mix, Overlap, Pipeline, Repeat, Seq, Slowest, Stage, ops, tree, walk

A, B = Delay(seconds=1.0, label="a"), Delay(seconds=2.0, label="b")


def test_works_are_frozen_and_equal_by_value():
    work = Seq(A, Repeat(2.0, B))
    assert work == Seq(A, Repeat(2.0, B))
    assert hash(work) == hash(Seq(A, Repeat(2.0, B)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        A.seconds = 3.0  # type: ignore[misc]


WRONG = {
    "negative count": lambda: Repeat(-1.0, A),
    "NaN count": lambda: Repeat(np.nan, A),
    "NaN in an array": lambda: Repeat(np.array([1.0, np.nan]), A),
    "probabilities below 1": lambda: Mix((0.5, A), (0.4, B)),
    "negative probability": lambda: Mix((1.5, A), (-0.5, B)),
    "empty mix": lambda: Mix(),
    "half a copy": lambda: Slowest(0.5, A, 0.1),
    "negative spread": lambda: Slowest(2.0, A, -0.1),
    "no micro-batch": lambda: Pipeline((Stage(1.0, A),), 0.0),
    "unknown schedule": lambda: Pipeline((Stage(1.0, A),), 4.0, "zigzag"),
    "half a chunk": lambda: Pipeline((Stage(1.0, A),), 4.0, chunks=0.5),
    "no stage": lambda: Pipeline((), 4.0),
    "negative stages": lambda: Stage(-1.0, A),
}


@pytest.mark.parametrize("name", WRONG)
def test_impossible_numbers_are_refused(name):
    with pytest.raises(RidgepointError) as error:
        WRONG[name]()
    assert error.value.kind == "bad_work"


def test_fractional_counts_and_arrays_are_allowed():
    assert Repeat(0.5, A).count == 0.5
    Mix((np.array([0.2, 1.0]), A), (np.array([0.8, 0.0]), B))


def test_walk_visits_every_node_and_ops_only_operations():
    work = Overlap(Seq(A, B), Mix((0.5, A), (0.5, Repeat(3.0, B))), Pipeline((Stage(2.0, A, B, send=A),), 4.0, "1f1b"))
    assert len(list(walk(work))) == 3 + 4 + 4 + 1
    assert [op.label for op in ops(work)] == ["a", "b", "a", "b", "a", "b", "a"]


def test_runs_of_a_pipeline_count_messages_both_ways_in_the_mean_over_devices():
    training = Pipeline((Stage(1.0, A, B, send=Delay(seconds=3.0)), Stage(1.0, A, B)), 4.0, "1f1b")
    assert [times for times, _ in training.runs()] == [2.0, 2.0, 4.0, 2.0, 2.0]
    assert [times for times, _ in dataclasses.replace(training, schedule="interleaved", chunks=2.0).runs()][2] == 8.0


def test_the_tree_shows_labels_sizes_and_what_differs_from_the_defaults():
    gemm = Gemm(m=np.array([1.0, 64.0]), n=8.0, k=4.0, weights="int4", label="up")
    work = Seq(gemm, Overlap(A, Repeat(3.0, B)), Mix((0.25, A), (0.75, B)), Slowest(8.0, A, 0.1), label="step")
    assert tree(work) == (
        "step: Seq\n"
        "├─ up: Gemm(m=[1…64], n=8, k=4, weights=int4)\n"
        "├─ Overlap\n"
        "│  ├─ a: Delay(seconds=1)\n"
        "│  └─ Repeat(3)\n"
        "│     └─ b: Delay(seconds=2)\n"
        "├─ Mix(0.25, 0.75)\n"
        "│  ├─ a: Delay(seconds=1)\n"
        "│  └─ b: Delay(seconds=2)\n"
        "└─ Slowest(count=8, spread=0.1)\n"
        "   └─ a: Delay(seconds=1)"
    )
