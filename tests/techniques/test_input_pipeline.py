"""The slowest stage of the input sets the pace (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError


def rate(settings: str, machine: str = "a100-sxm-80gb") -> float:
    return float(
        rp.estimate(
            "resnet50", on=machine, task=rp.Train(batch=256), apply=[f"input-pipeline:{settings}"]
        ).samples_per_s
    )


PLAIN = rp.estimate("resnet50", on="a100-sxm-80gb", task=rp.Train(batch=256)).samples_per_s


def test_a_fast_input_changes_nothing_and_a_slow_one_rules():
    """8 workers at 20 ms are 400 samples a second, whatever the device could do."""
    assert rate("prepare=1e-5,stored=1000") == pytest.approx(PLAIN, rel=0.02)
    assert rate("prepare=20e-3") == pytest.approx(400.0, rel=0.02)


def test_without_overlap_the_stages_add_up():
    beside, behind = rate("prepare=2e-3"), rate("prepare=2e-3,overlap=false")
    assert behind < beside
    assert 1.0 / behind > 1.0 / PLAIN + 2e-3 / 8.0


def test_large_stored_samples_wait_for_storage_unless_they_are_cached():
    """What high-energy simulations write: megabytes per sample."""
    cold, warm = (rate(f"stored=1e7,prepare=1e-4,cached={part}") for part in (0.0, 1.0))
    assert warm > 5.0 * cold


def test_token_generation_has_no_input_pipeline():
    with pytest.raises(RidgepointError, match="train"):
        rp.estimate("llama-2-7b", on="h100-sxm", task="decode", apply=["input-pipeline"])
