"""Number formats: what a value really takes, and what it is computed in (design §4)."""

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS, find_format, multiply_format


@pytest.mark.parametrize(
    ("name", "bits"),
    [("bf16", 16), ("fp8", 8), ("mxfp4", 4.25), ("nvfp4", 4.5), ("mxfp8", 8.25), ("int4", 4.125), ("ternary", 1.58),
     ("nf4", 4 + 8 / 64 + 32 / (64 * 256)),
     # bytes of llama.cpp's blocks of 32 and of 256 weights: ggml-common.h
     ("q8_0", 34 * 8 / 32), ("q4_0", 18 * 8 / 32), ("q4_k", 4.5), ("q5_k", 5.5), ("q6_k", 6.5625), ("q2_k", 2.625)],
)  # fmt: skip
def test_stored_bits_count_the_scales(name, bits):
    assert FORMATS[name].bits == bits
    assert FORMATS[name].bytes == bits / 8


@pytest.mark.parametrize(
    ("written", "meant"),
    [("BF16", "bf16"), (" bfloat16 ", "bf16"), ("bf16", "bf16"), ("float8_e4m3fn", "fp8"), ("FP8-block", "fp8_block"),
     ("f16", "fp16"), ("Q4_K_M", "q4_k_m"), ("AWQ", "int4")],
)  # fmt: skip
def test_aliases_and_case(written, meant):
    assert find_format(written).name == meant


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(RidgepointError, match="bf16") as error:
        find_format("bf61")
    assert error.value.kind == "unknown_format"


def test_every_format_can_fall_back_to_wider_arithmetic_and_never_to_narrower():
    """A machine without an arithmetic must never be credited with a narrower, faster one (design §4)."""
    widths = {f.math: min(g.bits for g in FORMATS.values() if g.math == f.math) for f in FORMATS.values()}
    for f in FORMATS.values():
        assert f.math in widths
        assert all(round(widths.get(wider, 99)) >= round(min(f.bits, widths[f.math])) for wider in f.wider), f.name
        assert f.wider or f.name == "fp64"


@pytest.mark.parametrize(
    ("acts", "weights", "computed"),
    [("bf16", "int4", "bf16"), ("fp8", "fp8", "fp8"), ("fp8", "nvfp4", "fp8"), ("int8", "int4", "int8"),
     ("fp32", "bf16", "fp32"), ("bf16", "fp32", "fp32"), ("fp8", "fp8_block", "fp8")],
)  # fmt: skip
def test_products_run_in_the_wider_operand(acts, weights, computed):
    """Weight-only quantization saves bytes, not arithmetic."""
    assert FORMATS[multiply_format(acts, weights)].math == FORMATS[computed].math
