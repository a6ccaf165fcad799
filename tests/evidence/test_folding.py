"""What inference engines fold into convolutions, and what they cannot (design §8)."""

from ridgepoint.evidence.folding import folded
from ridgepoint.ops import Conv, Gemm, Stream
from ridgepoint.work import Counted

CONV = Conv(batch=1.0, c_in=32.0, c_out=32.0, h=56.0, w=56.0, kh=3.0, kw=3.0, pad_h=1.0, pad_w=1.0)
VALUES = 32.0 * 56.0 * 56.0
BYTES = 2.0 * VALUES  # fp16


def norm(flop: float, branches: float = 1.0) -> Stream:
    """A batch norm of ``flop`` operations a value, activation and sums with other branches included."""
    return Stream(
        read_bytes=branches * BYTES, write_bytes=BYTES, flop=flop * VALUES, pattern="batch_norm", label="c_norm"
    )


def test_a_norm_and_a_simple_activation_are_part_of_the_convolution() -> None:
    assert folded([(CONV, 1.0), (norm(3.0), 1.0)], "fp16") == [(CONV, 1.0)]
    act = Stream(read_bytes=BYTES, write_bytes=BYTES, flop=VALUES, pattern="elementwise", label="stem_act")
    assert folded([(CONV, 1.0), (act, 1.0)], "fp16") == [(CONV, 1.0)]


def test_a_sum_with_another_branch_stays_as_a_pass_of_its_own() -> None:
    ((_, _), (left, count)) = folded([(CONV, 1.0), (norm(4.0, branches=2.0), 3.0)], "fp16")
    assert isinstance(left, Stream)
    assert (left.pattern, left.read_bytes, left.flop, count) == ("elementwise", 2.0 * BYTES, 2.0 * VALUES, 3.0)


def test_an_activation_that_is_not_simple_stays() -> None:
    ((_, _), (left, _)) = folded([(CONV, 1.0), (norm(6.0), 1.0)], "fp16")
    assert isinstance(left, Stream)
    assert left.flop == 4.0 * VALUES


def test_norms_that_no_convolution_precedes_and_other_passes_stay() -> None:
    pool = Stream(read_bytes=4.0 * BYTES, write_bytes=BYTES, pattern="elementwise", label="pool")
    product = Gemm(m=1.0, n=1000.0, k=512.0)
    ops: list[Counted] = [(pool, 1.0), (norm(3.0), 1.0), (product, 1.0), (norm(3.0), 1.0)]
    assert folded(ops, "fp16") == ops


def test_an_activation_behind_a_product_is_its_epilogue_unless_it_gates_another() -> None:
    product = Gemm(m=128.0, n=3072.0, k=768.0)
    gelu = Stream(read_bytes=BYTES, write_bytes=BYTES, flop=3.0 * VALUES, label="layers.feed.activation")
    gated = Stream(read_bytes=2.0 * BYTES, write_bytes=BYTES, flop=3.0 * VALUES, label="layers.feed.activation")
    assert folded([(product, 12.0), (gelu, 12.0)], "fp16") == [(product, 12.0)]
    assert folded([(product, 12.0), (gated, 12.0)], "fp16") == [(product, 12.0), (gated, 12.0)]
