"""Nonlinear recurrences over the whole sequence (DEER, ParaRNN) and step by step (design §6)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.techniques.recurrences import levels

PARALLEL, LOOP = "parallel-recurrence", "parallel-recurrence:how=stepwise"


def run(*apply: str, model: str = "lstm-ptb-medium", batch: float = 1, tokens: float = 512) -> rp.Estimate:
    task = rp.Forward(batch=batch, inputs={"tokens": float(tokens)})
    return rp.estimate(model, on="h100-sxm", task=task, apply=apply)


def test_the_gain_grows_with_the_length():
    """T dependent steps become log T levels: a short sequence must gain little, a long one much."""
    short, long = (run(tokens=n).time_s / run(PARALLEL, tokens=n).time_s for n in (16, 8192))
    assert long > 3.0 * short


def test_a_loop_of_the_library_is_slower_than_one_kernel_and_grows_with_steps():
    """A kernel per step and part costs launches that one kernel does not have."""
    one, two = run(LOOP, tokens=512).time_s, run(LOOP, tokens=1024).time_s
    assert one > run(tokens=512).time_s
    assert two / one == pytest.approx(2.0, rel=0.1)


def test_dense_jacobians_cost_the_cube_of_the_width():
    """DEER pays for small cells; 650 channels must be far slower dense than diagonal, and need memory for every matrix."""
    dense, diagonal = run(f"{PARALLEL}:jacobian=dense"), run(PARALLEL)
    assert dense.time_s > 5.0 * diagonal.time_s
    assert dense.memory["activations"] > 10.0 * diagonal.memory["activations"]


def test_iterations_add_up():
    times = [run(f"{PARALLEL}:iterations={k}").time_s for k in (1, 2, 3)]
    assert times[2] - times[1] == pytest.approx(times[1] - times[0], rel=0.05)


def test_models_without_a_recurrence_are_refused():
    with pytest.raises(rp.RidgepointError, match="no nonlinear recurrence"):
        rp.estimate("resnet50", on="h100-sxm", task=rp.Forward(batch=1), apply=[PARALLEL])


def test_levels_of_a_tree():
    np.testing.assert_allclose(levels(np.array([1.0, 2.0, 1000.0, 1024.0])), [0.0, 2.0, 20.0, 20.0])
