"""Many works evaluated as one op per kind: every total must be that of the work evaluated by itself."""

from __future__ import annotations

import numpy as np
import pytest

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.evidence.rows import InexpressibleError
from ridgepoint.evidence.stacked import flat, totals
from ridgepoint.kernels.rules import BOUND
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Conv, Delay, Gemm, Stream
from ridgepoint.work import Overlap, Repeat, Seq, Work

H100 = find_machine("h100-sxm")


def _network(batch: float | np.ndarray, acts: str) -> Work:
    """Fields as networks have them: numbers for all points, numbers for each, whole numbers, names."""
    layer = Seq(
        Conv(batch=batch, c_in=64.0, c_out=64, h=56.0, w=56.0, kh=3.0, kw=3.0, label="conv"),
        Stream(read_bytes=2e5 * batch, write_bytes=np.float64(1e5), pattern="layer_norm", label="norm"),
    )
    return Seq(Repeat(3.0, layer), Gemm(m=batch, n=1000.0, k=512.0, acts=acts, weights=acts, label="head"))


def test_totals_are_those_of_works_by_themselves():
    """Ops of other formats, sizes and numbers of points must not be mixed up when they are put side by side."""
    points = (1, 3, 2, 1)
    batches: tuple[float | np.ndarray, ...] = (
        8.0,
        np.array([1.0, 16.0, 300.0]),
        np.array([2.0, 64.0]),
        np.array([5.0]),
    )
    works = [_network(b, acts) for b, acts in zip(batches, ("bf16", "fp8", "bf16", "fp32"), strict=True)]
    found = totals([(list(flat(work)), size) for work, size in zip(works, points, strict=True)], H100)
    start = 0
    for work, size in zip(works, points, strict=True):
        alone = evaluate(work, H100)
        mine = slice(start, start + size)
        assert found.seconds[mine] == pytest.approx(np.broadcast_to(alone.time_s, (size,)), rel=1e-9)
        assert found.bound_s[mine] == pytest.approx(
            np.broadcast_to(evaluate(work, H100, BOUND).time_s, (size,)), rel=1e-9
        )
        for name, used in alone.busy_s.items():
            assert found.busy_s[name][mine] == pytest.approx(np.broadcast_to(used, (size,)), rel=1e-9), name
        start += size


def test_what_runs_side_by_side_is_refused():
    """Its times do not add up: a sum would be too long without a word."""
    with pytest.raises(InexpressibleError, match="overlap is no sequence"):
        list(flat(Overlap(Delay(seconds=1.0), Delay(seconds=2.0))))
