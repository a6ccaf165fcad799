"""Degrees that fit nothing are refused with what does not divide and the nearest values that would (design §10)."""

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.training.planner import plan_train
from ridgepoint.training.space import sweeps

DENSE, EXPERTS, MACHINE = find_model("llama-3.1-8b"), find_model("qwen3-30b-a3b"), find_machine("2x8xh100-sxm")


@pytest.mark.parametrize(
    ("model", "batch", "given", "says", "offers"),
    [
        (DENSE, 64, {"tp": 3}, "heads", "2, 4"),
        (DENSE, 64, {"pp": 40}, "32 layers", "16"),
        (DENSE, 64, {"cp": 3}, "sequence", "2, 4"),
        (DENSE, 64, {"dp": 7}, "16 devices", "--dp 2 or 4 or 8"),
        (DENSE, 64, {"tp": 8, "dp": 4}, "tp 8 × dp 4 = 32", "--dp 1 or 2"),
        (DENSE, 64, {"tp": 4, "pp": 2, "cp": 1, "dp": 4}, "= 32 is not the 16", "--tp 2"),
        (DENSE, 63, {"dp": 8}, "batch of 63", "--global-batch 56 or 64"),
        (DENSE, 63, {"tp": 2, "pp": 1, "cp": 1}, "8 replicas", "--global-batch 56 or 64"),
        (DENSE, 64, {"dp": 4, "micro_batch": 64}, "16 sequences", "8, 16"),
        (DENSE, 64, {"pp": 4, "schedule": "interleaved", "chunks": 7}, "8 layers of a stage", "4, 8"),
        (
            DENSE,
            64,
            {"schedule": "interleaved", "chunks": 5},
            "5 chunks do not divide the 2 or 4 or 8 or 16 layers",
            "4, 8",
        ),
        (DENSE, 64, {"rank_order": "tp-pp-dp", "cp": 2}, "no room for context parallelism", "--cp 1"),
        (DENSE, 64, {"ep": 2}, "experts", "1"),
        (EXPERTS, 64, {"ep": 7}, "128 experts", "4, 8"),
        (EXPERTS, 64, {"ep": 64}, "16 devices", "16"),
    ],
)
def test_refusals_say_what_does_not_divide_and_what_would(model, batch, given, says, offers):
    with pytest.raises(RidgepointError) as error:
        sweeps(model, MACHINE, batch, 8192, given)
    assert error.value.kind == "bad_plan"
    assert says in error.value.message
    assert offers in error.value.hint


@pytest.mark.parametrize(
    "given", [{"dp": 8, "tp": 2}, {"tp": 4, "pp": 2, "cp": 1, "dp": 2}, {"dp": 1, "micro_batch": 9}]
)
def test_what_is_offered_is_accepted(given):
    """The batch that a refusal names has layouts."""
    batch = 63 if "micro_batch" in given else 64
    assert sum(one.size for one in sweeps(DENSE, MACHINE, batch, 8192, given)) > 0


def test_a_sequence_of_an_odd_length_has_layouts():
    """Only context parallelism needs to halve it."""
    assert {float(one.axes["cp"].max()) for one in sweeps(DENSE, MACHINE, 64, 8193)} == {1.0}


def test_memory_without_its_unit_is_refused_as_that():
    with pytest.raises(RidgepointError) as error:
        plan_train("gpt2", on="a100-sxm-80gb", batch=8, seq=1024, max_memory=70.0)
    assert "unit" in error.value.hint


def test_chunks_are_of_interleaved_stages():
    """Given alone they would be dropped in silence by every other schedule."""
    found = plan_train("llama-3.2-1b", on="8xh100-sxm", batch=64, seq=2048, chunks=4, top=3)
    assert {(layout.plan.schedule, layout.plan.chunks) for layout in found.layouts} == {("interleaved", 4.0)}
