"""What PyTorch's gradients cost beyond one pass over their operands, by memory layout (channels first or last).

Kernels of 2022 (PyTorch 1.11 and 1.12 with cuDNN 8) as timm's training steps tell them on one GPU. A factor is the time
over that of one kernel that reads and writes each operand once at the rate of the forward pass:

- a batch norm's gradient reads its operands in two strided sweeps with channels first; with channels last one kernel keeps
  them on chip;
- filters of one channel sum over the whole image in threads that share nothing, worst with channels last;
- grouped filters have no tensor-core kernel for one of their gradients: of the image with channels first, of the weights
  with channels last, which run group by group unless the groups are narrow;
- the gradient of a scale or gain that is broadcast is written out in full, then summed;
- a layer norm's scale and shift are summed by few threads.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ridgepoint.ops import Conv, Stream
from ridgepoint.work import Counted, Op

FACTORS: dict[str, dict[str, float]] = {
    "batch_norm": {"nchw": 3.0, "nhwc": 0.6},
    "depthwise": {"nchw": 3.0, "nhwc": 7.0},
    "grouped_image": {"nchw": 3.0, "nhwc": 1.0},
    "grouped_weights": {"nchw": 1.1, "nhwc": 16.0},
    "broadcast": {"nchw": 2.0, "nhwc": 2.0},
    "layer_norm": {"nchw": 1.75, "nhwc": 1.75},
}
_SIMPLE = ("act", "add", "cast")
"""Elementwise passes whose operands all have the same size."""
_CHANNELS_LAST = ("nhwc", "channels_last")
_NARROW = 8.0
"""Channels of a group up to which the gradient of grouped weights has a kernel of its own (ResNeXt's 4 and 8)."""


def eager_gradients(ops: list[Counted], layout: str) -> Iterator[Counted]:
    """The ops of a training step, gradients that take longer counted as that many more; ``layout`` as tables write it."""
    order = "nhwc" if layout.lower() in _CHANNELS_LAST else "nchw"
    for op, count in ops:
        kind = _kind(op)
        yield op, count * FACTORS[kind][order] if kind else count


def _kind(op: Op) -> str:
    """Which factor holds for an op; empty for those of the forward pass and for products."""
    if isinstance(op, Conv) and op.direction != "fwd":
        if not bool(np.all(np.asarray(op.groups) > 1.0)):
            return ""
        if bool(np.all(np.asarray(op.c_in) == np.asarray(op.groups))):
            return "depthwise"
        if op.direction == "bwd_data":
            return "grouped_image"
        return "grouped_weights" if bool(np.all(np.asarray(op.c_in / op.groups) > _NARROW)) else ""
    if not isinstance(op, Stream) or not op.label.endswith(".grad"):
        return ""
    if op.pattern in ("batch_norm", "layer_norm"):
        return op.pattern
    simple = op.label.removesuffix(".grad").endswith(_SIMPLE)
    return "broadcast" if op.pattern == "elementwise" and not simple else ""
