"""What is said about a trace: times, idle devices, launches, overlap, verdicts; checked on runs whose answer is plain, and by
properties on random ones (issue 7, design §5).
"""

import copy
import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.traces.events import columns
from ridgepoint.traces.file import parsed
from ridgepoint.traces.profile import Profile, profile
from tests.traces.kineto import Event, Recording


def read(made: Recording, events: list[Event] | None = None) -> Profile:
    document = made.document()
    document["traceEvents"] = document["traceEvents"] if events is None else events
    return profile(columns(parsed(json.dumps(document).encode()), "test"))


def times(rows) -> dict[str, Any]:
    return {row.name: pytest.approx(row.time_s * 1e6) for row in rows}


def test_self_time_on_nested_operators():
    made = Recording()
    made.op("aten::linear", 0.0, 100.0)
    made.op("aten::t", 5.0, 10.0)
    made.op("aten::transpose", 6.0, 8.0)
    made.op("aten::addmm", 20.0, 70.0)
    made.op("aten::relu", 110.0, 10.0)
    found = read(made)
    assert times(found.ops) == {
        "aten::linear": 20.0, "aten::t": 2.0, "aten::transpose": 8.0, "aten::addmm": 70.0, "aten::relu": 10.0
    }  # fmt: skip
    assert found.on_host
    assert found.busy_s * 1e6 == pytest.approx(110.0)
    assert found.idle_s * 1e6 == pytest.approx(10.0)


def gpu() -> Recording:
    """Two products on one stream beside a collective on another, and a copy; the host is late for the last kernel."""
    made = Recording()
    made.module("Net_0", 0.0, 300.0)
    made.module("Linear_0", 5.0, 20.0)
    made.op("aten::addmm", 6.0, 12.0)
    made.kernel("sm90_xmma_gemm_bf16", 20.0, 40.0, call=(10.0, 4.0))
    made.module("Linear_1", 30.0, 20.0)
    made.op("aten::addmm", 31.0, 12.0)
    made.kernel("nvjet_tst_128x64", 60.0, 40.0, call=(35.0, 4.0))
    made.op("c10d::allreduce_", 51.0, 9.0)
    made.kernel("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(x)", 70.0, 60.0, call=(52.0, 4.0), stream=20)
    made.op("aten::relu", 180.0, 20.0)
    made.kernel("void at::native::vectorized_elementwise_kernel<4>(int)", 195.0, 5.0, call=(185.0, 4.0))
    made.op("aten::to", 205.0, 30.0)
    made.kernel("Memcpy DtoH (Device -> Pinned)", 220.0, 10.0, call=(210.0, 20.0), by="cudaMemcpyAsync")
    return made


def test_a_run_on_a_device_by_hand():
    found = read(gpu())
    (device,) = found.devices
    assert device.name == "NVIDIA H100 80GB HBM3"
    assert (device.streams, device.kernels) == (2, 5)
    assert device.busy == 110_000 + 5_000 + 10_000  # 20–130, 195–200, 220–230
    assert (device.computing, device.communicating, device.copying) == (85_000, 60_000, 10_000)
    assert device.hidden == 30_000  # 70–100
    assert device.exposed == (85_000, 30_000, 10_000)
    assert times(found.ops) == {"aten::addmm": 80.0, "c10d::allreduce_": 30.0, "aten::relu": 5.0, "aten::to": 10.0}
    assert times(found.by_kind) == {"gemm": 80.0, "collective": 30.0, "stream": 5.0, "transfer": 10.0}


def test_why_the_device_was_idle():
    """Gaps 0–20 (launch begins at 10), 130–195 (at 185), 200–220 (at 210), and 230–300, after which nothing comes."""
    idle = read(gpu()).devices[0].idle
    assert (idle.host, idle.launch, idle.queued, idle.unknown, idle.end) == (75_000, 30_000, 0, 0, 70_000)
    assert idle.total == 300_000 - 125_000


def test_components_come_from_modules_of_the_launching_thread():
    named = {row.name: row.time_s * 1e6 for row in read(gpu()).components}
    assert named == pytest.approx({"Net.Linear[0]": 40.0, "Net.Linear[1]": 40.0, "Net": 45.0})


def test_gradients_belong_to_the_module_of_their_forward_operator():
    """The engine runs on its own thread, outside all modules: only the sequence number leads back."""
    made = Recording()
    made.module("Net_0", 0.0, 50.0)
    made.module("Linear_0", 1.0, 40.0)
    made.op("aten::addmm", 2.0, 10.0, sequence=3)
    made.op("autograd::engine::evaluate_function: AddmmBackward0", 60.0, 30.0, tid=9, sequence=3, back=True)
    made.op("aten::mm", 65.0, 20.0, tid=9)
    made.op("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", 95.0, 4.0, tid=9)
    named = {row.name: row.time_s * 1e6 for row in read(made).components}
    assert named == pytest.approx({"Net.Linear": 10.0, "Net.Linear backward": 30.0, "backward": 4.0})


