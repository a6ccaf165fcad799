"""Experts that lie elsewhere, or in fewer bits (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp

ONE = rp.Decode(batch=1, context=1024)


def run(*apply: str, task: rp.Decode = ONE, on: str = "rtx-4090") -> rp.Estimate:
    return rp.estimate("mixtral-8x7b", on=on, task=task, apply=apply)


def test_what_is_resident_takes_memory_and_no_time_on_the_link():
    away, half, here = (run(f"expert-offload:resident={r}") for r in (0.0, 0.5, 1.0))
    assert away.memory["weights"] < half.memory["weights"] < here.memory["weights"]
    assert here.time_s == pytest.approx(run().time_s, rel=0.02)
    assert away.time_s > half.time_s > here.time_s


def test_a_step_of_one_token_waits_for_its_experts_bytes():
    """Eliseev, Mazur 2023: two experts of 32 layers, 22.5 GB over PCIe 4: nine tenths of a second."""
    assert run("expert-offload:resident=0").time_s == pytest.approx(32 * 2 * 352e6 / 25e9, rel=0.15)


def test_many_tokens_share_what_is_fetched():
    few, many = (run("expert-offload:resident=0", task=rp.Decode(batch=b, context=512)) for b in (1, 64))
    assert many.tokens_per_s > 10.0 * few.tokens_per_s


def test_fetching_ahead_hides_at_most_the_computation():
    before, after = run("expert-offload:resident=0.5"), run("expert-offload:resident=0.5,prefetch=true")
    assert before.time_s - run().time_s <= after.time_s < before.time_s


def test_storage_is_slower_than_host_memory():
    on = "rtx-4090@storage=5G"
    assert run("expert-offload:tier=storage", on=on).time_s > run("expert-offload", on=on).time_s


def test_narrow_experts_are_fetched_in_the_ratio_of_bits():
    wide = run("expert-offload:resident=0").time_s
    narrow = run("expert-quantization:format=int4", "expert-offload:resident=0").time_s
    assert wide / narrow == pytest.approx(16 / 4.125, rel=0.15)


def test_the_processor_needs_no_weights_on_the_link():
    """Kamahori et al. 2024: better than fetching at one token, by the ratio of host memory to the link at most."""
    fetched, computed = run("expert-offload:resident=0.2"), run("experts-on-cpu:resident=0.2")
    assert 1.5 < fetched.time_s / computed.time_s < 8.0
    assert computed.memory["weights"] == pytest.approx(fetched.memory["weights"])
