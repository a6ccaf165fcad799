"""Sparse activations: the union over a batch, the predictor's cost, storage's requests (design §6)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.techniques.activation_sparsity import used_neurons


def run(model: str, batch: float, *apply: str, machine: str = "h100-sxm") -> rp.Estimate:
    return rp.estimate(model, on=machine, task=rp.Decode(batch=batch, context=256), apply=apply)


@given(st.floats(0.0, 1.0), st.floats(1.0, 500.0))
def test_a_batch_needs_at_least_what_one_token_needs(active: float, rows: float) -> None:
    assert active - 1e-9 <= used_neurons(active, rows) <= 1.0 + 1e-9


def test_the_gain_vanishes_with_the_batch() -> None:
    def gain(batch: float) -> float:
        apart = run("llama-2-7b", batch, "activation-sparsity:active=0.1")
        return float(run("llama-2-7b", batch).time_s / apart.time_s)

    assert gain(1) > gain(4) > gain(32)
    assert gain(64) < 1.0, "the predictors remain"


def test_a_predictor_costs_time_and_memory() -> None:
    fixed, guessed = (run("llama-2-7b", 1, f"activation-sparsity:predictor={r}") for r in (0, 1024))
    assert guessed.time_s > fixed.time_s
    assert guessed.memory["predictors"] == pytest.approx(2 * 32 * 1024 * (4096 + 11008))


def test_experts_have_no_such_neurons() -> None:
    with pytest.raises(RidgepointError, match="no dense feed-forward"):
        run("mixtral-8x7b", 1, "activation-sparsity")


def test_storage_is_slower_than_memory_and_holds_more() -> None:
    fast, flash = (run("opt-6.7b", 1, *a, machine="rtx-4090") for a in ((), ("neurons-from-storage",)))
    assert flash.time_s > fast.time_s
    assert flash.memory["weights"] < 0.7 * fast.memory["weights"]


def test_fewer_new_neurons_and_bundles_are_read_sooner() -> None:
    def time(options: str) -> float:
        return float(run("opt-6.7b", 1, f"neurons-from-storage:{options}", machine="rtx-4090").time_s)

    assert time("new=0.05") < time("new=0.2")
    assert time("new=0.1,bundle=true") < time("new=0.1,bundle=false")
