"""Automatic mixed precision of eager rows (design §8): what runs in 32 bits, and which conversions it costs."""

from typing import Any

import pytest

from ridgepoint.evidence.autocast import autocast
from ridgepoint.numeric import Num
from ridgepoint.ops import Conv, Gemm, Stream
from ridgepoint.work import Op

NORM = Stream(read_bytes=2e6, write_bytes=2e6, pattern="layer_norm", rows=1e3, label="block.norm")
ADD = Stream(read_bytes=4e6, write_bytes=2e6, label="block.add")
LINEAR = Gemm(m=4096.0, n=512.0, k=256.0, acts="fp16", weights="fp16", out="fp16", label="block.linear")
IMAGE: dict[str, Any] = {"batch": 8.0, "c_in": 64.0, "c_out": 32.0, "h": 14.0, "w": 14.0, "kh": 3.0, "kw": 3.0}


def moved(ops: list[tuple[Op, Num]]) -> float:
    return sum(float(op.read_bytes + op.write_bytes) for op, _ in ops if isinstance(op, Stream))


def test_a_norm_runs_in_32_bits_and_is_converted_for_the_next_product() -> None:
    # 4 + 4 bytes for each of 1e6 values in the norm, 4 + 2 in the conversion
    assert moved(autocast([(NORM, 1.0)])) == pytest.approx(14e6)


def test_a_residual_stream_is_wide_only_between_norms_over_channels() -> None:
    alone, between = autocast([(ADD, 1.0)]), autocast([(NORM, 1.0), (ADD, 1.0)])
    assert moved(alone) == 6e6
    assert moved(between) - moved(autocast([(NORM, 1.0)])) == pytest.approx(10e6), "4 + 2 bytes read, 4 written"


def test_weights_are_cast_once_per_pass_and_products_without_weights_are_not() -> None:
    assert moved(autocast([(LINEAR, 1.0)])) == 6.0 * 512 * 256
    scores = Gemm(m=64.0, n=64.0, k=32.0, batch=96.0, label="attention.scores")
    assert autocast([(scores, 1.0)]) == [(scores, 1.0)]
    forward = Conv(**IMAGE, acts="fp16", weights="fp16")
    assert moved(autocast([(forward, 1.0)])) == 6.0 * 64 * 32 * 9


def test_counts_stay_with_their_ops() -> None:
    assert {count for _, count in autocast([(NORM, 12.0)])} == {12.0}


def test_a_learnt_factor_of_one_dimension_widens_what_it_multiplies() -> None:
    # 2 read and 4 written, 4 and 4, and the conversion back for the next convolution: 20 bytes a value instead of 8
    factor, summand = (
        Stream(read_bytes=2e6, write_bytes=2e6, label=f"conv.affine_{name}") for name in ("scale", "shift")
    )
    assert moved([(factor, 1.0), (summand, 1.0)]) == 8e6
    assert moved(autocast([(factor, 1.0), (summand, 1.0)])) == 20e6
