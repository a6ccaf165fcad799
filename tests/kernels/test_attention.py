"""Attention: exact pair counts, traffic, and the tiled model (design §2, §3, §4)."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.evidence.calibrate import with_values
from ridgepoint.kernels import attention
from ridgepoint.kernels.attention import attended_pairs, read_keys
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Attention

MACHINES = (
    "h100-sxm",
    "a100-sxm-80gb",
    "b200-sxm",
    "l40s",
    "v100-sxm-16gb",
    "mi300x",
    "tpu-v5e",
    "xeon-8480plus",
    "m2-ultra",
)
H100 = find_machine("h100-sxm")

lengths = st.integers(1, 60)
ops = st.builds(
    Attention,
    batch=st.sampled_from([1.0, 3.0, 64.0]),
    heads=st.just(32.0),
    kv_heads=st.sampled_from([1.0, 8.0, 32.0]),
    q_len=st.sampled_from([1.0, 4.0, 100.0, 128.0, 1000.0, 4096.0]),
    kv_len=st.sampled_from([4096.0, 5000.0, 65536.0]),
    head_dim=st.sampled_from([64.0, 128.0, 256.0]),
    causal=st.booleans(),
    window=st.sampled_from([0.0, 0.0, 128.0, 4096.0]),
    chunk=st.sampled_from([0.0, 0.0, 8192.0, 1000.0]),
    backward=st.booleans(),
    kv=st.sampled_from(["bf16", "fp8", "int4"]),
)


def brute_force(q_len: int, kv_len: int, causal: bool, window: int, chunk: int) -> tuple[int, int]:
    """Pairs, and distinct keys that any query sees, from the mask itself."""
    mask = np.zeros((q_len, kv_len), dtype=bool)
    for i in range(q_len):
        p = kv_len - q_len + i
        for key in range(kv_len):
            seen = key <= p if causal else True
            if chunk:
                seen &= key // chunk == p // chunk
            if window and causal:
                seen &= key > p - window
            mask[i, key] = seen
    return int(mask.sum()), int(mask.any(axis=0).sum())


@given(lengths, lengths, st.integers(0, 70), st.integers(0, 40))
def test_causal_pairs_equal_the_mask(q_len: int, history: int, window: int, chunk: int):
    """A wrong closed form would bias every FLOP count of prefill, chunked prefill, windows and Llama 4 chunks."""
    kv_len = q_len + history - 1
    pairs, keys = brute_force(q_len, kv_len, True, window, chunk)
    assert attended_pairs(float(q_len), float(kv_len), True, float(window), float(chunk)) == pairs
    op = Attention(
        batch=1.0, heads=1.0, kv_heads=1.0, q_len=float(q_len), kv_len=float(kv_len), head_dim=64.0,
        window=float(window), chunk=float(chunk),
    )  # fmt: skip
    assert read_keys(op) == keys


@given(lengths, lengths, st.integers(0, 40))
def test_pairs_without_mask_equal_the_mask(q_len: int, history: int, chunk: int):
    kv_len = q_len + history - 1
    pairs, _ = brute_force(q_len, kv_len, False, 0, chunk)
    assert attended_pairs(float(q_len), float(kv_len), False, 0.0, float(chunk)) == pairs


def test_pairs_of_an_array_equal_the_scalars():
    q = np.array([1.0, 5.0, 64.0, 100.0])
    kv = np.array([77.0, 5.0, 100.0, 4096.0])
    window, chunk = np.array([0.0, 3.0, 0.0, 64.0]), np.array([0.0, 0.0, 16.0, 96.0])
    together = attended_pairs(q, kv, True, window, chunk)
    assert np.asarray(together).tolist() == [
        attended_pairs(*row) for row in zip(q, kv, [True] * 4, window, chunk, strict=True)
    ]


def test_llama_3_8b_prefill_by_hand():
    """32 heads, 8 key/value heads of 128, 2048 tokens: pairs 2048 · 2049/2, four bytes per key and head dimension."""
    op = Attention(batch=2.0, heads=32.0, kv_heads=8.0, q_len=2048.0, kv_len=2048.0, head_dim=128.0)
    assert attention.flop(op) == 2 * (2048 * 2049 / 2) * 32 * 256 * 2
    assert attention.read_bytes(op) == 2 * 2048 * 32 * 128 * 2 + 2 * 2048 * 8 * 256 * 2
    assert attention.write_bytes(op) == 2 * 2048 * 32 * 128 * 2


def test_backward_is_five_products_for_two():
    """FlashAttention-2 recomputes the scores: 2.5 times the forward FLOPs, not 2."""
    op = Attention(batch=1.0, heads=8.0, kv_heads=8.0, q_len=512.0, kv_len=512.0, head_dim=64.0)
    assert attention.flop(replace(op, backward=True)) == 2.5 * attention.flop(op)


def test_latent_is_read_once():
    """Absorbed MLA stores 576 values per key for all 128 heads: counting V again would nearly double decode time."""
    op = Attention(
        batch=1.0, heads=128.0, kv_heads=1.0, q_len=1.0, kv_len=1000.0, head_dim=576.0, value_dim=512.0, latent=True
    )
    assert attention.kv_bytes(op) == 1000 * 576 * 2
    assert attention.kv_bytes(replace(op, latent=False)) == 1000 * (576 + 512) * 2


def test_window_limits_what_decode_reads():
    op = Attention(batch=1.0, heads=8.0, kv_heads=8.0, q_len=1.0, kv_len=100_000.0, head_dim=128.0, window=128.0)
    assert attention.kv_bytes(op) == 128 * 8 * 256 * 2


@given(ops, st.sampled_from(MACHINES))
def test_expected_is_never_below_bound(op: Attention, name: str):
    """design §3: an estimate below its physical limit is worthless."""
    machine = find_machine(name)
    assert settle(attention.expected(op, machine)).time_s >= settle(attention.bound(op, machine)).time_s * (1 - 1e-9)


@given(ops)
def test_array_equals_scalar(op: Attention):
    """design §2: a sweep answers what its points answer."""
    q, kv = np.array([1.0, 100.0, op.q_len]), np.array([5000.0, op.kv_len, op.kv_len])
    swept = np.asarray(settle(attention.expected(replace(op, q_len=q, kv_len=kv), H100)).time_s)
    for i in range(3):
        alone = settle(attention.expected(replace(op, q_len=float(q[i]), kv_len=float(kv[i])), H100))
        assert swept[i] == pytest.approx(alone.time_s, rel=1e-12)


@given(ops)
def test_shares_sum_to_the_time(op: Attention):
    timing = settle(attention.expected(op, H100))
    assert sum(timing.critical_s.values()) == pytest.approx(timing.time_s, rel=1e-9)


@given(ops, st.sampled_from(["kv_len", "batch"]))
def test_more_work_is_not_faster(op: Attention, what: str):
    """Double keys or sequences. Splitting keys is in whole pieces, so that a few per cent may come back.

    Chunks are left out with more keys: where the last chunk begins decides what its queries see.
    """
    op = replace(op, chunk=0.0) if what == "kv_len" else op
    more = replace(op, **{what: 2.0 * getattr(op, what)})
    assert settle(attention.expected(more, H100)).time_s >= 0.97 * settle(attention.expected(op, H100)).time_s


def test_narrow_keys_shorten_long_decode():
    """Decode of long contexts is bound by KV bytes: fp8 keys take about half the time, a little more where a kernel turns them
    round first (FlashAttention-3 on Hopper reaches 0.8 of the bandwidth with them)."""
    op = Attention(batch=64.0, heads=32.0, kv_heads=8.0, q_len=1.0, kv_len=16384.0, head_dim=128.0)
    wide, narrow = (settle(attention.expected(replace(op, kv=kv), H100)).time_s for kv in ("bf16", "fp8"))
    assert 0.45 < narrow / wide < 0.65


def test_published_flash_attention_3():
    """FlashAttention-3 (Shah et al. 2024, Fig. 5): 16k tokens, head_dim 128, causal, H100: about 610 TFLOP/s."""
    op = Attention(batch=1.0, heads=16.0, kv_heads=16.0, q_len=16384.0, kv_len=16384.0, head_dim=128.0)
    rate = attention.flop(op) / settle(attention.expected(op, H100)).time_s
    assert 0.75 * 610e12 < rate < 1.25 * 610e12


def test_published_flash_attention_2():
    """FlashAttention-2 (Dao 2023, Fig. 5): 16k tokens, head_dim 128, causal, A100: about 190 TFLOP/s."""
    op = Attention(batch=1.0, heads=16.0, kv_heads=16.0, q_len=16384.0, kv_len=16384.0, head_dim=128.0)
    rate = attention.flop(op) / settle(attention.expected(op, find_machine("a100-sxm-80gb"))).time_s
    assert 0.75 * 190e12 < rate < 1.25 * 190e12


def test_without_matrix_engine_vector_units_compute():
    op = Attention(batch=1.0, heads=8.0, kv_heads=8.0, q_len=256.0, kv_len=256.0, head_dim=64.0)
    demand = attention.expected(op, find_machine("p100-pcie"))
    assert demand.arithmetic is not None
    assert demand.arithmetic[0] == "vector"


def test_vector_units_compute_no_padding():
    """One query of one head on a GPU without tensor cores is a dot product, not 16 rows of a tile."""
    op = Attention(
        batch=64.0, heads=32.0, kv_heads=32.0, q_len=1.0, kv_len=8192.0, head_dim=128.0, acts="fp32", kv="fp32"
    )
    timing = settle(attention.expected(op, find_machine("p100-pcie")))
    assert timing.critical_s["hbm"] > 0.9 * timing.time_s


DECODE = {"a100-sxm-80gb": "sglang", "h100-sxm": "trtllm", "b200-sxm": "trtllm", "l40s": "trtllm"}


@pytest.mark.parametrize("name", DECODE)
def test_measured_decode(name: str, shared: Path):
    """Median error of 16-bit decode kernels with keys beyond the last-level cache (design §11, with a margin).

    Fallback kernels for more than 16 heads per key/value head are no model's subject.
    """
    machine = find_machine(name)
    assert machine.cache is not None
    errors = []
    with gzip.open(shared / "measurements" / "kernels.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            about = (row["op"], row["machine"], row["framework"], row["kv_dtype"])
            if about != ("attention", name, DECODE[name], "bf16") or row["source"] != "aiconfigurator":
                continue
            if json.loads(row["extra"])["phase"] != "decode" or float(row["heads"]) > 16 * float(row["kv_heads"]):
                continue
            fields = ("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim", "window")
            sizes: dict[str, Any] = {f: float(row[f] or 0.0) for f in fields}
            op = Attention(**sizes, paged=True)
            if attention.kv_bytes(op) > machine.cache[1]:
                errors.append(float(settle(attention.expected(op, machine)).time_s) / float(row["time_us"]) * 1e6 - 1.0)
    assert len(errors) > 15
    assert np.median(np.abs(errors)) < 0.15


def test_long_attention_meets_the_power_limit_like_products_do() -> None:
    """Design §4: one device, one limit. L40S prefill ran 1.4 times slower than its engine's efficiency elsewhere says."""
    prefill = Attention(batch=8.0, heads=32.0, kv_heads=8.0, q_len=8192.0, kv_len=8192.0, head_dim=128.0)
    limited = find_machine("l40s")
    free = with_values(limited, "gemm", {"joule_per_flop.fp16": 1e-15})
    ratio = settle(attention.expected(prefill, limited)).time_s / settle(attention.expected(prefill, free)).time_s
    assert 1.05 < ratio < 1.6


