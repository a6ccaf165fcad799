"""A tape that also counts what published tables count: norms among the multiply-adds, outputs as activations."""

from typing import Any

import numpy as np

from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import play
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num

NORM_FLOP = {"batch": 2.0, "frozen": 2.0, "layer": 5.0, "group": 5.0, "rms": 0.0}


class CountingTape(Tape):
    """Counts the outputs of products and, as fvcore does, a few operations per normalised value."""

    norm_flop: Num = 0.0
    outputs: Num = 0.0

    def _values(self, values: Num) -> None:
        self.outputs = self.outputs + self._times * values

    def norm(self, x: Any, kind: str = "batch", affine: bool = True, name: str = "norm") -> Any:
        flop = NORM_FLOP[kind] - (0.0 if affine else 1.0)
        self.norm_flop = self.norm_flop + self._times * flop * x.values
        return super().norm(x, kind, affine, name)

    def conv(self, *args: Any, **named: Any) -> Map:
        result = super().conv(*args, **named)
        self._values(result.values)
        return result

    def linear(self, *args: Any, **named: Any) -> Rows:
        result = super().linear(*args, **named)
        self._values(result.values)
        return result

    def matmul(self, m: Num, n: Num, k: Num, batch: Num = 1.0, name: str = "matmul") -> None:
        self._values(batch * m * n)
        super().matmul(m, n, k, batch, name)


def count(net: Network, **sizes: Num) -> CountingTape:
    """One sample through a network, its attention as the products that a counter of operations sees."""
    tape = CountingTape(1.0, attention=False)
    play(net, tape, sizes)
    return tape


def table_macs(tape: CountingTape) -> float:
    """Multiply-adds as timm's tables count them: products, convolutions and the norms' operations."""
    return float(np.max(tape.macs + tape.norm_flop))