def test_layers_share_a_name_and_equal_leaves_keep_their_place():
    made = Recording()
    made.module("Net_0", 0.0, 1000.0)
    for layer in range(3):
        at = 10.0 + 100.0 * layer
        made.module(f"Block_{layer}", at, 90.0)
        for i in range(2):
            made.module(f"Linear_{2 * layer + i}", at + 1 + 40 * i, 30.0)
            made.op("aten::addmm", at + 2 + 40 * i, 20.0)
    named = {row.name: row.count for row in read(made).components}
    assert named == {"Net.Block[*].Linear[0]": 3.0, "Net.Block[*].Linear[1]": 3.0}


def test_named_modules_and_regions():
    made = Recording()
    made.add("user_annotation", "ProfilerStep#3", 0.0, 200.0)
    made.add("user_annotation", "module:layers.0.mlp", 1.0, 50.0)
    made.add("user_annotation", "module:layers.0.mlp.up", 2.0, 20.0)
    made.op("aten::addmm", 3.0, 10.0)
    made.add("user_annotation", "Optimizer.step#AdamW.step", 60.0, 50.0)
    made.op("aten::mul", 61.0, 7.0)
    found = read(made)
    named = {row.name: row.time_s * 1e6 for row in found.components}
    assert named == pytest.approx({"layers.*.mlp.up": 10.0, "Optimizer.step#AdamW.step": 7.0})
    assert found.steps_s.tolist() == pytest.approx([200e-6])


def test_launch_delays():
    launches = read(gpu()).launches
    assert launches is not None
    assert launches.kernels == 5
    delays = np.array([10.0, 25.0, 18.0, 10.0, 10.0])
    assert launches.delay_s["mean"] * 1e6 == pytest.approx(delays.mean())
    assert launches.delay_s["p50"] * 1e6 == pytest.approx(10.0)
    assert launches.waited_s * 1e6 == pytest.approx(6.0 + 21.0 + 14.0 + 6.0)  # the copy's call returns after its start


def paced(gap: float, length: float, kernels: int = 40) -> Recording:
    made = Recording()
    for i in range(kernels):
        made.op("aten::mul", i * gap, 6.0)
        start = i * gap + 5.0 if length < gap else max(5.0, i * length + 5.0)
        made.kernel("elementwise", start, length, call=(i * gap + 1.0, 3.0))
    return made


def test_host_bound_and_device_bound():
    slow_host, slow_device = read(paced(20.0, 4.0)), read(paced(20.0, 50.0))
    assert slow_host.verdict.bound == "host"
    assert slow_host.verdict.sentence.startswith("Host-bound: the device waits for the host")
    (stretch,) = slow_host.devices[0].stretches
    assert stretch.kernels == 40
    assert stretch.busy == 160_000
    assert slow_device.verdict.bound == "device"
    assert slow_device.devices[0].stretches == ()
    for found in (slow_host, slow_device):
        assert sum(found.verdict.shares.values()) == pytest.approx(1.0)


def test_a_processor_that_waits_for_python_is_host_bound():
    made = Recording()
    for i in range(10):
        made.op("aten::add", 100.0 * i, 10.0)
    found = read(made)
    assert found.verdict.bound == "host"
    assert "between operators" in found.verdict.sentence


def test_kernels_of_a_graph_have_their_own_names():
    """One call launches many kernels, and no operator stands behind them."""
    made = Recording()
    made.add("cuda_runtime", "cudaGraphLaunch", 0.0, 10.0, correlation=5)
    for i in range(3):
        event = made.add(
            "kernel", "void flash_fwd_kernel<1>(x)", 20.0 + 10 * i, 10.0, 7, device=0, stream=7, correlation=5
        )
        event["pid"] = 0
    found = read(made)
    assert [(r.name, r.kind, r.count) for r in found.ops] == [("flash_fwd_kernel", "attention", 3.0)]
    assert found.devices[0].idle.launch == 20_000
    assert found.launches is not None
    assert found.launches.kernels == 3


def test_kernels_without_a_call_find_their_operator_by_its_number():
    made = Recording()
    number = made.op("aten::mm", 0.0, 10.0)["args"]["External id"]
    event = made.add("kernel", "k", 20.0, 10.0, 7, device=0, stream=7, correlation=99, **{"External id": number})
    event["pid"] = 0
    found = read(made)
    assert [r.name for r in found.ops] == ["aten::mm"]
    assert found.launches is None
    assert found.devices[0].idle.unknown == 20_000


def test_mixed_clocks_are_refused():
    made = paced(20.0, 4.0)
    for event in made.events:
        if event.get("cat") == "kernel":
            event["ts"] -= 3000.0
    with pytest.raises(RidgepointError, match="different clocks: 40 of 40 kernels start before they were launched"):
        read(made)


