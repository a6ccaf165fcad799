"""Training few parameters (design §6)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp


def run(
    *apply: str, model: str = "llama-3.1-8b", batch: float = 8.0, seq: float = 2048.0, on: str = "h100-sxm"
) -> rp.Estimate:
    return rp.estimate(model, on=on, task=rp.Train(batch=batch, seq=seq), apply=apply)


def products(found: rp.Estimate) -> float:
    return sum(float(np.sum(f)) for key, f in found.cost.flop.items() if key.startswith("matrix"))


def test_adapters_save_the_weight_gradients():
    """Two of three passes' products remain, and the adapters' own: a thin rank costs almost nothing."""
    assert products(run("lora:rank=1")) / products(run()) == pytest.approx(2 / 3, rel=0.06)


def test_states_grow_with_the_rank():
    small, large = (run(f"lora:rank={r}").memory["optimizer"] for r in (8, 64))
    assert large == pytest.approx(8.0 * small)


def test_narrow_weights_save_memory_and_no_time():
    """Dettmers et al. 2023: every use pays for widening them."""
    wide, narrow = run("lora"), run("qlora")
    assert narrow.memory["weights"] < 0.4 * wide.memory["weights"]
    assert narrow.time_s > 0.98 * wide.time_s


@pytest.mark.parametrize("trained", [0.25, 0.5, 0.75])
def test_frozen_layers_need_no_backward_pass(trained):
    """1 + 2·trained forward passes of three, for layers that are most of the step."""
    share = products(run(f"freeze-layers:trained={trained}")) / products(run())
    assert share == pytest.approx((1 + 2 * trained) / 3, abs=0.06)


def test_zeroth_order_needs_the_memory_of_inference():
    """Malladi et al. 2023: no gradients, no states."""
    entries = run("zeroth-order").memory.entries
    assert not {"gradients", "optimizer"} & set(entries)
    assert products(run("zeroth-order")) / products(run()) == pytest.approx(2 / 3, rel=0.02)


def test_turning_weights_costs_the_same_for_every_batch():
    """OFT multiplies k × k by k × n whatever the tokens; OFTv2's blocks cost with the tokens: at 512 of them it wins by far."""

    def gain(batch: float) -> float:
        old, new = (run(f"orthogonal-tuning:moves={m}", batch=batch, seq=512.0) for m in ("weights", "activations"))
        return float(old.time_s / new.time_s)

    assert gain(1.0) > 3.0
    assert gain(1.0) == pytest.approx(gain(8.0), rel=0.05)  # both in micro-batches of one sequence
    assert products(run("orthogonal-tuning:block=128")) > products(run("orthogonal-tuning:block=16"))


def test_turned_weights_lie_in_memory():
    old, new = (run(f"orthogonal-tuning:moves={m}").memory for m in ("weights", "activations"))
    assert old.total_bytes - new.total_bytes == pytest.approx(old["weights"], rel=0.01)
