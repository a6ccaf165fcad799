"""Convolutions: counts against brute force, algorithms, limits, and measured times (design §3, §4)."""

import csv
import gzip
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.rows import express
from ridgepoint.evidence.tables import read_table
from ridgepoint.evidence.validate import errors, predict_kernels
from ridgepoint.evidence.validation import BUILDERS
from ridgepoint.kernels import conv, gemm
from ridgepoint.kernels.conv import RULES
from ridgepoint.kernels.conv_counts import DIRECTIONS, as_gemm, out_size, winograd_gemm
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.ops import Conv, Gemm

MACHINES = ["h100-sxm", "v100-sxm-16gb", "p100-pcie", "tpu-v5e", "xeon-8480plus", "m2-ultra"]


def layer(**changes: Any) -> Conv:
    sizes = {"batch": 32.0, "c_in": 64.0, "c_out": 128.0, "h": 28.0, "w": 28.0, "kh": 3.0, "kw": 3.0}
    return Conv(**{**sizes, "pad_h": 1.0, "pad_w": 1.0, **changes})


def seconds(op: Conv, machine: Machine) -> Any:
    return settle(RULES.expected(op, machine)).time_s


layers = st.builds(
    lambda batch, group, groups, c_out, size, kh, kw, stride, direction, acts: Conv(
        batch=float(batch),
        c_in=float(group * groups),
        c_out=float(c_out * groups),
        h=float(size),
        w=float(size + 3),
        kh=float(kh),
        kw=float(kw),
        stride=float(stride),
        pad_h=float(kh // 2),
        pad_w=float(kw // 2),
        groups=float(groups),
        direction=direction,
        acts=acts,
        weights=acts,
    ),
    st.integers(1, 64),
    st.integers(1, 96),
    st.sampled_from([1, 1, 1, 2, 32]),
    st.integers(1, 96),
    st.integers(7, 64),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([1, 2]),
    st.sampled_from(DIRECTIONS),
    st.sampled_from(["bf16", "fp32", "int8"]),
)


def touched(size: int, kernel: int, stride: int, pad: int) -> int:
    """Output positions along one axis, counted by sliding the filter over the padded image."""
    return len(range(0, size + 2 * pad - kernel + 1, stride))


@pytest.mark.parametrize(
    ("h", "w", "kh", "kw", "stride", "pad"),
    [*itertools.product([5, 14], [6, 15], [1, 3], [2, 3], [1, 2, 3], [0, 1]), (224, 224, 7, 7, 2, 3)],
)
def test_flops_are_those_of_a_slid_filter(h: int, w: int, kh: int, kw: int, stride: int, pad: int) -> None:
    # design §5: both roads must agree on matrix FLOPs exactly; floor and stride are where counters slip
    op = Conv(
        batch=2.0, c_in=6.0, c_out=4.0, h=float(h), w=float(w), kh=float(kh), kw=float(kw), stride=float(stride),
        pad_h=float(pad), pad_w=float(pad), groups=2.0,
    )  # fmt: skip
    positions = touched(h, kh, stride, pad) * touched(w, kw, stride, pad)
    assert RULES.flop(op) == 2 * 2 * 4 * positions * 3 * kh * kw


def test_resnet50_first_layer_is_the_published_236_million_flop() -> None:
    # 118 million multiply-adds per image (He et al. 2016: the 7×7, 64, stride 2 layer on 224×224)
    op = Conv(batch=1.0, c_in=3.0, c_out=64.0, h=224.0, w=224.0, kh=7.0, kw=7.0, stride=2.0, pad_h=3.0, pad_w=3.0)
    assert RULES.flop(op) == 236_027_904
    assert out_size(op) == (112.0, 112.0)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_each_direction_moves_its_operands_and_result_once(direction: str) -> None:
    # 2-byte values: image 32·64·28·28, filters 128·64·9, output 32·128·28·28
    image, filters, out = 2 * 32 * 64 * 784, 2 * 128 * 64 * 9, 2 * 32 * 128 * 784
    reads = {"fwd": image + filters, "bwd_data": out + filters, "bwd_weight": image + out}
    writes = {"fwd": out, "bwd_data": image, "bwd_weight": filters}
    op = layer(direction=direction)
    assert (RULES.read_bytes(op), RULES.write_bytes(op)) == (reads[direction], writes[direction])
    assert RULES.flop(op) == RULES.flop(layer())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_implicit_product_computes_the_same_flops(direction: str) -> None:
    # stride 1 and "same" padding: no padding of channels, so m·n·k must be exact
    product = as_gemm(layer(direction=direction))
    assert 2.0 * product.m * product.n * product.k * product.batch == RULES.flop(layer())


def test_channels_are_padded_to_what_the_engine_loads() -> None:
    # 3 channels of an RGB image run as 4, 9 as 16 in two-byte formats: first layers waste part of the matrix engine
    assert [float(as_gemm(layer(c_in=c), 8.0).k) / 9.0 for c in (3.0, 8.0, 9.0)] == [4.0, 8.0, 16.0]
    assert [float(as_gemm(layer(c_in=c), 1.0).k) / 9.0 for c in (1.0, 3.0, 9.0)] == [1.0, 3.0, 9.0]


def test_winograd_needs_the_multiplications_of_its_theorem() -> None:
    # F(m×m, 3×3) takes (m+2)² multiplications per m² outputs: 2.25 and 4 times fewer (Lavin and Gray 2016)
    for tile, saving in ((2.0, 36.0 / 16.0), (4.0, 144.0 / 36.0)):
        product = winograd_gemm(layer(), tile)
        assert RULES.flop(layer()) / (2.0 * product.m * product.n * product.k * product.batch) == pytest.approx(saving)


def test_winograd_serves_dense_3x3_on_the_vector_engine_alone() -> None:
    # fp32 on Pascal has it; tensor cores and other filters do not, so their bound stays that of the direct sum
    pascal, hopper = find_machine("p100-pcie"), find_machine("h100-sxm")
    dense = layer(batch=256.0, c_in=256.0, c_out=256.0, acts="fp32", weights="fp32")
    direct = RULES.flop(dense) / pascal.arithmetic("fp32").flop_per_s
    assert seconds(dense, pascal) < direct
    busy = settle(RULES.bound(layer(), hopper)).busy_s
    assert busy["matrix"] == RULES.flop(layer()) / hopper.arithmetic("bf16").flop_per_s
    strided = layer(stride=2.0, acts="fp32", weights="fp32")
    assert settle(RULES.bound(strided, pascal)).busy_s["vector"] == pytest.approx(
        RULES.flop(strided) / pascal.arithmetic("fp32").flop_per_s
    )


def test_a_block_of_the_fused_kernel_is_one_image_s() -> None:
    """cuDNN's winograd_128x128_…_tile148 takes 4 × 8 tiles of 2 × 2 values of an image: 5 × 5 values fill as many blocks as
    8 × 16, and one column more takes twice as many."""
    machine = find_machine("v100-pcie")

    def turns(h: float, w: float, filters: float = 64.0) -> Any:
        op = layer(batch=320.0, c_in=512.0, c_out=filters, h=h, w=w)
        direct = RULES.expected(op, machine)
        return conv._fused_winograd(op, machine, 1.0, direct).phases[0].seconds["vector"]

    assert turns(5.0, 5.0) == pytest.approx(turns(8.0, 16.0), rel=0.05)  # clocks fall a little where fewer wait
    assert turns(8.0, 17.0) == pytest.approx(2.0 * turns(8.0, 16.0), rel=0.05)
    assert turns(8.0, 16.0, 65.0) == pytest.approx(1.5 * turns(8.0, 16.0), rel=0.05)


def test_depthwise_runs_on_the_vector_engine() -> None:
    # one filter per channel fills no matrix tile: the matrix engine would idle at 1/64 of its tile and worse
    depthwise = layer(c_in=256.0, c_out=256.0, groups=256.0)
    timing = settle(RULES.expected(depthwise, find_machine("h100-sxm")))
    assert timing.busy_s["matrix"] == 0.0
    assert timing.busy_s["vector"] > 0.0


@given(layers, st.sampled_from(MACHINES))
def test_expected_is_never_below_the_bound(op: Conv, name: str) -> None:
    machine = find_machine(name)
    assert settle(RULES.bound(op, machine)).time_s <= seconds(op, machine) * (1 + 1e-12)


@given(st.lists(layers, min_size=2, max_size=5), st.sampled_from(MACHINES))
def test_an_array_is_its_scalars(ops: list[Conv], name: str) -> None:
    # design §2; Winograd, plain and tiled ways are mixed in one array here
    machine = find_machine(name)
    first = ops[0]
    fields: dict[str, Any] = {f: np.array([getattr(o, f) for o in ops]) for f in conv._NUMBERS}
    many = Conv(**fields, direction=first.direction, acts=first.acts, weights=first.weights)
    one = []
    for o in ops:
        sizes = {f: getattr(o, f) for f in conv._NUMBERS}
        one.append(
            float(seconds(Conv(**sizes, direction=first.direction, acts=first.acts, weights=first.acts), machine))
        )
    np.testing.assert_allclose(seconds(many, machine), one, rtol=1e-12)


@given(layers, st.sampled_from(MACHINES), st.integers(2, 5))
def test_more_images_never_take_less_time(op: Conv, name: str, times: int) -> None:
    machine = find_machine(name)
    less, more = seconds(op, machine), seconds(replace(op, batch=op.batch * times), machine)
    assert less <= more * 1.01  # more tiles draw on more multiprocessors: a hair faster where nothing else binds


def test_a_filter_larger_than_its_image_is_refused() -> None:
    # ⌊…⌋ + 1 would be 0 or negative: a negative count of operations, silently
    with pytest.raises(RidgepointError, match="larger than its padded image"):
        RULES.expected(layer(h=2.0, kh=7.0, pad_h=0.0), find_machine("t4"))


def test_an_unknown_direction_is_refused() -> None:
    for rule in (RULES.expected, RULES.bound):
        with pytest.raises(RidgepointError, match="sideways"):
            rule(layer(direction="sideways"), find_machine("t4"))


@pytest.mark.parametrize("name", ["v100-sxm-16gb", "p100-pcie", "gtx-1080ti", "titan-xp"])
def test_measured_convolutions(name: str, shared: Path) -> None:
    # DeepBench, cuDNN of 2016 to 2020, floating point: the median of each direction; P100 scatters most
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with gzip.open(shared / "measurements" / "kernels.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            if (
                row["op"] == "conv2d"
                and row["source"] == "deepbench"
                and row["machine"] == name
                and row["dtype"] != "int8"
            ):
                extra = json.loads(row["extra"])
                extra |= {"batch": row["batch"], "pad_h": extra["pad"], "pad_w": extra["pad_w"], "us": row["time_us"]}
                groups.setdefault((row["dtype"], extra.get("dir", "fwd")), []).append(extra)
    for (dtype, direction), rows in groups.items():
        fields: dict[str, Any] = {f: np.array([float(r[f]) for r in rows]) for f in conv._NUMBERS}
        op = Conv(**fields, direction=direction, acts=dtype, weights=dtype)
        measured = np.array([float(r["us"]) for r in rows]) * 1e-6
        error = np.abs(seconds(op, find_machine(name)) / measured - 1.0)
        assert np.median(error) < 0.45, (dtype, direction, np.median(error))


@pytest.mark.parametrize(("name", "most"), [("v100-pcie", 0.15), ("p100-pcie", 0.15), ("t4", 0.18)])
def test_measured_pytorch_convolutions(name: str, most: float, shared: Path) -> None:
    # 3 × 3 filters on images of 5 to 150 pixels and any number of channels, cuDNN 8 by its heuristics
    table = read_table(shared / "measurements" / "kernels.csv.gz")
    columns = zip(table.text["op"], table.text["source"], table.text["machine"], strict=True)
    rows = [i for i, key in enumerate(columns) if key == ("conv2d", "neusight", name)]
    result = predict_kernels(express(table.take(np.array(rows)), BUILDERS))
    assert errors(result.measured, result.predicted)[0] < most


def test_a_filter_of_one_position_is_a_plain_product() -> None:
    """A 1 × 1 convolution takes what its matrix product takes, up to tiles that convolutions' menus lack."""
    layer = Conv(batch=64.0, c_in=256.0, c_out=512.0, h=28.0, w=28.0, kh=1.0, kw=1.0, acts="fp16", weights="fp16")
    product = Gemm(m=64.0 * 28 * 28, n=512.0, k=256.0, acts="fp16", weights="fp16", out="fp16")
    for name in ("a100-sxm-80gb", "rtx-4090", "h100-sxm"):
        machine = find_machine(name)
        one = float(settle(conv.expected(layer, machine)).time_s)
        assert one == pytest.approx(float(settle(gemm.expected(product, machine)).time_s), rel=0.1), name


def rate(machine: str, **changes: Any) -> float:
    """Operations per second of a layer in 32 bits."""
    op = layer(acts="fp32", weights="fp32", **changes)
    return float(RULES.flop(op) / seconds(op, find_machine(machine)))


@pytest.mark.parametrize("machine", ["raspberry-pi-4", "raspberry-pi-3b-plus", "i7-7700k", "loongson-3a5000"])
def test_few_channels_cost_a_cpu_more_than_their_operations(machine: str) -> None:
    # columns are loaded, packed and stored for the channels that they meet: with few of them that takes longest
    sizes = (16.0, 64.0, 256.0)
    rates = [
        rate(machine, c_in=c, c_out=c, kh=1.0, kw=1.0, pad_h=0.0, pad_w=0.0, batch=1.0, h=56.0, w=56.0) for c in sizes
    ]
    assert rates == sorted(rates)
    assert rates[-1] > 2.0 * rates[0]
    assert rates[-1] < find_machine(machine).arithmetic("fp32").flop_per_s


def test_winograd_pays_on_a_cpu_with_many_channels_alone() -> None:
    # its transforms work on single channels: what many of them share (Lavin and Gray 2016, section 4.1.1)
    peak = find_machine("raspberry-pi-4").arithmetic("fp32").flop_per_s
    assert rate("raspberry-pi-4", c_in=256.0, c_out=256.0) > peak
    assert rate("raspberry-pi-4", c_in=8.0, c_out=8.0) < 0.5 * peak


def test_cores_share_a_convolution_but_for_its_serial_part() -> None:
    # Amdahl 1967: four cores reach less than four times what one does, and never less than one
    one, four = (rate(f"raspberry-pi-4@threads={n}", c_in=128.0, c_out=128.0, batch=1.0) for n in (1, 4))
    assert 2.0 < four / one < 4.0


def test_cores_that_issue_in_order_reach_less_of_their_peak() -> None:
    # Cortex-A53 beside A72 on one chip: loads hide behind nothing
    big, little = find_machine("rk3399@threads=1"), find_machine("rk3399@little-threads=1")
    assert little.device.family == "arm_in_order"
    op = layer(acts="fp32", weights="fp32", batch=1.0, h=28.0, w=28.0)
    part = [RULES.flop(op) / seconds(op, m) / m.arithmetic("fp32").flop_per_s for m in (big, little)]
    assert part[1] < 0.8 * part[0]