def test_queries_with_keys_of_their_own_go_through_the_cache_one_set_at_a_time() -> None:
    """As many rows as a tile, or all of them, change nothing; one query at a time reads its keys for its own heads alone."""
    machine = find_machine("h100-sxm")
    dense = Attention(batch=1.0, heads=32.0, kv_heads=2.0, q_len=65536.0, kv_len=4096.0, head_dim=128.0, causal=False)

    def timing(rows: float) -> Any:
        return settle(attention.expected(replace(dense, rows=rows), machine))

    assert timing(65536.0).time_s == timing(0.0).time_s
    alone = timing(1.0)
    assert machine.cache is not None
    name, _, bytes_per_s = machine.cache
    by_hand = 65536 * 2 * 4096 * 2 * 128 * 2 / bytes_per_s  # tokens, key heads, keys, K and V, bytes
    assert float(alone.busy_s[name]) == pytest.approx(by_hand, rel=0.01)
    assert timing(8.0).time_s == pytest.approx(timing(0.0).time_s, rel=0.1), "16 heads of 8 queries fill a tile"
    assert alone.time_s > timing(8.0).time_s


DECODE_STEP = Attention(batch=2.0, heads=32.0, kv_heads=2.0, q_len=1.0, kv_len=16384.0, head_dim=128.0)


