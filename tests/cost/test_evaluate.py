"""What a work takes: limits, components, occurrences, unknown ops (design §3)."""

import math
from dataclasses import replace

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.rules import BOUND
from ridgepoint.machines.catalog import find_machine
from ridgepoint.numeric import Num
from ridgepoint.ops import Collective, Delay, Gemm, Stream
from ridgepoint.work import Mix, Op, Pipeline, Repeat, Seq, Stage

H100 = find_machine("h100-sxm")
PEAK, BANDWIDTH = 989.4e12, 3.35e12


# design §4: bound = peak rates, each input once, each output once, no latency
def test_the_limit_of_a_product_is_the_roofline():
    wide = Gemm(m=8192.0, n=8192.0, k=8192.0)
    assert evaluate(wide, H100, mode=BOUND).time_s == pytest.approx(2 * 8192.0**3 / PEAK, rel=1e-3)
    narrow = Gemm(m=1.0, n=8192.0, k=8192.0)
    moved = 2.0 * (8192.0**2 + 2 * 8192.0)
    assert evaluate(narrow, H100, mode=BOUND).time_s == pytest.approx(moved / BANDWIDTH, rel=1e-9)
    assert evaluate(narrow, H100, mode=BOUND).bottleneck == "hbm"


# design §3: limit(r) = the speed-up if r were infinitely fast
def test_limits_are_amdahls():
    cost = evaluate(Seq(Delay(seconds=3.0), Repeat(2.0, Stream(read_bytes=3.35e12, write_bytes=0.0))), H100, mode=BOUND)
    assert cost.time_s == pytest.approx(5.0)
    assert cost.limit("delay") == pytest.approx(5.0 / 2.0)
    assert cost.limit("hbm") == pytest.approx(5.0 / 3.0)
    assert cost.limit("no such thing") == 1.0
    assert cost.timing_at({"hbm": 2.0}).time_s == pytest.approx(4.0)
    assert cost.timing_at({"delay": math.inf, "hbm": math.inf}).time_s == 0.0


def test_work_without_time_has_no_share_and_limits_nothing():
    cost = evaluate(Repeat(0.0, Delay(seconds=1.0)), H100)
    assert cost.time_s == 0.0
    assert cost.shares == {}
    assert cost.limit("delay") == 1.0


def test_occurrences_multiply_down_the_tree():
    gemm = Gemm(m=64.0, n=64.0, k=64.0, label="g")
    step = Seq(gemm, Repeat(3.0, Mix((0.5, gemm), (0.5, Repeat(4.0, gemm)))))
    cost = evaluate(step, H100)
    assert sum(count for _, count in cost.occurrences) == 1 + 3 * (0.5 + 2.0)
    assert cost.flop == {"matrix/bf16": pytest.approx(8.5 * 2 * 64.0**3)}
    (component,) = cost.components
    assert component.count == 8.5
    assert component.time_s == pytest.approx(cost.time_s)


def test_a_pipeline_counts_what_one_device_does():
    """Messages go both ways in training; a device does the mean of the stages."""
    gemm = Gemm(m=64.0, n=64.0, k=64.0, label="work")
    hop = Collective(operation="send_recv", bytes=1e6, ranks=2.0, label="hop")
    work = Pipeline((Stage(1.0, gemm, gemm, send=hop), Stage(1.0, Seq(gemm, gemm), gemm)), 8.0, "1f1b")
    counts = {c.label: c.count for c in evaluate(work, find_machine("2xh100-sxm")).components}
    assert counts == {"work": 8.0 * 5 / 2, "hop": 8.0 * 2 / 2}


def test_components_keep_ops_of_one_label_together_and_say_what_binds_them():
    work = Seq(
        Gemm(m=8192.0, n=8192.0, k=8192.0, label="big"),
        Gemm(m=8192.0, n=8192.0, k=8192.0, label="big"),
        Stream(read_bytes=1e9, write_bytes=1e9, label="copy"),
        Delay(seconds=1e-3),
    )
    components = {c.label: c for c in evaluate(work, H100).components}
    assert list(components) == ["big", "copy", "delay"]
    assert components["big"].count == 2.0
    assert components["big"].flop == pytest.approx(4 * 8192.0**3)
    assert components["copy"].bytes == 2e9
    assert (
        max(components["copy"].critical_by_resource, key=components["copy"].critical_by_resource.__getitem__) == "hbm"
    )
    assert all(c.bound_s <= c.time_s for c in components.values())


def test_the_bottleneck_of_a_sweep_is_named_point_by_point():
    cost = evaluate(Gemm(m=np.array([1.0, 8192.0]), n=8192.0, k=8192.0), H100)
    assert cost.bottleneck[0] == "hbm"
    assert cost.bottleneck[1] != "hbm"


def test_a_format_that_the_machine_lacks_is_noted():
    """Design §4: it runs in the next wider one, and the estimate says so."""
    cost = evaluate(Gemm(m=64.0, n=64.0, k=64.0, acts="fp8", weights="fp8"), find_machine("a100-sxm-80gb"))
    assert any("fp8" in note for note in cost.notes)
    assert set(cost.flop) == {"matrix/bf16"}


