"""Rows of attention kernels as works: what each library runs, by its code (design §8; docs/accuracy.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ridgepoint.evidence.rows import Batch, express
from ridgepoint.evidence.tables import read_table
from ridgepoint.evidence.validation import BUILDERS
from ridgepoint.ops import Attention, Gemm, Stream
from ridgepoint.work import Op, ops
from tests.evidence.tables import text, write

HEADER = (
    *("source", "machine", "framework", "op", "dtype", "kv_dtype", "batch", "heads", "kv_heads", "head_dim"),
    *("q_len", "kv_len", "causal", "extra", "time_us"),
)
USUAL = {
    "source": "aiconfigurator",
    "machine": "h100-sxm",
    "framework": "sglang",
    "op": "attention",
    "dtype": "bf16",
    "kv_dtype": "bf16",
    "batch": "4",
    "heads": "32",
    "kv_heads": "8",
    "head_dim": "128",
    "q_len": "1",
    "kv_len": "4096",
    "causal": "1",
    "time_us": "50",
}


def batch_of(folder: Path, phase: str, kernel: str, **cells: str) -> Batch:
    """The one row of a table as a batch; no ``kernel``: a source that names none."""
    named = f', "kernel": "{kernel}"' if kernel else ""
    row = USUAL | cells | {"extra": f'{{"phase": "{phase}"{named}}}'}
    path = write(folder, text([[row[name] for name in HEADER]], HEADER))
    found = express(read_table(path), BUILDERS)
    assert not found.refused
    return found.batches[0]


def ops_of(folder: Path, phase: str, kernel: str, **cells: str) -> list[Op]:
    return list(ops(batch_of(folder, phase, kernel, **cells).work))


def attention_of(folder: Path, phase: str, kernel: str, **cells: str) -> Attention:
    return next(op for op in ops_of(folder, phase, kernel, **cells) if isinstance(op, Attention))


PROMPT = {"q_len": "2048", "kv_len": "2048"}
MLA = {"op": "mla_attention", "kv_heads": "32", "head_dim": "192"} | PROMPT
LATENT = {"op": "mla_attention", "kv_heads": "1", "head_dim": "576"}


def test_a_layer_runs_more_than_the_kernel_and_a_profile_does_not(tmp_path: Path) -> None:
    """A start fitted to layers without this would take their launches for its own."""
    timed = ops_of(tmp_path, "decode", "fa3")
    assert [type(op) for op in timed] == [Stream, Attention]
    assert [type(op) for op in ops_of(tmp_path, "prefill", "", source="mine", **PROMPT)] == [Attention]


def test_eight_bits_add_conversions_but_where_the_write_converts(tmp_path: Path) -> None:
    def launches(kernel: str, **cells: str) -> float:
        stream = ops_of(tmp_path, "decode", kernel, **cells)[0]
        assert isinstance(stream, Stream)
        return float(np.max(stream.launches))

    assert launches("fa3", kv_dtype="fp8") > launches("fa3")
    vllm = {"framework": "vllm", "machine": "h100-sxm"}
    assert launches("vllm_flash_attn_fa3", kv_dtype="fp8", **vllm) == launches("vllm_flash_attn_fa3", **vllm)


def test_products_have_the_format_that_the_library_multiplies(tmp_path: Path) -> None:
    """FlashAttention-3 converts queries to the cache's 8 bits; FlashInfer widens keys to the queries' 16."""
    narrow = {"kv_dtype": "fp8"}
    assert attention_of(tmp_path, "decode", "fa3", **narrow).acts == "fp8"
    assert attention_of(tmp_path, "decode", "flashinfer", machine="l40s", **narrow).acts == "bf16"


@pytest.mark.parametrize(
    ("kernel", "machine", "latent"),
    [("flash_attention", "h100-sxm", True), ("triton", "l40s", True), ("trtllm_mla", "b200-sxm", False)],
)
def test_prompts_of_mla_run_on_the_latent_where_the_backend_keeps_it(
    tmp_path: Path, kernel: str, machine: str, latent: bool
) -> None:
    """Three times the products: with expanded keys such rows were predicted at 0.6 of their time."""
    op = attention_of(tmp_path, "prefill", kernel, machine=machine, **MLA)
    assert op.latent is latent
    assert op.head_dim == (576.0 if latent else 192.0)
    assert op.value_dim == (512.0 if latent else 128.0)


def test_an_eight_bit_latent_cache_is_widened_first(tmp_path: Path) -> None:
    """The whole cache, read in 8 and written in 16 bits, before the kernel that then reads 16."""
    stream, op = ops_of(tmp_path, "decode", "flash_attention", kv_dtype="fp8", **LATENT)
    assert isinstance(stream, Stream)
    assert isinstance(op, Attention)
    assert op.kv == "bf16"
    assert stream.read_bytes == 4 * 4096 * 576
    assert stream.write_bytes == 2 * stream.read_bytes


def test_keys_are_split_as_the_library_splits_them(tmp_path: Path) -> None:
    """TensorRT-LLM leaves 8-bit keys and latents whole before Hopper, Triton splits into eight at most."""
    own = {"framework": "trtllm", "machine": "l40s"}
    assert attention_of(tmp_path, "decode", "torch_flow", **own).split == "fixed"
    assert attention_of(tmp_path, "decode", "torch_flow", kv_dtype="fp8", **own).split == "none"
    assert attention_of(tmp_path, "decode", "default", **own | LATENT).split == "none"
    assert attention_of(tmp_path, "decode", "default", **own | LATENT | {"machine": "h100-sxm"}).split == "fixed"
    assert attention_of(tmp_path, "decode", "triton").parts == 8.0
    assert attention_of(tmp_path, "decode", "fa3").parts == 0.0


def test_kernels_for_prompts_pack_heads_only_where_they_do(tmp_path: Path) -> None:
    def heads(kernel: str, **cells: str) -> float:
        return float(attention_of(tmp_path, "prefill", kernel, **PROMPT | cells).packed)

    assert heads("fa3") == heads("vllm_flash_attn_fa3", framework="vllm") == 0.0
    assert heads("torch_flow", framework="trtllm") == 1.0


def test_paged_attention_of_2023_gives_every_head_a_block_of_its_own(tmp_path: Path) -> None:
    found = batch_of(tmp_path, "decode", "", source="llmservingsim-v0", machine="rtx-a6000", framework="vllm")
    assert found.condition.library == "paged_2023"
    assert isinstance(found.work, Attention)
    assert (found.work.split, found.work.packed) == ("none", 1.0)


def test_heads_without_a_fused_kernel_are_products_and_a_softmax(tmp_path: Path) -> None:
    own = {"framework": "trtllm", "machine": "b200-sxm", "kv_heads": "32", "causal": "0"} | PROMPT
    unfused = ops_of(tmp_path, "encoder", "torch_flow", head_dim="72", **own)
    assert [type(op) for op in unfused] == [Gemm, Stream, Gemm]
    assert Attention in [type(op) for op in ops_of(tmp_path, "encoder", "torch_flow", head_dim="80", **own)]


def test_tritons_prompts_go_through_what_a_window_hides_in_tiles_of_powers_of_two(tmp_path: Path) -> None:
    """SGLang's kernel masks keys outside the window but visits them; its tiles follow head size and shared memory."""
    op = attention_of(tmp_path, "prefill", "triton", machine="l40s", **PROMPT | {"head_dim": "72"})
    assert (float(np.max(op.head_dim)), float(np.max(op.tile)), op.heads_first) == (128.0, 64.0, True)
    assert np.all(np.asarray(op.window) == 0.0)
    hopper = attention_of(tmp_path, "prefill", "triton", **PROMPT)
    assert float(np.max(hopper.tile)) == 128.0


def test_kernels_for_prompts_are_told_from_those_for_steps(tmp_path: Path) -> None:
    """A prompt of one token runs the kernel for prompts."""
    assert attention_of(tmp_path, "prefill", "fa3", q_len="1", kv_len="1").prompt
    assert not attention_of(tmp_path, "decode", "fa3").prompt


def test_a_library_may_have_an_interval_of_its_own(tmp_path: Path) -> None:
    """One fraction stands for all shapes of a Triton kernel: its rows scatter more, and the interval says so."""
    own, triton = (
        batch_of(tmp_path, "decode", kernel, machine="b200-sxm").machine.coefficients.attention.spread
        for kernel in ("trtllm_mha", "triton")
    )
    assert triton > 1.5 * own
