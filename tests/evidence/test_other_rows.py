"""Rows of memory-bound kernels whose functions other tables name otherwise: predicted by what they read and write."""

from __future__ import annotations

from pathlib import Path

import pytest

from ridgepoint.evidence.other_rows import BUILDERS
from ridgepoint.evidence.rows import express
from ridgepoint.evidence.tables import read_table
from ridgepoint.ops import Stream
from tests.evidence.tables import text, write

HEADER = ("machine", "op", "dtype", "weight_dtype", "m", "n", "extra", "time_us")


def stream(folder: Path, op: str, name: str = "", dtype: str = "fp16", weights: str = "") -> Stream:
    """What one row of 256 rows of 1,024 values becomes."""
    extra = f'{{"name": "{name}"}}' if name else ""
    row = ["mi300x", op, dtype, weights, "256", "1024", extra, "50"]
    found = express(read_table(write(folder, text([row], HEADER))), BUILDERS)
    assert not found.refused
    work = found.batches[0].work
    assert isinstance(work, Stream)
    return work


@pytest.mark.parametrize(
    ("op", "name", "reads", "pattern"),
    [
        ("elementwise", "", 1, "elementwise"),
        ("elementwise", "some_custom_kernel", 1, "elementwise"),
        ("elementwise", "silu_and_mul", 2, "gate"),
        ("elementwise", "SwiGLU", 2, "gate"),
        ("elementwise", "residual_add", 2, "elementwise"),
        ("elementwise", "rotary_embedding", 1, "rope"),
        ("elementwise", "rms_norm", 1, "norm"),
        ("copy", "", 1, "copy"),
        ("copy", "d2d", 1, "copy"),
        ("copy", "token_embedding", 1, "gather"),
    ],
)
def test_a_function_is_known_by_parts_of_its_name(
    tmp_path: Path, op: str, name: str, reads: float, pattern: str
) -> None:
    """An unnamed pass over a tensor was refused, and a plain copy timed as a lookup of rows: six times its bandwidth bound."""
    work = stream(tmp_path, op, name)
    assert work.read_bytes == pytest.approx(reads * 2.0 * 256 * 1024)
    assert work.pattern == pattern


@pytest.mark.parametrize(
    ("dtype", "weights", "written"), [("fp8", "", 1.0), ("bf16", "", 1.0), ("bf16", "nvfp4", 0.5625)]
)
def test_an_unnamed_quantization_reads_16_bits_and_writes_what_is_stated(
    tmp_path: Path, dtype: str, weights: str, written: float
) -> None:
    work = stream(tmp_path, "quantize", dtype=dtype, weights=weights)
    assert work.read_bytes == pytest.approx(2.0 * 256 * 1024)
    assert work.write_bytes == pytest.approx(written * 256 * 1024)
