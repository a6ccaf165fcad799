"""Recurrent passes: counts per variant, chunked against recurrent, dependent steps (design §3, §4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels import scan
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Scan

MACHINES = ("h100-sxm", "a100-sxm-80gb", "b200-sxm", "l40s", "mi300x", "tpu-v5e", "xeon-8480plus", "m2-ultra")
H100 = find_machine("h100-sxm")

ops = st.builds(
    Scan,
    batch=st.sampled_from([1.0, 5.0, 128.0]),
    seq=st.sampled_from([1.0, 2.0, 64.0, 1000.0, 32768.0]),
    heads=st.sampled_from([1.0, 64.0]),
    head_dim=st.sampled_from([1.0, 64.0, 128.0]),
    state_dim=st.sampled_from([1.0, 16.0, 128.0]),
    chunk=st.sampled_from([64.0, 256.0]),
    variant=st.sampled_from(scan.VARIANTS),
    backward=st.booleans(),
)


@given(ops, st.sampled_from(MACHINES))
def test_expected_is_never_below_bound(op: Scan, name: str):
    machine = find_machine(name)
    assert settle(scan.expected(op, machine)).time_s >= settle(scan.bound(op, machine)).time_s


@given(ops)
def test_array_equals_scalar(op: Scan):
    batch, seq = np.array([1.0, op.batch, 7.0]), np.array([1.0, op.seq, 4096.0])
    swept = np.asarray(settle(scan.expected(replace(op, batch=batch, seq=seq), H100)).time_s)
    for i in range(3):
        alone = replace(op, batch=float(batch[i]), seq=float(seq[i]))
        assert swept[i] == pytest.approx(settle(scan.expected(alone, H100)).time_s, rel=1e-12)


@given(ops, st.sampled_from(["batch", "heads"]))
def test_more_work_is_not_faster(op: Scan, what: str):
    more = replace(op, **{what: 2.0 * getattr(op, what)})
    assert settle(scan.expected(more, H100)).time_s >= settle(scan.expected(op, H100)).time_s


def brute_force_mamba2(seq: int, chunk: int, P: int, N: int, heads: int, groups: int) -> float:
    """Multiply-adds of the state-space dual form, counted token by token."""
    count = 0.0
    for t in range(seq):
        inside = t % chunk + 1
        count += inside * (N * groups + P * heads) + 2 * P * N * heads
    return 2.0 * count + 2.0 * (seq / chunk) * P * N * heads


@given(st.integers(1, 6), st.sampled_from([4, 16]), st.sampled_from([1, 8]))
def test_mamba2_counts_equal_a_loop_over_tokens(chunks: int, chunk: int, heads: int):
    op = Scan(
        batch=1.0, seq=float(chunks * chunk), heads=float(heads), head_dim=8.0, state_dim=16.0, chunk=float(chunk)
    )
    assert scan.flop(op) == pytest.approx(brute_force_mamba2(chunks * chunk, chunk, 8, 16, heads, 1))


@pytest.mark.parametrize("variant", ["mamba2", "linear", "gated_delta"])
def test_one_token_costs_three_products_with_the_state(variant: str):
    """Decode: update, read and (delta rule) correct the state; chunk length must not matter any more."""
    op = Scan(batch=1.0, seq=1.0, heads=1.0, head_dim=512.0, state_dim=512.0, chunk=64.0, variant=variant)
    assert scan.flop(op) == pytest.approx(6.0 * 512 * 512, rel=0.02)
    assert scan.flop(op) == scan.flop(replace(op, chunk=256.0))


def test_mamba1_by_the_paper():
    """Gu and Dao 2023: 9 operations per token, channel and state value."""
    op = Scan(batch=2.0, seq=100.0, heads=1536.0, head_dim=1.0, state_dim=16.0, variant="mamba1")
    assert scan.flop(op) == 2 * 100 * 9 * 1536 * 16


def test_decode_moves_the_state_twice():
    """Mamba-2 2.7B, a layer: 80 heads of 64 × 128 in fp32, read and written."""
    op = Scan(batch=32.0, seq=1.0, heads=80.0, head_dim=64.0, state_dim=128.0)
    state = 32 * 80 * 64 * 128 * 4
    assert scan.state_bytes(op) == state
    assert 2 * state < scan.read_bytes(op) + scan.write_bytes(op) < 2.01 * state


def test_decode_does_not_depend_on_context():
    """What sets recurrent layers apart from attention: nothing in the op grows with the tokens seen so far."""
    timing = settle(scan.expected(Scan(batch=256.0, seq=1.0, heads=80.0, head_dim=64.0, state_dim=128.0), H100))
    assert max(timing.critical_s, key=lambda r: timing.critical_s[r]) == "hbm"


def test_long_sequences_of_one_head_wait_for_the_chain():
    """One sequence, one head: chunks follow each other and no engine is busy."""
    timing = settle(scan.expected(Scan(batch=1.0, seq=65536.0, heads=1.0, head_dim=64.0, state_dim=64.0), H100))
    assert timing.critical_s["wave"] > 0.9 * timing.time_s


def test_rnn_steps_follow_each_other():
    """An LSTM of 1024 units (4 gates) takes its recurrent product token after token."""
    op = Scan(batch=1.0, seq=1000.0, heads=1.0, head_dim=1024.0, state_dim=4.0, variant="rnn")
    assert scan.flop(op) == 1000 * (2 * 1024 * 4096 + 8 * 4096)
    assert settle(scan.expected(op, H100)).time_s > 999 * H100.coefficients.scan.step_s


def test_many_sequences_step_as_fast_as_ordinary_products():
    """A step of 4,096 sequences is a product of states and recurrent weights: it reaches what such products reach, not the few
    per cent of chunked kernels.
    """
    op = Scan(batch=4096.0, seq=64.0, heads=1.0, head_dim=2048.0, state_dim=4.0, variant="rnn", acts="fp32")
    at_peak = scan.flop(op) / H100.arithmetic("fp32").flop_per_s
    assert at_peak < settle(scan.expected(op, H100)).time_s < 2.0 * at_peak


def test_unknown_variant_is_refused():
    with pytest.raises(RidgepointError, match="unknown scan variant 'hyena'"):
        scan.flop(Scan(batch=1.0, seq=1.0, heads=1.0, head_dim=1.0, state_dim=1.0, variant="hyena"))


def test_a_decay_for_every_channel_costs_more_than_one_for_a_head() -> None:
    """KDA scales keys and queries by channel: more passes between its kernels, hardly more arithmetic."""
    sizes: dict[str, Any] = {
        "batch": 8.0,
        "seq": 4096.0,
        "heads": 32.0,
        "head_dim": 128.0,
        "state_dim": 128.0,
        "groups": 32.0,
        "chunk": 64.0,
    }
    head, channel = (Scan(**sizes, variant=v) for v in ("gated_delta", "kda"))
    assert scan.staged_bytes(channel) > 1.3 * scan.staged_bytes(head)
    assert scan.flop(channel) < 1.1 * scan.flop(head)
    machine = find_machine("h100-sxm")
    assert settle(scan.expected(channel, machine)).time_s > settle(scan.expected(head, machine)).time_s


def test_recurrences_of_single_channels_by_their_papers() -> None:
    """Peng et al. 2023 (WKV, stable form) and De et al. 2024 (RG-LRU): neither depends on how long the sequence is."""
    for variant, state, count in (("wkv", 3.0, 19.0), ("lru", 1.0, 7.0)):
        op = Scan(batch=2.0, seq=100.0, heads=640.0, head_dim=1.0, state_dim=state, variant=variant)
        assert scan.flop(op) == 2 * 100 * 640 * count
        assert scan.state_bytes(op) == 2 * 640 * state * 4
        assert scan.flop_per_token(replace(op, seq=1.0)) == scan.flop_per_token(op)


def test_without_states_only_inputs_and_outputs_move() -> None:
    """Training's forward pass begins with no state and leaves none: a short one moves a fraction of the bytes."""
    op = Scan(batch=64.0, seq=4.0, heads=64.0, head_dim=128.0, state_dim=128.0, groups=16.0, variant="gated_delta")
    moved = scan.read_bytes(op) + scan.write_bytes(op)
    bare = replace(op, stateless=True)
    assert moved - scan.read_bytes(bare) - scan.write_bytes(bare) == 2.0 * scan.state_bytes(op)
    assert scan.flop(bare) == scan.flop(op)
