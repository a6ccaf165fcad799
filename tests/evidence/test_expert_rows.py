"""Rows of fused expert layers as the work that their library ran (design §8)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.evidence.calibrate import with_values
from ridgepoint.evidence.expert_rows import BUILDERS
from ridgepoint.evidence.rows import Batch, express, with_library
from ridgepoint.evidence.tables import read_table
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Gemm, Stream
from ridgepoint.work import ops
from tests.evidence.tables import text, write

HEADER = (
    *(
        "source",
        "machine",
        "framework",
        "op",
        "dtype",
        "weight_dtype",
        "m",
        "n",
        "k",
        "experts",
        "top_k",
        "extra",
        "time_us",
    ),
)


def batches(folder: Path, *rows: dict[str, Any]) -> list[Batch]:
    usual: dict[str, Any] = {
        "source": "aiconfigurator",
        "machine": "h100-sxm",
        "framework": "sglang",
        "op": "grouped_gemm",
    }
    usual |= {"dtype": "bf16", "weight_dtype": "bf16", "m": 4096, "n": 1024, "k": 4096, "experts": 64, "top_k": 8}
    cells = [[str((usual | {"time_us": 1000.0} | row)[name]) for name in HEADER] for row in rows]
    found = express(read_table(write(folder, text(cells, HEADER))), BUILDERS)
    assert not found.refused
    return found.batches


def triton(ep: int = 1, ver: str = "0.5.14", **cells: Any) -> dict[str, Any]:
    extra = f'{{"kernel": "sglang_fused_moe_triton", "moe_ep": {ep}, "ver": "{ver}", "proj": "moe_ffn"}}'
    return {"extra": extra} | cells


def products(batch: Batch) -> list[Gemm]:
    return [op for op in ops(batch.work) if isinstance(op, Gemm)]


def rows_of(batch: Batch) -> float:
    up = products(batch)[0]
    return float(np.ravel(up.m * up.batch)[0])


def test_blocks_of_other_ranks_experts_write_zeros_in_a_layer_that_knows_its_rank(tmp_path):
    layer, alone = (batches(tmp_path, triton(ep))[0] for ep in (8, 1))
    rows = 4096 * 8
    assert rows_of(layer) == pytest.approx(rows / 8)

    def zeros(batch: Batch) -> float:
        (op,) = [op for op in ops(batch.work) if op.label == "zeros"]
        assert isinstance(op, Stream)
        return float(np.ravel(op.write_bytes)[0])

    assert zeros(layer) == pytest.approx(2.0 * rows * 7 / 8 * (2 * 1024 + 4096))
    assert zeros(alone) == 0.0


@pytest.mark.parametrize(
    "row", [triton(8, "0.5.10"), triton(8, "0.5.9"), triton(2, experts=8, top_k=2), triton(8, k=2816, experts=128)]
)
def test_a_kernel_that_the_collector_called_itself_works_on_other_ranks_choices_too(tmp_path, row):
    # SGLang's collector books them on the rank's first expert: the product has all choices of the tokens that are here
    (batch,) = batches(tmp_path, row)
    top_k = row.get("top_k", 8)
    assert rows_of(batch) == pytest.approx(4096 * top_k, rel=1e-6), (
        "evenly spread tokens all have a choice on this rank"
    )
    vllm = row | {"framework": "vllm"}
    assert rows_of(batches(tmp_path, vllm)[0]) < rows_of(batch)


@pytest.mark.parametrize(
    ("kernel", "cells", "height"),
    [
        ("sglang_marlin_moe", {"m": 4}, 8.0),
        ("sglang_marlin_moe", {"m": 4096}, 64.0),
        ("sglang_fused_moe_triton", {"m": 64}, 16.0),
        ("sglang_fused_moe_triton", {"m": 65}, 64.0),
        ("sglang_flashinfer_trtllm_moe", {"m": 64}, 8.0),
        ("sglang_flashinfer_trtllm_moe", {"m": 100}, 16.0),
        ("sglang_flashinfer_trtllm_moe", {"m": 100000}, 64.0),
        ("moe_torch_flow_cutlass", {"m": 1024, "framework": "trtllm"}, 128.0),
        ("deepgemm", {"m": 8, "framework": "trtllm"}, 128.0),
        ("somebody_elses", {"m": 8}, 0.0),
    ],
)
def test_tiles_are_as_high_as_the_librarys_code_makes_them(tmp_path, kernel, cells, height):
    extra = f'{{"kernel": "{kernel}", "proj": "moe_ffn", "ver": "1.3.0"}}'
    up = products(batches(tmp_path, {"extra": extra} | cells)[0])[0]
    assert float(np.ravel(up.tile_rows)[0]) == height
    # at least as many tiles as rows need, at most one more for every expert
    tiles, rows = float(np.ravel(up.row_tiles)[0]), float(np.ravel(up.m)[0])
    assert height == 0.0 or rows / height <= tiles <= rows / height + 1.0


def test_a_rank_of_many_cuts_its_rows_as_if_all_tokens_stayed(tmp_path):
    # generated kernels round up by tokens · top_k / the rank's experts: sixteen ranks pad to tiles sixteen times as high
    heights = []
    for ep in (1, 8):
        extra = f'{{"kernel": "sglang_flashinfer_trtllm_moe", "proj": "moe_ffn", "moe_ep": {ep}}}'
        (batch,) = batches(tmp_path, {"extra": extra, "m": 64})
        heights.append(float(np.ravel(products(batch)[0].tile_rows)[0]))
    assert heights == [8.0, 64.0]


def test_triton_reads_weights_that_were_widened_when_they_were_loaded(tmp_path):
    (batch,) = batches(tmp_path, triton(dtype="w4a16", weight_dtype="mxfp4"))
    assert {op.weights for op in products(batch)} == {"bf16"}
    marlin = triton(dtype="w4a16", weight_dtype="mxfp4") | {
        "extra": '{"kernel": "sglang_marlin_moe", "proj": "moe_ffn"}'
    }
    assert {op.weights for op in products(batches(tmp_path, marlin)[0])} == {"mxfp4"}


def test_a_library_has_a_fraction_for_each_format_or_one_for_all():
    machine = with_values(find_machine("h100-sxm"), "gemm", {"grouped.triton": 0.4, "grouped.triton-fp8": 0.6})
    reached = [
        with_library(machine, name).coefficients.gemm.grouped["default"] for name in ("triton-fp8", "triton-bf16")
    ]
    assert reached[0] == 0.6
    assert with_library(machine, "triton-int8").coefficients.gemm.grouped["default"] == 0.4
    unknown = with_library(machine, "nobody-fp8").coefficients.gemm
    assert unknown.grouped["default"] == machine.coefficients.gemm.grouped["default"]


def test_a_library_of_scattered_times_has_an_interval_of_its_own():
    # TensorRT-LLM keeps tiles that it timed once: a tenth of H100's rows takes four times what its neighbours do
    machine = find_machine("h100-sxm")
    own = machine.coefficients.gemm.spread
    spread = {name: with_library(machine, name).coefficients.gemm.spread for name in ("cutlass-bf16", "triton-bf16")}
    assert spread["cutlass-bf16"] > 1.15 * own
    assert spread["triton-bf16"] == own


def test_few_rows_wait_for_the_memory_that_the_library_draws():
    few = Gemm(m=1.0, n=4096.0, k=4096.0, batch=64.0, grouped=True)
    many = Gemm(m=8192.0, n=4096.0, k=4096.0, batch=8.0, grouped=True)
    whole = find_machine("h100-sxm")
    half = with_values(whole, "gemm", {"grouped_memory.default": 0.5})
    slower = [float(evaluate(op, half).time_s / evaluate(op, whole).time_s) for op in (few, many)]
    assert slower[0] > 1.7
    assert slower[1] < 1.1
    plain = Gemm(m=1.0, n=4096.0, k=4096.0, batch=64.0)
    assert evaluate(plain, half).time_s == evaluate(plain, whole).time_s
