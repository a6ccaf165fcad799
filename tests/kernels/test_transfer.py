"""Copies between device memory and other tiers (design §4)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels import storage
from ridgepoint.kernels.demand import settle
from ridgepoint.kernels.transfer import RULES
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Transfer
from ridgepoint.work import Overlap

MACHINES = ["h100-sxm", "gb200", "m2-ultra", "xeon-8480plus", "8xl4"]
sizes = st.floats(0.0, 1e12)


def timing(op: Transfer, name: str = "h100-sxm") -> Any:
    return settle(RULES.expected(op, find_machine(name)))


def test_pinned_memory_reaches_what_pcie_gives() -> None:
    # published: 50–57 GB/s pinned on PCIe 5.0 x16 of 63 GB/s, roughly half or less pageable
    pinned, pageable = (1e9 / timing(Transfer(bytes=1e9, pinned=p)).time_s / 1e9 for p in (True, False))
    assert 48 < pinned < 60
    assert pageable < 0.6 * pinned


def test_a_grace_machine_takes_its_c2c_link() -> None:
    busy = timing(Transfer(bytes=1e9), "gb200").busy_s
    assert "c2c" in busy
    assert "pcie" not in busy


@pytest.mark.parametrize("name", ["m2-ultra", "xeon-8480plus"])
def test_without_a_host_link_the_copy_is_one_within_main_memory(name: str) -> None:
    # unified memory: each byte is read once and written once there, so 2 bytes of traffic per byte
    machine = find_machine(name)
    found = settle(RULES.bound(Transfer(bytes=1e9), machine))
    assert found.busy_s == {machine.main_memory: 2e9 / machine.memory_bytes_per_s}


def test_each_piece_waits_once_for_the_link() -> None:
    # 1000 small copies against one of the same bytes differ by 999 latencies: what batching of offloads buys
    latency = find_machine("h100-sxm").coefficients.transfer.latency_s
    one, many = (timing(Transfer(bytes=1e6, pieces=n)).time_s for n in (1.0, 1000.0))
    assert many - one == pytest.approx(999.0 * latency)


def test_storage_streams_through_the_host_link_at_the_slower_rate() -> None:
    machine = find_machine("h100-sxm")
    found = settle(RULES.bound(Transfer(bytes=1e10, tier="storage"), machine))
    assert set(found.busy_s) == {"pcie", "storage"}
    assert found.time_s == 1e10 / min(63e9, storage.bytes_per_s(machine))


@given(sizes, st.sampled_from(MACHINES), st.sampled_from(["host", "storage"]), st.booleans(), st.floats(0.0, 1e4))
def test_expected_is_never_below_the_bound(size: float, name: str, tier: str, pinned: bool, pieces: float) -> None:
    op = Transfer(bytes=size, tier=tier, pinned=pinned, pieces=pieces)
    assert settle(RULES.bound(op, find_machine(name))).time_s <= timing(op, name).time_s


@pytest.mark.parametrize("tier", ["host", "storage"])
def test_an_array_is_its_scalars(tier: str) -> None:
    size, pieces = np.array([0.0, 1e6, 1e10]), np.array([1.0, 7.0, 300.0])
    one = [float(timing(Transfer(bytes=b, pieces=n, tier=tier)).time_s) for b, n in zip(size, pieces, strict=True)]
    np.testing.assert_allclose(timing(Transfer(bytes=size, pieces=pieces, tier=tier)).time_s, one)


def test_the_device_side_is_read_or_written() -> None:
    # `read` brings bytes to the device, so its memory is written
    there, back = Transfer(bytes=8.0, direction="write"), Transfer(bytes=8.0, direction="read")
    assert (RULES.read_bytes(there), RULES.write_bytes(there)) == (8.0, 0.0)
    assert (RULES.read_bytes(back), RULES.write_bytes(back)) == (0.0, 8.0)


@pytest.mark.parametrize("wrong", [Transfer(bytes=1.0, tier="tape"), Transfer(bytes=1.0, direction="up")])
def test_unknown_tiers_and_directions_are_refused(wrong: Transfer) -> None:
    for rule in (RULES.expected, RULES.bound):
        with pytest.raises(RidgepointError) as refused:
            rule(wrong, find_machine("h100-sxm"))
        assert refused.value.hint


def test_without_a_host_its_bytes_lie_in_the_largest_tier() -> None:
    """SN40L has DDR memory beside its HBM and no host link: copies inside HBM would be seven times as fast."""
    machine = find_machine("sn40l")
    op = Transfer(bytes=1e10)
    assert settle(RULES.bound(op, machine)).time_s == pytest.approx(1e10 / 100e9)
    assert settle(RULES.expected(op, machine)).time_s >= 1e10 / 100e9


def test_both_directions_of_the_host_link_run_side_by_side():
    """PCIe is full duplex: copies out and in take the time of the longer one, two of one direction take their sum."""
    machine = find_machine("h100-sxm")
    out, back = Transfer(bytes=2e9, direction="write"), Transfer(bytes=1e9, direction="read")
    alone = [float(evaluate(op, machine).time_s) for op in (out, back)]
    assert float(evaluate(Overlap(out, back), machine).time_s) == pytest.approx(max(alone))
    assert float(evaluate(Overlap(back, back), machine).time_s) == pytest.approx(2 * alone[1], rel=0.01)
    busy = settle(RULES.bound(out, machine)).busy_s
    assert busy == {"pcie_out": 2e9 / 63e9}
    assert machine.resource_label("pcie_out") == "outward " + machine.resource_label("pcie")
