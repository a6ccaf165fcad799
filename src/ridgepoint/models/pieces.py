"""Small works that every layer is made of: projections, norms, pointwise passes, the sums over tensor-parallel ranks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.execution import Execution
from ridgepoint.numeric import Num
from ridgepoint.ops import Collective, Gemm, Stream
from ridgepoint.work import Seq, Work


def projection(run: Execution, component: str, label: str, rows: Num, n: Num, k: Num, batch: Num = 1.0) -> Work:
    """``rows`` × k times k × n; narrow inputs are quantized on the way in where the weights are narrow too, by a kernel of
    its own unless the one before does it.
    """
    inputs = run.formats.gemm_inputs(component)
    gemm = Gemm(
        m=rows,
        n=n,
        k=k,
        batch=batch,
        acts=inputs,
        weights=run.formats.weight(component),
        out=run.formats.stream,
        label=label,
    )
    if FORMATS[inputs].bits >= FORMATS[run.formats.stream].bits or quantized_before(run, label):
        return gemm
    return Seq(quantize(run, f"{label}.quantize", rows * k * batch, inputs), gemm)


_AFTER_ELEMENTWISE = (".qkv", ".gate_up", ".up", ".feed.down", ".shared.down")
"""Ends of the labels of products that read what a norm or a nonlinearity just wrote."""


def quantized_before(run: Execution, label: str) -> bool:
    """Whether the elementwise kernel in front of a product writes its output in the narrow format already: inference
    engines fuse that; training keeps both forms, and attention hands on its own format.
    """
    return run.fused_elementwise and not run.training and label.endswith(_AFTER_ELEMENTWISE)


def is_one(degree: Num) -> bool:
    """Whether a parallel degree is 1 at every point, so that its collectives need not be built."""
    return degree == 1.0 if isinstance(degree, float) else bool(np.all(np.asarray(degree) == 1.0))


def quantize(run: Execution, label: str, values: Num, to: str) -> Stream:
    """Values from the stream's format to a narrower one, scales computed on the way."""
    return Stream(
        read_bytes=values * FORMATS[run.formats.stream].bytes,
        write_bytes=values * FORMATS[to].bytes,
        flop=4.0 * values,
        pattern="quantize",
        label=label,
    )


def _composed_norm(run: Execution, label: str, values: Num) -> Stream:
    """RMS norm as library code writes it (Transformers' ``LlamaRMSNorm``, LitGPT's ``RMSNorm``): in 32 bits a power, its
    mean, a product with the root's reciprocal, then a product with the weights in the stream's format; conversions between
    them. For the backward pass stay the 32-bit input and the normalized values.
    """
    width = FORMATS[run.formats.stream].bytes
    converted = width < 4.0
    return Stream(
        read_bytes=values * (12.0 + width + (width + 4.0 if converted else 0.0)),
        write_bytes=values * (8.0 + width + (width + 4.0 if converted else 0.0)),
        flop=4.0 * values,
        launches=8.0 if converted else 6.0,
        saved_bytes=values * (4.0 + width),
        bare=True,
        label=label,
    )


def norm(run: Execution, label: str, rows: Num, width: Num, residual: bool = True, rms: bool = False) -> Work:
    """RMSNorm or LayerNorm of ``rows`` rows; ``residual``: the preceding residual addition is fused into it.

    Unfused, the addition is a kernel of its own; and an RMS norm (``rms``) eight, or six in 32 bits.
    """
    if rms and not run.fused_norms:
        composed = _composed_norm(run, label, rows * width)
        return Seq(pointwise(run, f"{label}.residual", rows * width, reads=2.0), composed) if residual else composed
    size = rows * width * FORMATS[run.formats.stream].bytes
    fused = residual and run.fused_elementwise
    inner = Stream(
        read_bytes=2.0 * size if fused else size,
        write_bytes=2.0 * size if fused else size,
        flop=(5.0 if fused else 4.0) * rows * width,
        special=rows,
        pattern="norm",
        rows=rows,
        saved_bytes=size,
        label=label,
    )
    if not residual or fused:
        return inner
    return Seq(pointwise(run, f"{label}.residual", rows * width, reads=2.0), inner)


def pointwise(
    run: Execution,
    label: str,
    values: Num,
    reads: Num = 1.0,
    writes: Num = 1.0,
    flop: Num = 1.0,
    special: Num = 0.0,
    launches: Num = 1.0,
) -> Stream:
    """An elementwise pass: per output value ``reads`` values read, ``writes`` written, ``flop`` and ``special`` done."""
    width = FORMATS[run.formats.stream].bytes
    return Stream(
        read_bytes=reads * values * width,
        write_bytes=writes * values * width,
        flop=flop * values,
        special=special * values,
        launches=launches,
        label=label,
    )


COMPOSED: dict[str, tuple[float, float]] = {"gelu_new": (10.0, 8.0), "gelu_fast": (12.0, 9.0), "quick_gelu": (4.0, 3.0)}
"""Values read and written per value by nonlinearities that Transformers composes of elementary operations, each of which is
a kernel in eager code (``transformers/activations.py``: ``gelu_new`` is a power, three products, two sums, a tanh, a half)."""


def activation(run: Execution, label: str, values: Num, gated: bool, composed: str = "") -> Stream:
    """The nonlinearity between the projections: gated ones read two inputs per output (SwiGLU), others one (GELU).

    ``composed``: in eager code a kernel for each operation of a formula.
    """
    if composed and not run.fused_elementwise:
        reads, writes = COMPOSED[composed] if not gated else np.add(COMPOSED[composed], (2.0, 1.0))
        op = pointwise(run, label, values, reads=reads, writes=writes, flop=writes, special=1.0, launches=writes)
        return replace(op, saved_bytes=4.0 * values * FORMATS[run.formats.stream].bytes, bare=True)
    kernels = 1.0 if run.fused_elementwise or not gated else 2.0
    reads = 2.0 if gated else 1.0
    op = pointwise(run, label, values, reads=reads, flop=6.0, special=1.0, launches=kernels)
    engine = gated and run.fused_elementwise and not run.training
    # A gate in two kernels keeps what goes from one to the other, too.
    kept = op.read_bytes + (kernels - 1.0) * op.write_bytes
    return replace(op, saved_bytes=kept, pattern="gate" if engine else op.pattern)


def sum_over_ranks(run: Execution, label: str, rows: Num, width: Num) -> Work:
    """The all-reduce after a row-parallel projection; nothing happens where tp is 1."""
    size = rows * width * FORMATS[run.formats.stream].bytes
    tp = run.cut.tp
    if is_one(tp):
        return Seq()
    if not run.cut.sequence:
        return Collective(operation="all_reduce", bytes=size, ranks=tp, algorithm=run.all_reduce, label=label)
    return Seq(
        Collective(operation="reduce_scatter", bytes=size, ranks=tp, label=label),
        Collective(operation="all_gather", bytes=size, ranks=tp, label=label),
    )
