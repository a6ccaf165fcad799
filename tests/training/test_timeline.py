"""The schedule of an estimated layout, and how it is shown."""

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.plan import Plan
from ridgepoint.report.schedule import gantt
from ridgepoint.tasks import Train
from ridgepoint.traces.schedule_line import trace
from ridgepoint.training.layouts import laid_out
from ridgepoint.training.timeline import timeline

MODEL, MACHINE, TASK = find_model("llama-3.2-1b"), find_machine("8xa100-sxm-80gb"), Train(batch=16, seq=2048)


def layout(**plan):
    return laid_out(MODEL, MACHINE, TASK, Plan(tp=1, dp=2, micro_batch=1, **plan))


@pytest.mark.parametrize(
    "plan",
    [
        {"schedule": "1f1b"},
        {"schedule": "gpipe"},
        {"schedule": "interleaved", "chunks": 2},
        {"schedule": "zero_bubble"},
    ],
)
def test_the_simulated_pipeline_takes_the_estimated_time(plan):
    """The oracle on the real stages of a model: embedding on the first, head on the last one."""
    found = layout(pp=4, **plan)
    line = timeline(found)
    assert line.makespan_s <= found.step_time_s * 1.02
    assert line.makespan_s >= found.step_time_s * 0.75
    assert line.stages == 4


def test_one_stage_has_no_schedule():
    with pytest.raises(RidgepointError, match="one pipeline stage"):
        timeline(layout(pp=1))


def test_charts_show_every_stage_and_traces_every_pass():
    line = timeline(layout(pp=4, schedule="zero_bubble"))
    rows = gantt(line, 80).plain.splitlines()
    assert len(rows) == 5
    assert all(len(row) <= 80 for row in rows[:4])
    assert all(name in rows[-1] for name in ("forward", "backward", "weights"))
    events = [e for e in trace(line)["traceEvents"] if e["ph"] == "X"]
    assert len(events) == len(line.spans) == 3 * 4 * 8
    assert max(e["ts"] + e["dur"] for e in events) == pytest.approx(line.makespan_s * 1e6)
