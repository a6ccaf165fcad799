"""Memory rows: ledgers, eager software, caching allocators."""

from __future__ import annotations

import numpy as np
import pytest

from ridgepoint.cost.allocator import LARGE_BYTES, STEP_BYTES, left_behind
from ridgepoint.evidence.run_rows import predict_runs
from tests.evidence.test_run_rows import train


def eager(**changes):
    row: dict[str, object] = {
        "machine": "a100-sxm-80gb",
        "framework": "pytorch",
        "model": "llama-2-7b",
        "precision": "fp16",
        "mode": "eager",
    }
    row |= {"task": "prefill", "batch": 4, "prompt": 256, "metric": "peak_memory_gb", "extra": {"kind": "allocated"}}
    return row | changes


def test_small_tensors_leave_nothing_behind_and_large_ones_every_size():
    assert left_behind(10.0, LARGE_BYTES) == 0.0
    assert left_behind(1.0, LARGE_BYTES + 1.0) == LARGE_BYTES + STEP_BYTES
    sizes = np.arange(6, 11) * STEP_BYTES
    assert left_behind(1.0, 10 * STEP_BYTES) == pytest.approx(sizes.sum())


ALWAYS = 32 * 2 * 4096 * 128 * 2 + 8_519_680
"""Llama 2's tables of rotations in every layer, and PyTorch's workspace for cuBLAS."""


def test_eager_prefill_keeps_weights_cache_and_logits_twice(table):
    weights, cache, logits = 6.738e9 * 2, 4 * 256 * 32 * 2 * 4096 * 2, 4 * 256 * 32000 * 6
    result = predict_runs(table(eager(), kind="memory"))
    assert result.predicted[0] == pytest.approx((weights + cache + logits + ALWAYS) * 1e-9, rel=1e-4)


def test_a_growing_cache_lives_twice(table):
    weights, cache = 6.738e9 * 2, 4 * 768 * 32 * 2 * 4096 * 2
    result = predict_runs(table(eager(task="generate", output=512), kind="memory"))
    assert result.predicted[0] == pytest.approx((weights + 2 * cache + ALWAYS) * 1e-9, rel=1e-4)


def test_reserved_is_more_and_used_still_more(table):
    rows = [eager(extra={"kind": kind}) for kind in ("allocated", "reserved", "device_used")]
    allocated, reserved, used = predict_runs(table(*rows, kind="memory")).predicted
    assert allocated < reserved < used


def test_fits_is_answered(table):
    small, huge = train(metric="fits"), train(metric="fits", micro_batch=512, model="mpt-30b")
    result = predict_runs(table(small, huge, kind="memory"))
    assert result.predicted.tolist() == [2.0, 1.0]  # yes and no, so that ratios exist


def test_cache_tokens_grow_with_devices_by_what_weights_leave(table):
    row: dict[str, object] = {
        "machine": "a100-sxm-80gb",
        "framework": "distserve",
        "model": "opt-13b",
        "precision": "fp16",
        "task": "serve",
    }
    row |= {"metric": "kv_tokens", "mode": "engine", "pp": 1}
    rows = [row | {"devices": n, "tp": n} for n in (1, 2, 4)]
    one, two, four = predict_runs(table(*rows, kind="memory")).predicted
    assert four - two == pytest.approx(2 * (two - one), rel=0.05)


def test_kernels_of_four_bits_bring_their_buffers(table):
    """AutoGPTQ's buffers for LLaMA 7B by hand: ExLlama v2 unpacks one product and sums 8 × 2,048 rows of its outputs."""
    names = ("fp16+gptq+exllamav1", "fp16+gptq+exllamav2")
    rows = [
        eager(model="llama-7b", precision="w4a16-gptq", extra={"kind": "allocated", "experiment": name})
        for name in names
    ]
    first, second = predict_runs(table(*rows, kind="memory")).predicted
    assert (second - first) * 1e9 == pytest.approx(11008 * 2048 * 8 * 4 - 11008 * 2048 * 2)


def tuning(**changes):
    row = {
        "task": "finetune_step",
        "micro_batch": 1,
        "batch": "",
        "prompt": "",
        "precision": "bf16",
        "kind": "allocated",
    }
    extra = {"method": changes.pop("method", "lora"), "kind": row.pop("kind")}
    return eager(**(row | changes), extra=extra)


def test_fine_tuning_takes_the_length_that_is_stated(table):
    """Without one it is Alpaca's longest example; "qlora" is LoRA beside whatever weights the precision says."""
    rows = [tuning(), tuning(prompt=1304), tuning(prompt=2608), tuning(prompt=1304, method="qlora")]
    usual, same, longer, other_name = predict_runs(table(*rows, kind="memory")).predicted
    assert usual == same == other_name
    assert longer - same == pytest.approx(same - 2e-9 * 6.738e9, rel=0.01)


def test_precisions_that_nobody_described_are_refused(table):
    found = predict_runs(table(tuning(precision="int8-bnb"), kind="memory"))
    assert "beside weights in int8-bnb is not modelled" in found.refused[0]


def served(**changes):
    row = {"machine": "h200-sxm", "framework": "vllm", "model": "llama-3.1-8b", "task": "serve", "precision": "bf16"}
    return row | {"mode": "vllm", "metric": "fits", "concurrency": 8, "prompt": 1000, "output": 1000} | changes


def test_an_engine_takes_its_part_of_the_device_whatever_it_serves(table):
    rows = [served(metric="peak_memory_gb", model=name) for name in ("llama-3.1-8b", "qwen2.5-14b")]
    small, large = predict_runs(table(*rows, kind="memory")).predicted
    assert small == large
    assert 0.85 * 141 < small <= 141


def test_whether_a_served_batch_fits_is_answered(table):
    rows = [served(concurrency=count) for count in (8, 4096)]
    result = predict_runs(table(*rows, kind="memory"))
    assert result.predicted.tolist() == [2.0, 1.0], "yes counts 2, no counts 1"


def test_a_pass_over_whole_sequences_keeps_at_least_its_weights(table):
    rows = [eager(task="forward", batch=count) for count in (1, 16)]
    one, many = predict_runs(table(*rows, kind="memory")).predicted
    assert 13.4 < one < many


def test_a_decode_step_needs_no_output_and_a_generation_does(table):
    step, generation = eager(task="decode"), eager(task="generate")
    result = predict_runs(table(step, generation, kind="memory"))
    assert result.predicted[0] > 13.4
    assert list(result.refused) == [1]
