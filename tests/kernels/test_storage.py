"""Storage: shared bandwidth, requests in flight (design §4)."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.demand import settle
from ridgepoint.kernels.storage import RULES, access_s, bytes_per_s
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.description import StorageSheet
from ridgepoint.machines.machine import Machine
from ridgepoint.ops import Storage

L4 = find_machine("l4")


def test_the_sheet_comes_before_the_table_and_is_shared_by_the_node() -> None:
    # 8 devices read 32 GB/s together: 4 GB/s each. Forgetting the sharing makes checkpoints eight times too fast
    sheet = StorageSheet(label="array", bandwidth=msgspec.convert(32e9, float))  # type: ignore[arg-type]
    device = msgspec.structs.replace(L4.device, storage=sheet)
    assert bytes_per_s(Machine("8xl4", device, 8)) == 4e9
    assert bytes_per_s(L4) == L4.coefficients.storage.bandwidth


def test_requests_in_flight_hide_each_other() -> None:
    # one request waits for its whole latency; queue_depth of them together no longer; nothing waits for none
    table = L4.coefficients.storage
    waits = [float(access_s(L4, n)) for n in (0.0, 1.0, table.queue_depth, 10.0 * table.queue_depth)]
    assert waits == pytest.approx([0.0, table.access_s, table.access_s, 10.0 * table.access_s])


@given(st.floats(0.0, 1e13), st.floats(0.0, 1e7), st.sampled_from(["l4", "8xh100-sxm", "m2-ultra"]))
def test_expected_is_never_below_the_bound(size: float, accesses: float, name: str) -> None:
    op, machine = Storage(bytes=size, accesses=accesses), find_machine(name)
    assert settle(RULES.bound(op, machine)).time_s <= settle(RULES.expected(op, machine)).time_s


def test_an_array_is_its_scalars() -> None:
    size, accesses = np.array([0.0, 1e9, 1e12]), np.array([0.0, 5.0, 1e4])

    def seconds(b: Any, n: Any) -> Any:
        return settle(RULES.expected(Storage(bytes=b, accesses=n), L4)).time_s

    one = [float(seconds(b, n)) for b, n in zip(size, accesses, strict=True)]
    np.testing.assert_allclose(seconds(size, accesses), one)


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(RidgepointError, match="sideways"):
        RULES.expected(Storage(bytes=1.0, direction="sideways"), L4)