def took(op: Attention, machine: str = "h100-sxm") -> float:
    return float(settle(attention.expected(op, find_machine(machine))).time_s)


def test_heads_in_blocks_of_their_own_draw_the_keys_again() -> None:
    """Old kernels: sixteen heads that share keys take up to sixteen times the keys of a packed block, from the cache."""
    whole = replace(DECODE_STEP, batch=512.0, kv_len=1024.0)
    assert took(replace(whole, packed=16.0)) == pytest.approx(took(whole))
    alone = took(replace(whole, packed=1.0), "rtx-a6000")
    assert 2.0 < alone / took(whole, "rtx-a6000") <= 17.0


def test_few_parts_leave_multiprocessors_idle() -> None:
    """One part is no split; eight are one for each multiprocessor at most."""
    assert took(replace(DECODE_STEP, parts=1.0)) == pytest.approx(took(replace(DECODE_STEP, split="none")))
    assert took(replace(DECODE_STEP, parts=1.0)) > took(replace(DECODE_STEP, parts=8.0)) > took(DECODE_STEP)
    assert took(replace(DECODE_STEP, parts=64.0)) == took(DECODE_STEP)


def test_packed_and_parts_take_arrays() -> None:
    """design §2: a sweep answers what its points answer."""
    limits = np.array([0.0, 1.0, 8.0])
    packed = settle(attention.expected(replace(DECODE_STEP, packed=limits), H100)).time_s
    assert packed == pytest.approx([took(replace(DECODE_STEP, packed=float(limit))) for limit in limits])
    parts = settle(attention.expected(replace(DECODE_STEP, parts=limits), H100)).time_s
    assert parts == pytest.approx([took(replace(DECODE_STEP, parts=float(limit))) for limit in limits])


