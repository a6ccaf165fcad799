"""A processor of which some cores work (design §9: a change of a machine by name), and the cores of its sheet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import ridgepoint as rp
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
        caches = {key: level for key, level in found.memory.items() if level.role != "main"}
        assert caches.items() <= device.memory.items()


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


def main_bandwidth(machine):
    return float(find_machine(machine).memory_bytes_per_s)


def test_cores_of_one_die_share_its_link():
    """GMI3-narrow of Genoa reads 57.6 GB/s a die; the memory's 460.8 GB/s take eight of its twelve dies."""
    for cores, dies in ((1, 1), (8, 1), (9, 2), (32, 4), (57, 8)):
        assert main_bandwidth(f"epyc-9654@threads={cores}") == pytest.approx(min(dies * 57.6e9, 460.8e9))
    assert main_bandwidth("epyc-9654@threads=96") == main_bandwidth("epyc-9654") == pytest.approx(460.8e9)


def test_a_few_cores_cannot_draw_what_all_of_them_do():
    """Without a link on the sheet a core draws what its loads in flight carry; without idle cores nothing is bounded."""
    task = rp.Decode(batch=1, context=512)

    def step_s(machine):
        return float(rp.estimate("llama-2-7b", on=machine, task=task).time_s)

    for name in ("xeon-8480plus", "graviton-3", "epyc-9654"):
        whole = find_machine(name)
        assert whole.drawn_bytes_per_s == float("inf")
        times = [step_s(f"{name}@threads={n}") for n in (1, 2, 4, 8)]
        assert times == sorted(times, reverse=True)
        assert times[0] > 2.0 * step_s(name)
    one = find_machine("xeon-8480plus@threads=1")
    weights = 2.0 * 6.7e9
    assert step_s("xeon-8480plus@threads=1") >= 0.99 * weights / one.drawn_bytes_per_s


@given(st.sampled_from(PROCESSOR_NAMES))
def test_dies_together_reach_what_the_memory_gives(name):
    """A sheet whose links carry less than its memory would be a processor that cannot use its channels."""
    chip, device = find_device(name).chip, find_device(name)
    if not chip.die_cores:
        return
    assert chip.die_bandwidth
    assert chip.multiprocessors % chip.die_cores == 0
    main = next(level for level in device.memory.values() if level.role == "main")
    assert chip.multiprocessors / chip.die_cores * chip.die_bandwidth >= (main.bandwidth or 0.0)


def test_cores_of_a_processor_are_some_of_its_cores():
    """Eight cores with the peak and the channels of 96 would be an answer that nobody notices is wrong."""
    eight, threads = find_machine("epyc-9654@cores=8").device, find_machine("epyc-9654@threads=8").device
    assert eight.chip == threads.chip
    assert fp32(eight) == fp32(threads) == pytest.approx(8 / 96 * fp32(find_device("epyc-9654")), rel=1e-3)
    assert fp32(find_machine("epyc-9654@cores=8,fp32=1T").device) == pytest.approx(1e12)
    assert main_bandwidth("epyc-9654@cores=8,bandwidth=100G") == pytest.approx(100e9)


def test_multiprocessors_of_a_gpu_are_those_of_another_chip():
    """Only what is written changes: a GPU of half the multiprocessors at the same peak is one that people compare."""
    assert find_machine("h100-sxm@sms=66").device.engines == find_device("h100-sxm").engines
