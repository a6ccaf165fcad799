"""How the keys of few queries are divided among multiprocessors (design §4)."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels import attention
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Attention

sizes = st.tuples(st.integers(1, 300).map(float), st.integers(1, 128).map(float), st.integers(1, 200000).map(float))


def decode(batch: float, heads: float, keys: float, split: str) -> Attention:
    return Attention(batch=batch, heads=heads, kv_heads=heads, q_len=1.0, kv_len=keys, head_dim=128.0, split=split)


def seconds(op: Attention, machine: str = "a100-sxm-80gb") -> float:
    return float(settle(attention.expected(op, find_machine(machine))).time_s)


@given(sizes, st.sampled_from(attention.SPLITS))
def test_no_split_is_below_the_bound(shape: tuple[float, float, float], split: str) -> None:
    op = decode(*shape, split)
    assert seconds(op) >= float(settle(attention.bound(op, find_machine("a100-sxm-80gb"))).time_s) * (1 - 1e-9)


@given(sizes)
def test_even_shares_lose_no_more_than_their_reduction(shape: tuple[float, float, float]) -> None:
    even, fixed = (decode(*shape, split) for split in ("even", "fixed"))
    reduction = find_machine("a100-sxm-80gb").coefficients.attention.split_clocks / 1.41e9
    assert seconds(even) <= seconds(fixed) * 1.001 + 1.1 * reduction


@given(sizes)
def test_long_prompts_are_not_split(shape: tuple[float, float, float]) -> None:
    batch, heads, keys = shape
    op = replace(decode(batch, heads, keys + 4096.0, "fixed"), q_len=4096.0)
    assert seconds(op) == pytest.approx(seconds(replace(op, split="none")))


def test_arrays_give_what_scalars_give() -> None:
    keys = np.array([100.0, 5000.0, 70000.0])
    for split in attention.SPLITS:
        together = settle(attention.expected(decode(3.0, 40.0, 1.0, split), find_machine("a100-sxm-80gb"))).time_s
        assert np.ndim(together) == 0
        swept = settle(
            attention.expected(replace(decode(3.0, 40.0, 1.0, split), kv_len=keys), find_machine("a100-sxm-80gb"))
        ).time_s
        assert swept == pytest.approx([seconds(decode(3.0, 40.0, float(k), split)) for k in keys])


def test_unknown_splits_are_refused() -> None:
    with pytest.raises(RidgepointError, match="unknown split of keys"):
        seconds(decode(1.0, 8.0, 100.0, "half"))


@pytest.mark.parametrize("machine", ["mi210", "versal-vck5000", "rtx-2080ti", "h100-sxm", "epyc-9654"])
@pytest.mark.parametrize("latent", [True, False])
def test_a_longer_context_takes_no_less_where_engines_are_slow(machine: str, latent: bool) -> None:
    """Keys that a slow engine computes longer than it draws them were left to one block, until the draw alone paid a split:
    a decode step of DeepSeek-V2 on an MI210 fell by 40 % from 1,500 tokens of context to 2,048.
    """
    keys = 2.0 ** np.arange(6.0, 17.01, 0.25).round(6)
    op = Attention(batch=1.0, heads=128.0, kv_heads=1.0, q_len=1.0, kv_len=keys, head_dim=128.0, split="fixed")
    if latent:
        op = replace(op, head_dim=576.0, value_dim=512.0, latent=True)
    times = np.asarray(settle(attention.expected(op, find_machine(machine))).time_s)
    assert np.all(times[1:] > 0.97 * np.maximum.accumulate(times)[:-1])