def test_splits_fill_the_machine() -> None:
    """72 blocks on 108 multiprocessors: three splits each make two whole waves; one split would leave a third idle."""
    op = Attention(batch=9.0, heads=8.0, kv_heads=8.0, q_len=1.0, kv_len=65536.0, head_dim=128.0)
    assert took(op, "a100-sxm-80gb") < 0.8 * took(replace(op, split="none"), "a100-sxm-80gb")


@pytest.mark.parametrize("name", ["h100-sxm", "a100-sxm-80gb", "b200-sxm", "l40s"])
def test_one_more_sequence_is_never_faster(name: str) -> None:
    """Keys are split only where that pays, so that no batch size is slower than a larger one."""
    batch = np.arange(1.0, 300.0)
    for kv_heads in (1.0, 8.0, 32.0):
        for keys in (100.0, 1000.0, 8192.0):
            op = replace(DECODE_STEP, batch=batch, kv_heads=kv_heads, kv_len=keys)
            times = np.asarray(settle(attention.expected(op, find_machine(name))).time_s)
            assert np.all(times[1:] >= 0.995 * times[:-1])


def test_a_lone_prompt_on_blackwell_waits_for_two_tiles_in_turns() -> None:
    """FlashAttention-4: one block works on two tiles of queries, so that few heads leave more multiprocessors idle."""
    machine = find_machine("b200-sxm")
    lone = Attention(batch=1.0, heads=1.0, kv_heads=1.0, q_len=8192.0, kv_len=8192.0, head_dim=128.0)
    many = replace(lone, heads=256.0, kv_heads=256.0)
    busy = {op: settle(attention.expected(op, machine)).busy_s["matrix"] for op in (lone, many)}
    waiting = busy[lone] / (busy[many] / 256.0)
    # A quarter of slack: what is busy everywhere meets the power limit.
    assert waiting == pytest.approx(2.0 * machine.multiprocessors * 256.0 / 8192.0, rel=0.25)


