"""Matrix products: counts, limits, quantization, splits, power, formats; measured products (design §3, §4, §11)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.evidence.calibrate import with_values
from ridgepoint.evidence.rows import express
from ridgepoint.evidence.tables import find_tables, read_table
from ridgepoint.evidence.validate import group_errors, predict_kernels
from ridgepoint.evidence.validation import BUILDERS
from ridgepoint.kernels import gemm
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.ops import Gemm

MACHINES = (
    "h100-sxm",
    "b200-sxm",
    "a100-sxm-80gb",
    "l40s",
    "v100-sxm-16gb",
    "p4",
    "mi300x",
    "tpu-v5e",
    "m2-ultra",
    "xeon-8480plus",
)
sizes = st.integers(1, 70000).map(float)
formats = st.sampled_from([("bf16", "bf16"), ("fp8", "fp8"), ("fp32", "fp32"), ("bf16", "int4"), ("int8", "int8")])


def seconds(op: Gemm, machine: Machine, model: Any = gemm.expected) -> Any:
    return settle(model(op, machine)).time_s


@given(st.sampled_from(MACHINES), sizes, sizes, sizes, st.sampled_from([1.0, 7.0, 128.0]), formats, st.booleans())
def test_expected_is_never_below_the_bound(
    name: str, m: float, n: float, k: float, batch: float, operands: tuple[str, str], grouped: bool
) -> None:
    op = Gemm(m=m, n=n, k=k, batch=batch, acts=operands[0], weights=operands[1], grouped=grouped)
    machine = find_machine(name)
    assert seconds(op, machine) >= seconds(op, machine, gemm.bound) * (1.0 - 1e-9)


@given(st.sampled_from(MACHINES), st.lists(st.tuples(sizes, sizes, sizes), min_size=1, max_size=20), formats)
def test_arrays_give_what_scalars_give(
    name: str, shapes: list[tuple[float, float, float]], operands: tuple[str, str]
) -> None:
    machine = find_machine(name)
    m, n, k = np.array(shapes).T
    op = Gemm(m=m, n=n, k=k, acts=operands[0], weights=operands[1])
    together = seconds(op, machine)
    alone = [seconds(replace(op, m=a, n=b, k=c), machine) for a, b, c in shapes]
    assert together == pytest.approx(alone, rel=1e-12)


def test_a_sweep_that_repeats_shapes_gives_the_same() -> None:
    # the distinct shapes are evaluated once; each point must get its own back
    m = np.tile(np.array([1.0, 16.0, 300.0]), 1000)
    op, machine = Gemm(m=m, n=4096.0, k=4096.0), find_machine("h100-sxm")
    demand = gemm.expected(op, machine)
    assert demand.spread is not None
    few = settle(gemm.expected(replace(op, m=m[:3]), machine)).time_s
    assert settle(demand).time_s == pytest.approx(np.tile(few, 1000))


@given(st.sampled_from(MACHINES), sizes, sizes, sizes, st.sampled_from(["m", "n", "k", "batch"]))
def test_twice_the_work_takes_no_less(name: str, m: float, n: float, k: float, what: str) -> None:
    op, machine = Gemm(m=m, n=n, k=k, batch=3.0), find_machine(name)
    twice = replace(op, **{what: 2.0 * getattr(op, what)})
    assert seconds(twice, machine) >= seconds(op, machine) * 0.99  # more tiles draw more bandwidth: a hair faster


def test_counts_by_hand() -> None:
    op = Gemm(m=3.0, n=5.0, k=7.0, batch=2.0, acts="fp8", weights="fp8", out="bf16")
    assert gemm.flop(op) == 2 * 3 * 5 * 7 * 2
    assert gemm.read_bytes(op) == 2 * (3 * 7 + 7 * 5)
    assert gemm.write_bytes(op) == 2 * 2 * 3 * 5
    assert gemm.read_bytes(replace(op, shared_input=True)) == 3 * 7 + 2 * 7 * 5, "one input for all groups"


def plain_waves() -> Machine:
    """An H100 whose last wave is lost whole and whose waves and starts cost nothing: tiles and waves alone are left."""
    values = {
        "tail": 1.0,
        "fill_bytes": 1e-9,
        "start_s.fp16": 1e-12,
        "step_s.fp16": 1e-12,
        "joule_per_flop.fp16": 1e-15,
    }
    return with_values(find_machine("h100-sxm"), "gemm", values)


def test_one_tile_more_than_a_wave_costs_a_wave() -> None:
    # 11 × 12 tiles of 256 × 128 fill the 132 multiprocessors; one row of tiles more starts a second wave
    machine, k = plain_waves(), 16384.0
    full = seconds(Gemm(m=11 * 256.0, n=12 * 128.0, k=k), machine)
    more = seconds(Gemm(m=11 * 256.0, n=13 * 128.0, k=k), machine)
    assert more > 1.15 * full, "a library that reshapes its tiles escapes the second wave only in part"
    smooth = with_values(machine, "gemm", {"tail": 1e-6})
    ratio = seconds(Gemm(m=11 * 256.0, n=13 * 128.0, k=k), smooth) / seconds(
        Gemm(m=11 * 256.0, n=12 * 128.0, k=k), smooth
    )
    assert ratio == pytest.approx(13 / 12, rel=0.02), "stream-K pays for the tiles that there are"


@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_a_vector_engine_waits_for_the_weights_of_a_single_row(weights: str) -> None:
    """Apple's GPUs multiply on their vector units. llama.cpp writes a token in the time that the weights take from memory,
    at 16 and 8 bits on all of them: a model in which their cores are busy longer names the wrong limit.
    """
    for name in ("m1-max", "m2-ultra", "m4-max", "m4-pro"):
        op = Gemm(m=1.0, n=28672.0, k=4096.0, acts="fp16", weights=weights, out="fp16")
        found = settle(gemm.expected(op, find_machine(name)))
        assert found.busy_s["lpddr"] > found.busy_s["vector"]


def test_few_tiles_split_k_and_formats_without_split_wait() -> None:
    machine, op = find_machine("b200-sxm"), Gemm(m=16.0, n=128.0, k=51200.0, acts="nvfp4", weights="nvfp4")
    wide = replace(op, n=128.0 * 148)
    alone = with_values(machine, "gemm", {"max_split.nvfp4": 32.0})
    assert seconds(op, machine) > 3.0 * seconds(op, alone), "one tile works through all of k"
    # measured: 99 µs for one tile of k = 51200 and about as much for a hundred of them
    assert seconds(op, machine) == pytest.approx(99e-6, rel=0.15)
    assert seconds(wide, machine) < 1.3 * seconds(op, machine)


def test_long_kernels_meet_the_power_limit() -> None:
    # T4: 70 W sustain four tenths of its 8.1 TFLOP/s in fp32, short kernels reach six
    machine = find_machine("t4")
    peak = machine.arithmetic("fp32").flop_per_s

    def rate(size: float) -> float:
        op = Gemm(m=size, n=size, k=size, acts="fp32", weights="fp32", out="fp32")
        return float(gemm.flop(op) / seconds(op, machine)) / peak

    assert rate(8192.0) < 0.45
    assert rate(1024.0) > rate(8192.0)


@pytest.mark.parametrize(
    ("acts", "weights", "faster"), [("bf16", "int4", 2.5), ("bf16", "int8", 1.6), ("fp8", "fp8", 1.6)]
)
def test_narrow_weights_speed_up_what_reads_weights(acts: str, weights: str, faster: float) -> None:
    machine = find_machine("h100-sxm")
    wide = Gemm(m=1.0, n=16384.0, k=16384.0)
    assert seconds(wide, machine) / seconds(replace(wide, acts=acts, weights=weights), machine) > faster


def test_a_format_that_the_machine_lacks_runs_wider_and_says_so() -> None:
    op, machine = Gemm(m=4096.0, n=4096.0, k=4096.0, acts="fp8", weights="fp8"), find_machine("a100-sxm-80gb")
    demand = gemm.expected(op, machine)
    assert demand.arithmetic == ("matrix", "bf16")
    assert any("fp8" in note for note in demand.notes)
    assert seconds(op, machine) > 0.85 * seconds(replace(op, acts="bf16", weights="bf16"), machine)


def test_groups_of_rows_pay_for_half_filled_tiles() -> None:
    # 128 experts with 20 rows each read all weights; a plain product of 2560 rows reads them once
    machine = find_machine("h100-sxm")
    experts = seconds(Gemm(m=20.0, n=2048.0, k=2048.0, batch=128.0, grouped=True), machine)
    assert experts > 2.0 * seconds(Gemm(m=2560.0, n=2048.0, k=2048.0), machine)


# design §11, on the development tables, with a margin: what docs/accuracy.md prints is the figure
LIMITS = {
    ("gemm bf16", "h100-sxm"): 0.07,
    ("gemm fp16", "h100-sxm"): 0.07,
    ("gemm bf16", "a100-sxm-80gb"): 0.07,
    ("gemm fp16", "a100-pcie-80gb"): 0.06,
    ("gemm bf16", "b200-sxm"): 0.08,
    ("gemm bf16", "rtx-a6000"): 0.06,
    ("gemm bf16", "l40s"): 0.09,
    ("gemm nvfp4", "b200-sxm"): 0.08,
}


def test_measured_products(shared: Path) -> None:
    table = read_table(find_tables(shared / "measurements", ("kernels",))[0])
    mine = table.take(np.flatnonzero(np.array(table.text["op"]) == "gemm"))
    result = predict_kernels(express(mine, BUILDERS))
    assert result.covered.all()
    errors = {(g.group, g.machine): g.long_mdape for g in group_errors(result)}
    for key, limit in LIMITS.items():
        assert errors[key] < limit, (key, errors[key])


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "l40s", "h100-sxm", "h200-sxm", "b200-sxm"])
def test_large_products_of_widened_weights_take_as_long_as_wide_ones(name: str) -> None:
    """They fill the same units, as A100's rows show. Kernels of expert layers must not price plain products: with their share
    of the peak a prompt of 4-bit weights took 1.6 times as long on B200 as one of 16-bit weights."""
    seconds = [
        float(evaluate(Gemm(m=4096, n=8192, k=8192, acts="bf16", weights=w, out="bf16"), find_machine(name)).time_s)
        for w in ("bf16", "int4")
    ]
    assert 0.95 < seconds[1] / seconds[0] < 1.1


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
    wide = gemm.overdraw(machine, "fp16", machine.arithmetic("fp16"))
    assert gemm.overdraw(machine, "int8", machine.arithmetic("int8")) == pytest.approx(wide)
    assert gemm.overdraw(machine, "fp8", machine.arithmetic("fp8")) != wide  # measured: its own


def test_gpus_that_nobody_measured_draw_what_is_usual_and_other_machines_nothing() -> None:
    amd, tpu = find_machine("mi300x"), find_machine("tpu-v5e")
    assert gemm.overdraw(amd, "fp16", amd.arithmetic("bf16")) == amd.coefficients.gemm.overdraw > 1.0
    assert gemm.overdraw(tpu, "fp16", tpu.arithmetic("bf16")) == 0.0


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
        assert gemm.operand_bytes_per_s(machine) * machine.multiprocessors > 1.3 * machine.memory_bytes_per_s
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
        return 1.0 / gemm.share_of_peak(machine, gemm.product_name(format_name, format_name), arithmetic) - 1.0

    assert beyond("rtx-4090", "fp16") == pytest.approx(beyond("rtx-6000-ada", "fp16") / 2.0)
    assert beyond("rtx-4090", "int8") == pytest.approx(beyond("rtx-6000-ada", "int8"))
