"""What an optimizer of eager PyTorch costs the host: a few elementwise kernels for every parameter tensor, in turn.

Before PyTorch 2.0 ``torch.optim`` looped over tensors; a network of two hundred small ones waits for that loop more than for
its passes. The kernels are started without gradients being recorded, which takes what compiled code takes.
"""

from __future__ import annotations

from collections.abc import Iterable

from ridgepoint.evidence.rows import Rows
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Num
from ridgepoint.ops import Stream
from ridgepoint.work import Counted

KERNELS = {"sgd": 3.0, "adam": 8.0, "adamw": 9.0, "adadelta": 11.0}
"""Kernels for one tensor: its moments scaled and added to, the denominator's root, sum and quotient, the step."""
_OF_LAYER = 8.0
"""Matrices and norms of a transformer's layer: queries, keys, values, output, two of the feed-forward part, two norms."""
_OF_ENDS = 8.0
"""Tables, norm and head."""


def update_s(rows: Rows, tensors: Num, machine: Machine) -> Num:
    """Host seconds of one step of the optimizer that the rows name; 0 where they name none."""
    return KERNELS.get(rows.tag("optimizer"), 0.0) * tensors * machine.coefficients.host.dispatch_s


def of_network(ops: Iterable[Counted]) -> Num:
    """Parameter tensors of a network, from the passes of a step: a gradient each, two of every norm."""
    total: Num = 0.0
    for op, count in ops:
        if op.label.endswith(".grad_weight"):
            total = total + count
        elif isinstance(op, Stream) and op.pattern in ("batch_norm", "layer_norm") and op.label.endswith(".grad"):
            total = total + 2.0 * count
    return total


def of_model(model: Model) -> float:
    """Parameter tensors of a transformer with biases."""
    return 2.0 * (_OF_LAYER * model.main.depth + _OF_ENDS / 2.0)