def test_clocks_that_lie_far_apart_are_refused_without_correlations_too():
    made = Recording()
    made.op("aten::mm", 0.0, 10.0)
    made.add("kernel", "k", 9e9, 10.0, 7, device=0, stream=7)
    with pytest.raises(RidgepointError, match="different clocks"):
        read(made)


@st.composite
def recordings(draw) -> Recording:
    """Any events: nested, overlapping, of no length; several threads, streams, devices, with launches or without."""
    made = Recording()
    tick = st.integers(4, 400).map(lambda n: n / 4)
    for _ in range(draw(st.integers(1, 12))):
        name = draw(st.sampled_from(["aten::mm", "aten::add", "aten::view"]))
        made.op(name, draw(tick), draw(tick), tid=draw(st.integers(1, 2)))
    for _ in range(draw(st.integers(0, 4))):
        made.module(f"Block_{draw(st.integers(0, 2))}", draw(tick), draw(tick))
    names = ["gemm", "ncclDevKernel_AllReduce", "Memcpy HtoD (Pageable -> Device)", "Memset (Device)", "softmax"]
    for _ in range(draw(st.integers(0, 12))):
        start = draw(tick)
        call = draw(st.sampled_from([None, (start - 3.0, 2.0), (start / 2, 5.0)]))
        made.kernel(
            *(draw(st.sampled_from(names)), start, draw(tick)),
            call=call,
            stream=draw(st.integers(7, 9)),
            device=draw(st.integers(0, 1)),
        )
    return made


@given(recordings())
def test_times_are_parts_of_the_whole(made):
    found = read(made)
    trace = found.trace
    span = trace.finish - trace.begin
    own = sum(found.own[found.counted].tolist())
    if found.on_host:
        by_thread = 0
        for lane in set(trace.lane.tolist()):
            mine = (trace.lane == lane) & (trace.role >= 2)
            by_thread += len(covered(trace.start[mine], trace.end[mine]))
        assert own == 250 * by_thread
    else:
        assert own == sum(d.busy for d in found.devices)
    for rows in (found.ops, found.components, found.by_kind):
        assert sum(row.time_s for row in rows) == pytest.approx(own * 1e-9)
    for device in found.devices:
        assert device.busy + device.idle.total == span
        assert min(vars(device.idle).values()) >= 0
        assert sum(device.exposed) == device.busy
        assert device.hidden <= min(device.computing, device.communicating)
        assert device.exposed[1] == device.communicating - device.hidden
        assert max(device.computing, device.communicating, device.copying) <= device.busy
        for stretch in device.stretches:
            assert 0 <= stretch.busy <= stretch.end - stretch.start
    assert found.busy_s + found.idle_s == pytest.approx(found.span_s)
    assert sum(found.verdict.shares.values()) == pytest.approx(1.0)


def covered(start, end) -> set[int]:
    """The quarters of a microsecond that intervals cover: an oracle that counts."""
    return {tick for a, b in zip(start.tolist(), end.tolist(), strict=True) for tick in range(a // 250, b // 250)}


@given(recordings(), st.integers(0, 2**32), st.integers(0, 10**6))
def test_neither_the_order_of_events_nor_the_origin_of_time_matters(made, seed, shift):
    shuffled = copy.deepcopy(made.events)
    random.Random(seed).shuffle(shuffled)
    for event in shuffled:
        event["ts"] += shift
    one, other = read(made, made.events), read(made, shuffled)
    assert (one.ops, one.components, one.by_kind, one.kernels) == (
        other.ops,
        other.components,
        other.by_kind,
        other.kernels,
    )
    assert one.verdict == other.verdict
    for a, b in zip(one.devices, other.devices, strict=True):
        assert (a.busy, a.hidden, a.exposed, a.idle) == (b.busy, b.hidden, b.exposed, b.idle)
        assert [s.kernels for s in a.stretches] == [s.kernels for s in b.stretches]


def test_a_late_clock_is_said():
    """Everything launched before cudaDeviceSynchronize has ended when it returns, unless the device's clock is late."""
    made = paced(20.0, 4.0)
    made.add("cuda_runtime", "cudaDeviceSynchronize", 900.0, 50.0, correlation=10**6)
    assert read(made).warnings == ()
    for event in made.events:
        if event.get("cat") == "kernel":
            event["ts"] += 500.0
    (warning,) = read(made).warnings
    assert "the device's clock is late" in warning


def test_a_device_that_is_idle_with_kernels_launched_is_said():
    made = paced(1.0, 2.0, kernels=10)
    for i, event in enumerate(e for e in made.events if e.get("cat") == "kernel"):
        event["ts"] = 6.0 + 10.0 * i
    assert "idle with launched kernels" in read(made).verdict.sentence
