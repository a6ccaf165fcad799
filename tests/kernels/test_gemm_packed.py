"""Right operands that lie packed in memory, and engines that skip zeros (design §2, §4)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.kernels import gemm
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.backward import backward
from ridgepoint.ops import Gemm
from ridgepoint.work import ops

MACHINES = st.sampled_from(["h100-sxm", "a100-sxm-80gb", "m2-ultra", "xeon-8480plus"])
shares = st.floats(0.05, 1.0)


def seconds(op: Gemm, machine: str, model: Any = gemm.expected) -> Any:
    return settle(model(op, find_machine(machine))).time_s


@given(MACHINES, st.sampled_from([1.0, 16.0, 4096.0]), shares, shares)
def test_expected_is_never_below_the_bound(machine: str, rows: float, stored: float, computed: float) -> None:
    op = Gemm(m=rows, n=4096.0, k=4096.0, stored=stored, computed=computed, unpack_flop=2.0)
    assert seconds(op, machine) >= seconds(op, machine, gemm.bound) * (1.0 - 1e-9)


@given(MACHINES, st.lists(shares, min_size=1, max_size=5))
def test_arrays_give_what_scalars_give(machine: str, stored: list[float]) -> None:
    op = Gemm(m=8.0, n=4096.0, k=4096.0, unpack_flop=1.0)
    together = np.broadcast_to(seconds(replace(op, stored=np.array(stored)), machine), len(stored))
    assert together == pytest.approx([seconds(replace(op, stored=s), machine) for s in stored])


def test_packed_weights_help_one_row_and_not_thousands() -> None:
    """Load as sparse, compute as dense: the traffic of the weights falls, the arithmetic stays."""
    for rows, least, most in ((1.0, 1.5, 2.0), (8192.0, 0.99, 1.02)):
        dense = Gemm(m=rows, n=16384.0, k=16384.0)
        gain = seconds(dense, "h100-sxm") / seconds(replace(dense, stored=0.5), "h100-sxm")
        assert least < gain < most, rows


def test_skipped_products_help_where_arithmetic_binds() -> None:
    dense = Gemm(m=8192.0, n=16384.0, k=16384.0)
    half = replace(dense, computed=0.5)
    assert gemm.flop(half) == gemm.flop(dense) / 2.0
    assert 1.5 < seconds(dense, "h100-sxm") / seconds(half, "h100-sxm") < 2.0 + 1e-9
    one = replace(dense, m=1.0)
    assert seconds(one, "h100-sxm") == pytest.approx(seconds(replace(one, computed=0.5), "h100-sxm"), rel=0.02)


def test_unpacking_takes_vector_time() -> None:
    op = Gemm(m=1.0, n=16384.0, k=16384.0, stored=0.25)
    assert seconds(replace(op, unpack_flop=100.0), "h100-sxm") > 1.2 * seconds(op, "h100-sxm")


def test_the_gradient_of_the_weights_is_dense() -> None:
    found = {op.label: op for op in ops(backward(Gemm(m=8.0, n=4.0, k=2.0, computed=0.5, label="up")))}
    assert found["up.grad_input"].computed == 0.5  # type: ignore[attr-defined]
    assert found["up.grad_weight"].computed == 1.0  # type: ignore[attr-defined]
