"""Plans and tasks refuse what cannot be, by name and with what can (issue 2, bad input)."""

from typing import Any

import numpy as np
import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.plan import Plan
from ridgepoint.tasks import TASKS, Decode, Prefill


@pytest.mark.parametrize("size", [0, -1, 1.5, np.nan, np.inf, 1e30, "many", None, [], [1, 0]])
@pytest.mark.parametrize("name", ["tp", "pp", "dp", "ep", "cp", "micro_batch"])
def test_degrees_are_whole_positive_and_reasonable(name, size):
    if size is None:
        return  # the default: derived and reported
    with pytest.raises(RidgepointError, match=f"plan.{name}") as error:
        Plan(**{name: size})
    assert error.value.kind == "bad_size"


@pytest.mark.parametrize("size", [0, -1, 1.5, np.nan, np.inf, 1e30, "many", []])
@pytest.mark.parametrize(("task", "name"), [(t, n) for t in TASKS.values() for n in t().sizes()])
def test_sizes_of_tasks_too(task, name, size):
    with pytest.raises(RidgepointError, match=f"{task.name}.{name}"):
        task(**{name: size})


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("weights", "bf61", "did you mean"),
        ("zero_stage", 4, "0, 1, 2 or 3"),
        ("recompute", "some", "none, selective, sqrt, full, planned"),
        ("optimizer", "adamm", "adam"),
        ("schedule", "zigzag", "1f1b"),
        ("memory_fraction", 0.0, "fraction"),
        ("memory_fraction", 1.5, "fraction"),
        ("memory_fraction", np.nan, "fraction"),
        ("expert_imbalance", -1.0, "factor"),
        ("expert_imbalance", 0.5, "factor"),
        ("expert_imbalance", np.nan, "factor"),
    ],
)
def test_every_choice_names_the_valid_ones(field, value, says):
    with pytest.raises(RidgepointError, match=says):
        Plan(**{field: value})


def test_lists_become_arrays_and_formats_their_own_names():
    lists: dict[str, Any] = {"tp": [1, 2, 4], "expert_imbalance": [1, 2, 3]}
    plan = Plan(**lists, weights="Bfloat16")
    assert isinstance(plan.tp, np.ndarray)
    assert isinstance(plan.expert_imbalance, np.ndarray)
    assert plan.weights == "bf16"
    assert isinstance(Decode(batch=np.array([1, 2])).batch, np.ndarray)


def test_given_lists_only_what_differs_from_the_defaults():
    assert Plan().given() == {}
    assert Plan(tp=2, kv="fp8").given() == {"tp": 2.0, "kv": "fp8"}
    assert set(Plan(tp=np.array([1, 2])).given()) == {"tp"}


def test_a_task_knows_the_shape_of_its_sweep():
    assert Prefill(batch=np.array([[1], [2]]), prompt=np.array([8, 16, 32])).shape == (2, 3)
