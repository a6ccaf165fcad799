"""What replicas tell each other: fewer bytes, fewer exchanges, hidden exchanges (design §6)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp

SLOW = "8xrtx-4090@link=5G"


def run(*apply: str, on: str = SLOW, batch: float = 16.0, **plan) -> rp.Estimate:
    task = rp.Train(batch=batch, seq=512)
    return rp.estimate("llama-3.2-1b", on=on, task=task, plan=rp.Plan(**plan), apply=apply)


def exchange(found: rp.Estimate) -> float:
    return sum(float(np.sum(c.time_s)) for c in found.cost.components if c.kind == "collective")


def test_bytes_fall_with_the_bits_and_conversion_costs_a_pass():
    """Dettmers 2016: fp32 gradients in 8 bits are a quarter of the bytes, less two passes over the gradients."""
    wide, narrow = run(overlap_gradients=False), run("gradient-compression:bits=8", overlap_gradients=False)
    assert exchange(wide) / exchange(narrow) == pytest.approx(4.0, rel=0.05)
    passes = [c for c in narrow.cost.components if c.label == "data_parallel.compress"]
    assert passes
    assert not [c for c in wide.cost.components if c.label == "data_parallel.compress"]


def test_where_the_exchange_is_hidden_compression_brings_nothing():
    both = [run(*a, on="8xh100-sxm", batch=512.0, micro_batch=8) for a in (("gradient-compression:bits=8",), ())]
    assert both[0].time_s > 0.99 * both[1].time_s


def test_local_updates_send_less_by_their_period():
    every, seldom = run(overlap_gradients=False), run("local-updates:period=64", overlap_gradients=False)
    assert exchange(every) / exchange(seldom) == pytest.approx(64.0, rel=0.01)
    assert seldom.memory["outer optimizer"] > 0.0


def test_with_no_exchange_to_save_the_step_is_what_one_device_needs():
    alone = rp.estimate("llama-3.2-1b", on="rtx-4090", task=rp.Train(batch=2, seq=512)).time_s
    assert run("local-updates:period=100000").time_s == pytest.approx(alone, rel=0.02)


def test_overlap_takes_the_longer_not_the_sum():
    apart, beside = run(overlap_gradients=False), run("overlap-gradients", overlap_gradients=False)
    assert exchange(apart) < beside.time_s < apart.time_s
