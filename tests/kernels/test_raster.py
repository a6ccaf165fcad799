"""Strips of tiles and libraries of products: what is read again, who splits k (design §4)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels import gemm
from ridgepoint.kernels.demand import settle
from ridgepoint.kernels.libraries import LIBRARIES, library
from ridgepoint.kernels.raster import reloads
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Gemm

counts = st.integers(1, 12)


def seconds(op: Gemm, name: str) -> float:
    return float(settle(gemm.expected(op, find_machine(name))).time_s)


@given(counts, counts, st.integers(1, 8), st.booleans())
def test_without_a_cache_every_wave_reads_the_strips_of_its_tiles(
    first: int, second: int, part: int, wide: bool
) -> None:
    # an independent count over the tiles in their order, where waves fill whole rows or parts of one
    first, second = first * part, second * part
    wave = first * part if wide else first
    order = np.arange(first * second).reshape(-1, wave)
    swept = sum(len(set(tiles % first)) for tiles in order) / first
    across = sum(len(set(tiles // first)) for tiles in order) / second
    left, right = reloads("rows", (first, second), (1e9, 1e9), float(wave), 0.0)
    assert float(left) == pytest.approx(swept - 1.0)
    assert float(right) == pytest.approx(across - 1.0)


def test_a_cache_that_holds_both_operands_reads_them_once() -> None:
    assert [float(x) for x in reloads("longer", (64, 256), (1e6, 4e6), 108.0, 5e7)] == [0.0, 0.0]


def test_large_products_in_strips_wait_for_the_memory() -> None:
    # CUTLASS 2's default order: each byte of a strip serves 2 · 128 operations of fp8, whatever the engine could do
    large = Gemm(m=32768.0, n=65536.0, k=51200.0, acts="fp8", weights="fp8", out="bf16")
    flop, machine = gemm.flop(large), find_machine("l40s")
    strips = flop / seconds(replace(large, library="cutlass_2"), "l40s")
    blocks = flop / seconds(large, "l40s")
    assert strips < 256.0 * machine.memory_bytes_per_s
    assert blocks > 1.4 * strips


def test_an_order_of_tiles_does_not_matter_where_operands_fit_the_cache() -> None:
    small = Gemm(m=2048.0, n=2048.0, k=2048.0, acts="fp8", weights="fp8")
    one = replace(small, library="cutlass")
    assert seconds(one, "h100-sxm") == pytest.approx(seconds(small, "h100-sxm"), rel=0.1)


@pytest.mark.parametrize(("rows", "splits"), [(4.0, True), (5.0, False)])
def test_kernels_for_few_rows_share_k_among_warps(rows: float, splits: bool) -> None:
    # SmoothQuant's kernel for up to four rows: without a split one block goes through 16,384 of k alone
    deep = Gemm(m=rows, n=128.0, k=16384.0, acts="int8", weights="int8", library="smooth_quant")
    alone = replace(deep, library="weight_only")
    assert (seconds(deep, "a100-sxm-80gb") < 0.8 * seconds(alone, "a100-sxm-80gb")) == splits


def test_rows_of_both_kinds_in_one_array_are_those_of_each() -> None:
    op = Gemm(
        m=np.array([1.0, 4.0, 5.0, 64.0]), n=128.0, k=16384.0, acts="int8", weights="int8", library="smooth_quant"
    )
    together = settle(gemm.expected(op, find_machine("a100-sxm-80gb"))).time_s
    alone = [seconds(replace(op, m=float(m)), "a100-sxm-80gb") for m in np.asarray(op.m)]
    assert together == pytest.approx(alone)


@given(st.sampled_from([name for name in LIBRARIES if name]), st.sampled_from(["h100-sxm", "l40s", "a100-sxm-80gb"]))
def test_no_library_beats_the_best_of_the_menu(name: str, machine: str) -> None:
    op = Gemm(m=np.array([1.0, 100.0, 9000.0]), n=5000.0, k=7000.0, acts="int8", weights="int8")
    best: Any = settle(gemm.expected(op, find_machine(machine))).time_s
    own: Any = settle(gemm.expected(replace(op, library=name), find_machine(machine))).time_s
    assert (own >= best * (1.0 - 1e-9)).all()


def test_an_unknown_library_is_said() -> None:
    with pytest.raises(RidgepointError, match="no library of matrix products") as error:
        library("cutlas")
    assert "cutlass" in error.value.hint


def test_batches_in_32_bits_take_no_less_per_product() -> None:
    # their kernels neither split k nor write whole rows
    single = Gemm(m=64.0, n=64.0, k=4096.0, acts="fp32", weights="fp32", out="fp32")
    assert seconds(replace(single, batch=2.0), "a100-pcie-40gb") > seconds(single, "a100-pcie-40gb")
