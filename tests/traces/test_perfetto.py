"""Time lines for Perfetto (issue 7): what is written and read back by ``ridgepoint trace`` tells the same times."""

import gzip
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.traces.compare import compare
from ridgepoint.traces.events import columns
from ridgepoint.traces.file import parsed
from ridgepoint.traces.perfetto import Span, device_events, document, write
from ridgepoint.traces.profile import Profile, profile, read_profile
from ridgepoint.traces.schedule_line import trace as schedule_trace
from ridgepoint.traces.work_line import estimate_trace
from ridgepoint.training.schedule import simulate

ROUNDING = 1e-5
"""Times in a trace are whole nanoseconds; the shortest kernels take some thousand."""


def read(found) -> Profile:
    return profile(columns(parsed(json.dumps(found, allow_nan=False).encode()), "export"))


SEQUENTIAL = {
    "decode": lambda: rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=32, context=8192)),
    "experts": lambda: rp.estimate("deepseek-v3", on="8xh200-sxm", task=rp.Decode(batch=128, context=4096)),
    "generate": lambda: rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Generate(batch=4, prompt=1000, output=200)),
    "network": lambda: rp.estimate("resnet50", on="a100-sxm-80gb"),
}


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_an_estimate_comes_back(name):
    """The whole, and every component: its seconds less its launches, which are gaps before its kernels."""
    est = SEQUENTIAL[name]()
    found = read(estimate_trace(est))
    assert found.span_s == pytest.approx(est.time_s, rel=ROUNDING)
    seconds = {row.name: row.time_s for row in found.components}
    parts = [c for c in est.cost.components if c.kind not in ("host", "delay")]
    expected: dict[str, float] = {}
    for c in parts:
        own = float(c.time_s) - float(c.busy_s.get("launch", 0.0))
        expected[c.label] = expected.get(c.label, 0.0) + own
    assert seconds == pytest.approx({k: v for k, v in expected.items() if v > 0.0}, rel=0.01, abs=2e-6)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_prediction_beside_its_own_export_differs_in_nothing(name):
    est = SEQUENTIAL[name]()
    beside = compare(read(estimate_trace(est)), est, runs=1.0)
    assert beside.whole.ratio == pytest.approx(1.0, rel=ROUNDING)
    assert beside.components
    assert all(row.ratio == pytest.approx(1.0) for row in (*beside.kinds, *beside.components))


@pytest.mark.parametrize(
    ("task", "technique"),
    [
        (rp.Generate(batch=4, prompt=500, output=100), "speculative-decoding"),
        (rp.Generate(batch=4, prompt=500, output=100), "early-exit"),
        (rp.Decode(batch=4, context=4000), "weight-streaming"),
        (rp.Train(batch=32, seq=2048), "stragglers"),
        (rp.Train(batch=32, seq=2048), "local-updates"),
    ],
)
def test_what_is_expected_and_what_waits_is_drawn_as_long_as_it_counts(task, technique):
    """Chances, the slowest of many copies, and works side by side: the time line ends when the estimate does."""
    est = rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=task, apply=[technique])
    assert read(estimate_trace(est)).span_s == pytest.approx(est.time_s, rel=1e-4)


@pytest.mark.parametrize("most", [10, 1000, 100_000])
def test_the_whole_is_as_long_however_much_is_drawn(most):
    """Repetitions that there is no room for are drawn together: executions and times stay."""
    est = SEQUENTIAL["generate"]()
    drawn = estimate_trace(est, most)
    found = read(drawn)
    assert found.span_s == pytest.approx(est.time_s, rel=ROUNDING)
    runs = {c.label: float(np.sum(c.count)) for c in est.cost.components if c.kind != "host"}
    counted = {row.name: row.count for row in found.components}
    for label, count in runs.items():
        assert counted[label] == pytest.approx(count)
    if most < 100_000:
        assert sum(e["ph"] == "X" for e in drawn["traceEvents"]) < max(8 * most, 400)


@pytest.mark.parametrize(
    "plan",
    [
        rp.Plan(tp=8),
        rp.Plan(dp=8, zero_stage=3),
        rp.Plan(pp=4, tp=2, micro_batch=1),
        rp.Plan(pp=4, tp=2, micro_batch=2, schedule="zero_bubble"),
    ],
)
def test_a_training_step_with_overlap_and_pipelines(plan):
    """Overlap is drawn side by side, every stage of a pipeline is a device; the step is as long as estimated."""
    est = rp.estimate("llama-3.2-1b", on="8xh100-sxm", task=rp.Train(batch=16, seq=2048), plan=plan)
    found = read(estimate_trace(est))
    assert len(found.devices) == (4 if plan.pp else 1)
    assert found.span_s == pytest.approx(est.time_s, rel=0.02)
    assert all(device.idle.unknown == 0 for device in found.devices)
    if plan.zero_stage:
        assert sum(device.hidden for device in found.devices) > 0


def test_a_schedule_comes_back():
    """Idle time of every device is the bubble of its stage."""
    line = simulate([1.0, 2.0, 1.0], [2.0, 2.0, 2.0], microbatches=5, schedule="1f1b", send_s=0.25)
    found = read(schedule_trace(line))
    assert found.span_s == pytest.approx(line.makespan_s)
    for stage, device in enumerate(found.devices):
        assert device.idle.total * 1e-9 == pytest.approx(line.idle_s(stage))
    assert {row.name: row.count for row in found.components} == {"forward": 15.0, "backward": 15.0}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6), st.integers(1, 10**5), st.integers(0, 2), st.sampled_from(["gemm", "collective"])
        ),
        min_size=1,
        max_size=20,
    )
)
def test_spans_come_back_to_the_nanosecond(drawn):
    spans = [
        Span(f"op {i}", start * 1e-9, (start + length) * 1e-9, device, kind=kind, component=f"part {i % 3}")
        for i, (start, length, device, kind) in enumerate(drawn)
    ]
    found = read(document(device_events(spans, {n: f"device {n}" for n in range(3)})))
    for device in found.devices:
        mine = [s for s in spans if s.device == device.number]
        ticks = {t for s in mine for t in range(round(s.start_s * 1e9), round(s.end_s * 1e9))}
        assert device.busy == len(ticks)
    assert {r.name: round(r.total_s * 1e9) for r in found.ops} == {
        s.name: round((s.end_s - s.start_s) * 1e9) for s in spans
    }


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=20))
def test_no_two_events_of_a_stream_overlap(drawn):
    """Viewers draw overlapping events of one thread as if one had called the other."""
    spans = [Span("x", start * 1e-6, (start + length) * 1e-6) for start, length in drawn]
    events = [e for e in device_events(spans, {0: "d"}) if e["ph"] == "X"]
    for thread in {e["tid"] for e in events}:
        ends = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["tid"] == thread)
        assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(ends))


def test_files_are_compressed_by_their_name(tmp_path):
    found = estimate_trace(SEQUENTIAL["network"]())
    write(found, tmp_path / "a.json")
    write(found, tmp_path / "a.json.gz")
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == (tmp_path / "a.json").read_bytes()
    assert read_profile(tmp_path / "a.json.gz").ops == read_profile(tmp_path / "a.json").ops


def test_a_sweep_has_no_time_line():
    with pytest.raises(RidgepointError, match="of one scenario"):
        estimate_trace(
            rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=np.array([1.0, 2.0]), context=10))
        )
