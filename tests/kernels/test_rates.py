"""What products reach of a machine's rates: power, caches, formats that nobody measured (design §4)."""

from dataclasses import replace

import numpy as np
import pytest

from ridgepoint.evidence.calibrate import with_values
from ridgepoint.kernels import gemm, rates
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.ops import Gemm


def seconds(op: Gemm, machine: Machine) -> float:
    """What the expected model takes."""
    return float(np.asarray(settle(gemm.expected(op, machine)).time_s))


def test_a_lower_power_limit_slows_by_its_root() -> None:
    """Power goes with clock^2.4: 300 W instead of 400 W costs an A100 about an eighth where power binds, never a quarter."""
    full = find_machine("a100-sxm-80gb")
    limited = find_machine("a100-sxm-80gb@tdp=300W")
    square = Gemm(m=16384.0, n=16384.0, k=16384.0)
    slower = settle(gemm.expected(square, limited)).time_s / settle(gemm.expected(square, full)).time_s
    assert 1.05 < slower <= (400.0 / 300.0) ** (1.0 / 2.4) + 1e-9


def test_an_engine_draws_alike_in_formats_that_nobody_measured() -> None:
    """Design §4: where a table has no energy of a narrow format, 16-bit operations say what the engine draws at full rate."""
    machine = find_machine("h100-sxm")
    wide = rates.overdraw(machine, "fp16", machine.arithmetic("fp16"))
    assert rates.overdraw(machine, "int8", machine.arithmetic("int8")) == pytest.approx(wide)
    assert rates.overdraw(machine, "fp8", machine.arithmetic("fp8")) != wide  # measured: its own


def test_gpus_that_nobody_measured_draw_what_is_usual_and_other_machines_nothing() -> None:
    amd, tpu = find_machine("mi300x"), find_machine("tpu-v5e")
    assert rates.overdraw(amd, "fp16", amd.arithmetic("bf16")) == amd.coefficients.gemm.overdraw > 1.0
    assert rates.overdraw(tpu, "fp16", tpu.arithmetic("bf16")) == 0.0


def test_below_the_lowest_voltage_power_goes_with_the_clock() -> None:
    """A card of 70 W runs below 1 GHz, where a voltage that no longer falls makes each halved budget halve the rate."""
    t4 = find_machine("t4")
    long = Gemm(m=8192.0, n=8192.0, k=8192.0, acts="fp32", weights="fp32", out="fp32")

    def rate(joule: float) -> float:
        machine = with_values(t4, "gemm", {"joule_per_flop.fp32": joule, "efficiency.fp32": 1.0})
        return 1.0 / float(settle(gemm.expected(long, machine)).time_s)

    assert rate(2e-11) / rate(4e-11) == pytest.approx(2.0, rel=0.03)
    fast = with_values(find_machine("h100-sxm"), "gemm", {"joule_per_flop.fp16": 6e-13})
    faster = with_values(find_machine("h100-sxm"), "gemm", {"joule_per_flop.fp16": 3e-13})
    big = Gemm(m=16384.0, n=16384.0, k=16384.0)
    ratio = settle(gemm.expected(big, fast)).time_s / settle(gemm.expected(big, faster)).time_s
    assert ratio < 2.0 ** (1.0 / 2.4) * 1.02, "above it the voltage falls too"


def test_a_cache_is_faster_than_the_memory_behind_it() -> None:
    """H20 keeps H100's memory and a seventh of its arithmetic. A cache in balance with that arithmetic alone would be slower
    than main memory, and a product that reads weights would wait for it: 2.4 times its limit.
    """
    op = Gemm(m=1.0, n=28672.0, k=4096.0)
    for name in ("h20", "k80", "jetson-nano", "h100-sxm"):
        machine = find_machine(name)
        assert rates.operand_bytes_per_s(machine) * machine.multiprocessors > 1.3 * machine.memory_bytes_per_s
        found = settle(gemm.expected(op, machine))
        assert found.busy_s[machine.main_memory] > found.busy_s.get("l2", 0.0)


@pytest.mark.parametrize("name", ["tpu-v6e", "gaudi-3"])
def test_eight_bits_are_no_slower_where_they_run_at_the_rate_of_sixteen(name: str) -> None:
    """The share of peak that fp8 reaches on engines twice as fast made prefill a third slower than with bf16."""
    wide, machine = Gemm(m=4096.0, n=8192.0, k=8192.0), find_machine(name)
    assert seconds(replace(wide, acts="fp8", weights="fp8"), machine) < 1.02 * seconds(wide, machine)


@pytest.mark.parametrize("name", ["tpu-v1", "alveo-u280"])
def test_a_machine_of_integers_alone_multiplies_integers(name: str) -> None:
    """It has no 16-bit rate to which its cache or its power could be in proportion, and was refused."""
    op, machine = Gemm(m=256.0, n=1024.0, k=1024.0, acts="int8", weights="int8"), find_machine(name)
    assert settle(gemm.bound(op, machine)).time_s <= seconds(op, machine) < 1.0


def test_an_engine_at_half_its_rate_waits_half_as_much() -> None:
    """GeForce cards sum 16-bit products in 32 bits at half the rate that their design has on professional cards: the time that
    large products take beyond the peak's is the same, a smaller part. Integers run at all of it."""

    def beyond(name: str, format_name: str) -> float:
        machine = find_machine(name)
        arithmetic = machine.arithmetic(format_name)
        return 1.0 / rates.share_of_peak(machine, rates.product_name(format_name, format_name), arithmetic) - 1.0

    assert beyond("rtx-4090", "fp16") == pytest.approx(beyond("rtx-6000-ada", "fp16") / 2.0)
    assert beyond("rtx-4090", "int8") == pytest.approx(beyond("rtx-6000-ada", "int8"))


@pytest.mark.parametrize("name", ["a100-pcie-40gb", "h100-sxm", "rtx-a6000", "l4"])
@pytest.mark.parametrize("weights", ["int4", "int8"])
def test_widened_weights_reach_and_draw_what_they_are_widened_to(name: str, weights: str) -> None:
    """A fit to one machine's rows let A100's PCIe card draw a quarter less with 4-bit weights: prompts 8 % faster than bf16."""
    machine = find_machine(name)
    wide, narrow = machine.arithmetic("bf16"), rates.product_name("bf16", weights)
    assert rates.share_of_peak(machine, narrow, wide) <= rates.share_of_peak(machine, "fp16", wide)
    assert rates.overdraw(machine, narrow, wide) >= rates.overdraw(machine, "fp16", wide)
