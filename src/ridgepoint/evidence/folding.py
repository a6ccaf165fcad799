"""What inference engines fold into convolutions: the norm over batches behind each, and a simple activation.

With fixed statistics a norm over batches scales and shifts every channel, which weights and bias of the convolution do as
well; an activation is applied to the result before it is stored (ncnn: ``ncnnoptimize``; TensorRT: layer fusion). What
stays is a sum with another branch, and behind a convolution an activation that is not simple (swish). Behind a product of
tokens any activation is applied to the result (cuBLASLt's and TensorRT's epilogues have GELU).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.ops import Conv, Gemm, Stream
from ridgepoint.work import Counted, Op

_NORM_FLOP = 2.0
"""Operations of a norm over batches for each value; an activation that adds more than ``_SIMPLE`` keeps its own pass."""
_SIMPLE = 1.0
_ACTIVATIONS = ("act", "activation")


def folded(ops: list[Counted], acts: str) -> list[Counted]:
    """The ops of a forward pass as an inference engine runs them; ``acts`` is the format of the values between them."""
    found: list[Counted] = []
    producer: Op | None = None
    for op, count in ops:
        kept = op if not (isinstance(op, Stream) and isinstance(producer, Conv | Gemm)) else _left(op, producer, acts)
        if kept is not None:
            found.append((kept, count))
        producer = producer if kept is None else op
    return found


def _left(op: Stream, producer: Op, acts: str) -> Op | None:
    """What stays of a pass behind a convolution or product."""
    joins = bool(np.any(np.asarray(op.read_bytes) > 1.5 * np.asarray(op.write_bytes)))
    if op.pattern == "batch_norm" and isinstance(producer, Conv):
        values = op.write_bytes / FORMATS[acts].bytes
        beyond = bool(np.any(np.asarray(op.flop - _NORM_FLOP * values) > _SIMPLE * np.asarray(values)))
        if joins or beyond:
            return replace(op, pattern="elementwise", flop=op.flop - _NORM_FLOP * values)
        return None
    return None if op.pattern == "elementwise" and op.label.endswith(_ACTIVATIONS) and not joins else op
