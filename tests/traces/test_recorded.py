"""The traces that ``tools/record_trace.py`` recorded with torch 2.13 on a processor: what Kineto really writes."""

from pathlib import Path

import pytest

from ridgepoint.traces.events import read_trace
from ridgepoint.traces.profile import profile

DATA = Path(__file__).parent / "data"
TRAIN = DATA / "small_net_train.json.gz"
FORWARD = Path(__file__).parents[2] / "docs" / "examples" / "small_net.trace.json.gz"


def test_fixtures_stay_small():
    assert sum(path.stat().st_size for path in (TRAIN, FORWARD)) < 200_000


def test_a_training_step_by_module():
    """Every module of the net has its forward and its backward pass, and convolutions take most of both."""
    found = profile(read_trace(TRAIN))
    assert found.on_host
    assert len(found.steps_s) == 2
    named = {row.name: row for row in found.components}
    for module in ("Net.Conv2d", "Net.Block[*].Conv2d", "Net.Block[*].BatchNorm2d", "Net.Linear"):
        assert named[module].time_s > 0.0
        assert named[f"{module} backward"].time_s > 0.0
    assert named["Net.Block[*].Conv2d backward"].kind == "conv"
    assert any(name.startswith("Optimizer.step") for name in named)
    by_kind = {row.name for row in found.by_kind}
    assert {"conv", "stream", "gemm", "host"} <= by_kind
    outside = sum(row.time_s for row in found.components if row.name == "(outside all)")
    assert outside < 0.1 * found.busy_s


def test_runs_of_operators_are_those_of_the_net():
    """Two steps of a stem and two blocks: three convolutions each, and as many gradients."""
    counts = {row.name: row.count for row in profile(read_trace(TRAIN)).ops}
    assert counts["aten::mkldnn_convolution"] == 2 * 3
    assert counts["aten::convolution_backward"] == 2 * 3
    assert counts["aten::native_batch_norm"] == 2 * 2
    assert counts["aten::addmm"] == 2


def test_modules_that_name_themselves():
    named = {row.name: row.count for row in profile(read_trace(FORWARD)).components}
    assert set(named) >= {"stem", "blocks.*", "blocks.*.conv", "blocks.*.norm", "head"}


def test_own_times_sum_to_what_the_profiler_says_is_busy():
    for path in (TRAIN, FORWARD):
        found = profile(read_trace(path))
        assert sum(row.time_s for row in found.ops) == pytest.approx(found.busy_s)
        assert found.busy_s < found.span_s
        assert max(row.total_s for row in found.ops) < found.span_s