def test_start_and_ends_are_clocks() -> None:
    """Latencies inside a kernel are the chip's clocks, so that a slower chip of the same design starts later."""
    tiny = Attention(batch=1.0, heads=1.0, kv_heads=1.0, q_len=1.0, kv_len=1.0, head_dim=128.0)
    machine = find_machine("l40s")
    table = machine.coefficients.attention
    starts = settle(attention.expected(tiny, machine)).busy_s["wave"]
    assert starts == pytest.approx(table.start_clocks / machine.device.chip.clock)


def test_a_block_of_a_step_pays_for_its_rows_of_the_output() -> None:
    """Of a thousand short sequences, those with more heads that share keys wait longer for the ends of their blocks."""
    op = replace(DECODE_STEP, batch=4096.0, kv_heads=1.0, heads=np.array([1.0, 8.0, 16.0, 32.0]), kv_len=64.0)
    times = np.asarray(settle(attention.expected(op, find_machine("h100-sxm"))).time_s)
    assert times[0] == pytest.approx(times[1], rel=0.05)  # in eights
    assert np.all(np.diff(times[1:]) > 0.0)


def test_short_contexts_on_blackwell_read_whole_copies() -> None:
    """One copy brings 128 keys: below that, fewer keys save nothing of a step that waits for memory."""
    op = replace(
        DECODE_STEP, batch=8192.0, kv_heads=1.0, heads=1.0, head_dim=256.0, kv_len=np.array([16.0, 128.0, 256.0])
    )
    times = np.asarray(settle(attention.expected(op, find_machine("b200-sxm"))).time_s)
    assert times[0] == pytest.approx(times[1], rel=0.05)
    assert times[2] > 1.5 * times[1]


def test_blocks_of_all_heads_first_read_their_keys_again() -> None:
    """Where keys of all heads exceed the cache, the next block of a head finds its own gone; else order is nothing."""
    machine = find_machine("l40s")
    long = Attention(batch=16.0, heads=24.0, kv_heads=24.0, q_len=6144.0, kv_len=6144.0, head_dim=64.0, causal=False)
    short = replace(long, batch=1.0)

    def again(op: Attention) -> float:
        first, usual = (
            settle(attention.expected(replace(op, heads_first=order), machine)).time_s for order in (True, False)
        )
        return float(first / usual)

    assert again(long) > 1.5
    assert again(short) == pytest.approx(1.0, rel=0.01)


def test_a_prompt_may_be_shorter_than_a_step() -> None:
    """Blocks of a prompt's kernel hold a whole tile, so that many prompts of one token wait longer than as many steps."""
    op = Attention(batch=4096.0, heads=8.0, kv_heads=8.0, q_len=1.0, kv_len=1.0, head_dim=64.0)
    prompt, step = (took(replace(op, prompt=prompt), "b200-sxm") for prompt in (True, False))
    assert prompt > step