def test_errors_of_one_table_go_together_and_tables_are_independent():
    gemm, stream = Gemm(m=512.0, n=512.0, k=512.0), Stream(read_bytes=1e8, write_bytes=1e8)
    spread = evaluate(gemm, H100).relative_spread
    assert spread == pytest.approx(H100.coefficients.gemm.spread)
    assert evaluate(Repeat(10.0, gemm), H100).relative_spread == pytest.approx(spread)
    mixed = evaluate(Seq(gemm, stream), H100).relative_spread
    assert mixed < max(spread, H100.coefficients.stream.spread)


# design §2: no silent zero
def test_an_unknown_kind_is_timed_by_its_bytes_and_named():
    class Odd(Op):
        kind = "odd"

    op = Odd(label="odd.one")
    with pytest.raises(RidgepointError, match=r"odd\.one") as error:
        evaluate(Seq(Delay(seconds=1.0), op), H100, strict=True)
    assert error.value.kind == "unknown_op"
    assert evaluate(op, H100).time_s == pytest.approx(H100.coefficients.device.launch_s)
    assert evaluate(op, H100).unknown_share == pytest.approx(1.0)


@pytest.mark.parametrize("mode", ["expected", "bound"])
def test_a_part_of_a_work_takes_what_it_takes_by_itself(mode):
    """Timings of an earlier cost are used again on the same machine alone: elsewhere they would be another machine's."""
    built = rp.estimate(
        "llama-3.1-8b", on="h100-sxm", task=rp.Generate(batch=np.array([1.0, 8.0]), prompt=512, output=8)
    ).built
    assert built.tpot is not None
    fast, slow = find_machine("h100-sxm"), find_machine("a100-sxm-80gb")
    whole = evaluate(built.work, fast, mode)
    for machine in (fast, slow):
        part = evaluate(built.tpot, machine, mode, like=whole)
        alone = evaluate(built.tpot, machine, mode)
        assert np.array_equal(part.time_s, alone.time_s)
        assert {r: np.asarray(s).tolist() for r, s in part.busy_s.items()} == {
            r: np.asarray(s).tolist() for r, s in alone.busy_s.items()
        }


# A table of step times needs the time alone; it must be the one that the full answer has, to the last bit.
@pytest.mark.parametrize("speed", [{}, {"hbm": 0.7, "matrix": 1.3}, {"launch": math.inf}])
def test_the_time_alone_is_that_of_the_full_timing(speed):
    from ridgepoint.work import Overlap

    rows = np.arange(1.0, 3000.0)
    product = Gemm(m=rows, n=4096.0, k=4096.0)
    parts = (
        product,
        Stream(read_bytes=1e6 * rows, write_bytes=0.0),
        Gemm(m=8.0, n=512.0, k=512.0),
        Delay(seconds=1e-6),
    )
    for work in (Repeat(3.0, Seq(*parts)), Seq(product, Repeat(rows, Delay(seconds=2e-6))), Overlap(*parts), Seq()):
        cost = evaluate(work, H100)
        assert np.array_equal(cost.time_at(speed), cost.timing_at(speed).everywhere().time_s)


def test_ops_of_few_points_are_remembered_each_for_itself():
    """Other sizes, other shapes and other formats must never get the answer of an op that was asked for before."""
    rows: list[Num] = [np.array([1.0, 8.0, 64.0]), np.array([1.0, 8.0, 65.0]), np.array([[1.0], [8.0], [64.0]]), 8.0]
    asked = [Gemm(m=m, n=n, k=4096.0, acts=acts) for m in rows for n in (512.0, rows[0]) for acts in ("bf16", "fp32")]
    warm, _ = find_machine("a100-sxm-80gb"), [evaluate(op, find_machine("a100-sxm-80gb")).time_s for op in asked]
    for op in asked:
        cold = replace(warm)
        assert np.array_equal(evaluate(op, warm).time_s, evaluate(op, cold).time_s)
        assert evaluate(op, warm).timing_at({"hbm": 2.0}).time_s == pytest.approx(
            evaluate(op, cold).timing_at({"hbm": 2.0}).time_s
        )


def test_an_op_of_few_points_in_a_large_sweep_takes_what_it_takes_alone():
    """Its groups are those of the sweep, and another clock is applied to the groups: neither may mix up its points."""
    few, many = np.array([[1.0], [300.0]]), np.tile([1.0, 2.0, 4.0], 1000)[None, :]
    work = Seq(Gemm(m=few, n=4096.0, k=4096.0), Gemm(m=many, n=4096.0, k=4096.0))
    both = evaluate(work, H100)
    for speed in ({}, {"hbm": 2.0, "matrix": 0.5}):
        alone = [evaluate(part, H100).timing_at(speed).everywhere().time_s for part in work.parts]
        assert both.timing_at(speed).everywhere().time_s == pytest.approx(alone[0] + alone[1], rel=1e-12)
        assert np.array_equal(both.time_at(speed), both.timing_at(speed).everywhere().time_s)
