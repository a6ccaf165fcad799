"""The space of training layouts is the whole one, and nothing in it is impossible (issue: exhaustive search)."""

from itertools import product

import numpy as np
import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.build import build
from ridgepoint.training.space import sweeps

SMALL = find_machine("2x8xh100-sxm")


def rows(model, batch=32, seq=4096, machine=SMALL, **fixed):
    found = []
    for sweep in sweeps(find_model(model), machine, batch, seq, fixed):
        found += [
            (sweep.schedule, sweep.sequence_parallel, *point)
            for point in zip(*(values.tolist() for values in sweep.axes.values()), strict=True)
        ]
    return found


def test_every_factorization_of_the_devices_is_there_once():
    """By brute force over all degrees up to the device count."""
    one = {"schedule": "1f1b", "sequence_parallel": True, "zero_stage": 1, "recompute": "none", "micro_batch": 1}
    found = rows("llama-3.1-8b", **one, rank_order="tp-cp-dp-pp")
    copies = [row[4] * row[5] for row in found]
    found = [row for row, many in zip(found, copies, strict=True) if row[-1] == many]  # all copies share states
    degrees = {row[2:6] for row in found}
    assert len(found) == len(degrees)
    expected = {
        (float(tp), float(pp), float(cp), float(dp))
        for tp, pp, cp, dp in product((1, 2, 4, 8, 16), repeat=4)
        if tp * pp * cp * dp == 16 and (dp > 1 or cp > 1)
    }
    assert {d for d in degrees if d[0] * d[1] < 16} == {d for d in expected if d[0] * d[1] < 16}


@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-30b-a3b", "t5-large"])
def test_layouts_use_all_devices_and_divide_the_batch(model):
    for sweep in sweeps(find_model(model), SMALL, 48, 4096):
        axes = sweep.axes
        assert np.all(axes["tp"] * axes["pp"] * axes["cp"] * axes["dp"] == 16)
        here = 48 / axes["dp"]
        assert np.all(here == np.floor(here))
        assert np.all(here % axes["micro_batch"] == 0)
        if sweep.schedule == "interleaved":
            assert np.all((here / axes["micro_batch"]) % axes["pp"] == 0)


def test_a_sweep_of_layouts_can_be_built():
    """An impossible layout would be refused by the builder."""
    for sweep in sweeps(find_model("qwen3-30b-a3b"), SMALL, 16, 1024):
        some = np.unique(np.linspace(0, sweep.size - 1, 200).astype(int))
        build(find_model("qwen3-30b-a3b"), SMALL, Train(batch=16, seq=1024), Plan(**sweep.plan(some)))


@pytest.mark.parametrize(
    ("fixed", "says"),
    [
        ({"tp": 3}, "nearest: 1, 2, 4"),
        ({"pp": 5}, "nearest"),
        ({"cp": 7}, "nearest"),
        ({"dp": 32}, "--dp 4 or 8 or 16"),
    ],
)
def test_impossible_degrees_name_the_nearest_ones(fixed, says):
    with pytest.raises(RidgepointError) as error:
        sweeps(find_model("llama-3.1-8b"), SMALL, 32, 4096, fixed)
    assert says in str(error.value)


def test_what_is_fixed_stays_fixed():
    fixed = {"tp": 2, "pp": 4, "zero_stage": 1, "micro_batch": 2, "schedule": "interleaved", "chunks": 4}
    for sweep in sweeps(find_model("llama-3.1-8b"), SMALL, 32, 4096, fixed):
        plan = sweep.plan(0)
        assert {name: plan[name] for name in fixed} == fixed
    selective = sweeps(find_model("llama-3.1-8b"), SMALL, 32, 4096, {"recompute": "selective"})
    assert {sweep.recompute for sweep in selective} == {"selective"}
