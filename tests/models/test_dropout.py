"""Dropout's masks in time and memory of training (Korthikanti et al. 2022, equations 1, 2 and 4)."""

from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.tasks import Train
from tests.models.parts import built, components

S, H, A, L = 1024, 1600, 25, 48


def activations(**plan: Any) -> float:
    """Of gpt2-xl, one sequence."""
    return float(built("gpt2-xl", Train(batch=1, seq=S), dropout=0.1, **plan).ledger["activations"])


def test_activations_are_the_published_formulas():
    """sbh(34 + 5as/h) per layer; (10 + 24/t + 5as/ht) with tensor, (34/t + 5as/ht) with sequence parallelism."""
    unfused: dict[str, Any] = {"fused_attention": False}
    assert activations(**unfused) == pytest.approx(S * H * L * (34 + 5 * A * S / H))
    tensor = S * H * L * (10 + 24 / 5 + 5 * A * S / (H * 5))
    assert activations(**unfused, tp=5, sequence_parallel=False) == pytest.approx(tensor)
    sequence = S * H * L * (34 + 5 * A * S / H) / 5
    assert activations(**unfused, tp=5, sequence_parallel=True) == pytest.approx(sequence)
    assert activations(**unfused, recompute="selective") == pytest.approx(S * H * L * 34)


def test_masks_are_written_and_read_beside_what_elementwise_code_moves():
    found = components(built("gpt2-xl", Train(batch=1, seq=S), dropout=0.1).device)
    assert found["layers.feed.down_dropout"].bytes == L * S * H
    eager = components(built("gpt2-xl", Train(batch=1, seq=S), dropout=0.1, compiled=False).device)
    assert eager["layers.feed.down_dropout"].bytes == L * S * H * (2 + 2 + 1)


def test_only_training_draws_masks_and_it_takes_longer():
    """Off by default; eager code pays a pass for each mask."""

    def step(**plan: Any) -> float:
        task, on = rp.Train(batch=64, seq=1024), "8xa100-sxm-80gb"
        return float(rp.estimate("gpt2-xl", on=on, task=task, plan=rp.Plan(**plan)).time_s)

    assert step() == step(dropout=0.0)
    assert 1.0 < step(dropout=0.1) / step() < step(dropout=0.1, compiled=False) / step(compiled=False) < 1.2
    assert np.isclose(step(dropout=0.1), step(dropout=0.5))


def test_a_probability_is_asked_for():
    with pytest.raises(rp.RidgepointError, match="probability"):
        rp.Plan(dropout=1.5)
