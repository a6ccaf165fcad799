"""A processor of which some cores work (design §9: a change of a machine by name), and the cores of its sheet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import device_names, find_device, find_machine
from ridgepoint.machines.description import Cores, FlopPerSecond
from ridgepoint.machines.reader import checked
from ridgepoint.machines.threads import PROCESSORS, with_threads

PROCESSOR_NAMES = [name for name in device_names() if find_device(name).kind in PROCESSORS]


def fp32(device):
    return float(device.engines["vector"].rates["fp32"])


@given(st.sampled_from([name for name in PROCESSOR_NAMES if "vector" in find_device(name).engines]), st.booleans())
def test_threads_share_evenly_and_wait_for_the_slowest(name, slowest):
    """No number of threads computes more than the cores that they run on, and one thread has one core's rate."""
    device = find_device(name)
    cores = [float(k.rate) for k in device.chip.kinds for _ in range(k.count)]
    cores = cores or [fp32(device) / device.chip.multiprocessors] * device.chip.multiprocessors
    for n in range(1, device.chip.multiprocessors + 1):
        used = sorted(cores, reverse=not slowest)[:n]
        found = with_threads(device, n, slowest)
        assert fp32(found) == pytest.approx(n * min(used), rel=0.011)  # sheets round their sums
        assert fp32(found) <= 1.011 * sum(used)
        assert found.chip.multiprocessors == n
        assert found.memory == device.memory


def test_all_threads_of_equal_cores_change_nothing():
    device = find_device("epyc-7742")
    assert fp32(with_threads(device, device.chip.multiprocessors)) == pytest.approx(fp32(device))


def test_threads_are_a_word_of_a_machines_name():
    few = find_machine("rk3588@threads=4")
    assert few.device.chip.multiprocessors == 4
    assert fp32(few.device) == pytest.approx(4 * 38.4e9)
    assert fp32(find_machine("rk3588@little-threads=4").device) == pytest.approx(4 * 14.4e9)


@pytest.mark.parametrize(("name", "words"), [("rk3588@threads=9", "8 cores"), ("h100-sxm@threads=4", "no processor")])
def test_impossible_threads_are_refused(name, words):
    with pytest.raises(RidgepointError, match=words):
        find_machine(name)


def test_kinds_of_cores_must_add_up():
    """A sheet whose cores and peak disagree is wrong about one of them."""
    device = find_device("rk3588")
    wrong = (Cores(core="big", count=4, rate=FlopPerSecond(38.4e9)),)
    with pytest.raises(RidgepointError, match="4 cores of 8"):
        checked(replace(device, chip=replace(device.chip, kinds=wrong)), "rk3588")
    double = (Cores(core="big", count=8, rate=FlopPerSecond(38.4e9)),)
    with pytest.raises(RidgepointError, match="FLOP/s"):
        checked(replace(device, chip=replace(device.chip, kinds=double)), "rk3588")
