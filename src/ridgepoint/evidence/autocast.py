"""PyTorch's automatic mixed precision as rows of image models ran it: what eager autocast adds to 16-bit work.

Weights are kept in 32 bits and cast once per pass; norms and softmaxes run in 32 bits, so that what products hand to them
and take from them is converted by kernels of its own; residual streams between norms over channels stay in 32 bits
(PyTorch documentation, "Automatic Mixed Precision package", lists of ops). Compilers fuse the conversions away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ridgepoint.numeric import Num
from ridgepoint.ops import Conv, Gemm, Stream
from ridgepoint.work import Counted, Op


def autocast(ops: list[Counted]) -> list[Counted]:
    """The ops of an eager pass in 16 bits as autocast runs them."""
    wide = any(isinstance(op, Stream) and op.pattern == "layer_norm" for op, _ in ops)
    return [(cast, count) for op, count in ops for cast in _cast(op, wide)]


def _cast(op: Op, wide: bool) -> Iterator[Op]:
    """One op and the conversions around it; ``wide``: the residual stream has 32 bits."""
    if isinstance(op, Stream):
        yield from _stream(op, wide)
        return
    yield op
    if isinstance(op, Gemm) and op.label.endswith(".grad_weight"):  # the bias's gradient: the sum over all rows
        yield Stream(read_bytes=2.0 * op.k * op.n, write_bytes=4.0 * op.n, label="bias gradient")
    if isinstance(op, Conv) and op.direction != "bwd_data":
        yield _pass(op.c_out * (op.c_in / op.groups) * op.kh * op.kw, op.direction == "fwd")
    elif isinstance(op, Gemm) and not op.label.endswith(_FREE):
        yield _pass(op.m * op.n if op.label.endswith(".grad_weight") else op.k * op.n, ".grad" not in op.label)


_FREE = (".scores", ".values", "matmul", ".grad_input")
"""Products without weights that a pass casts."""


_FACTORS, _SUMMANDS = ("affine_scale", "star_factor"), ("affine_shift", "star_offset")
"""One learnt number for all values: a parameter of 32 bits with a dimension, which widens what it multiplies (type promotion);
the next product converts back."""


def _pass(values: Num, narrow: bool) -> Stream:
    """A conversion to 16 bits, or from them."""
    read, write = (4.0, 2.0) if narrow else (2.0, 4.0)
    return Stream(read_bytes=read * values, write_bytes=write * values, label="cast")


def _stream(op: Stream, wide: bool) -> Iterator[Op]:
    doubled = replace(op, read_bytes=2.0 * op.read_bytes, write_bytes=2.0 * op.write_bytes)
    values = op.write_bytes / 2.0
    if op.pattern == "layer_norm":
        yield from (doubled, _pass(values, narrow=True))
        if op.label.endswith(".grad"):  # scale and shift have a kernel of their own that reads gradient and input again
            yield replace(op, read_bytes=8.0 * values, write_bytes=0.0 * values)
    elif op.pattern == "softmax":
        yield from (_pass(values, narrow=False), doubled, _pass(values, narrow=True))
    elif op.label.endswith(_FACTORS):
        yield replace(op, write_bytes=2.0 * op.write_bytes)
    elif op.label.endswith(_SUMMANDS):
        yield from (doubled, _pass(values, narrow=True))
    elif wide and op.pattern == "elementwise" and op.label.endswith(("add", "add.grad")):
        # a 16-bit branch joins a 32-bit stream: 4 + 2 bytes read, 4 written for each value
        yield replace(op, read_bytes=1.5 * op.read_bytes, write_bytes=2.0 * op.write_bytes)
    elif wide and op.pattern == "permute":
        # windows are cut from what a norm wrote, and put back from what a product wrote
        yield replace(op, read_bytes=1.5 * op.read_bytes, write_bytes=1.5 * op.write_bytes)
    else:
        yield op
