"""Dropout in training: masks drawn, kept and read again (Megatron-era models: 0.1 after attention's softmax and both outputs).

Source: Korthikanti et al. 2022 (one byte per mask value).
"""

from __future__ import annotations

from ridgepoint.formats import FORMATS
from ridgepoint.models.execution import Execution
from ridgepoint.numeric import Num
from ridgepoint.ops import Gemm, Stream
from ridgepoint.work import Op, Seq, Work, mapped

DRAWN_FLOP = 12.0
"""Integer operations of a mask value: a quarter of ten rounds of Philox, a comparison, a scale."""
_OUTPUTS = (".attention.output", ".cross.output", ".feed.down")


def with_dropout(work: Work, run: Execution) -> Work:
    """The forward pass of a layer with dropout after each output and after the softmax of unfused attention. Where elementwise
    chains are fused, a mask is all that is added to the outputs; fused attention draws its mask again from the seed.

    >>> from ridgepoint.models.execution import Formats
    >>> run = Execution(Formats((("default", "bf16"),)), training=True)
    >>> op = Gemm(m=4.0, n=8.0, k=16.0, label="l.attention.output")
    >>> _, mask = with_dropout(Seq(op), run).parts[0].parts
    >>> mask.write_bytes, mask.saved_bytes
    (32.0, 32.0)
    """
    width = FORMATS[run.formats.stream].bytes
    shard = run.cut.tp if run.cut.sequence else 1.0

    def rule(op: Op) -> Work:
        if isinstance(op, Gemm) and not op.grouped and op.label.endswith(_OUTPUTS):
            return Seq(op, _mask(op.m * op.n * op.batch / shard, width, op.label, run.fused_elementwise))
        if isinstance(op, Stream) and op.label.endswith(".attention.softmax"):
            return Seq(op, _mask(op.saved_bytes / width, width, op.label, False))
        return op

    return mapped(work, rule)


def _mask(values: Num, width: float, label: str, fused: bool) -> Stream:
    moved = 0.0 if fused else values * width
    return Stream(
        read_bytes=moved,
        write_bytes=moved + values,
        flop=DRAWN_FLOP * values,
        launches=0.0 if fused else 1.0,
        saved_bytes=values,
        label=f"{label}_dropout",
    )
