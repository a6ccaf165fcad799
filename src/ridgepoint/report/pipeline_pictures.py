"""The pipeline of a training step as charts: its passes, and the memory of every stage over the step."""

from __future__ import annotations

from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.report.picture import Picture
from ridgepoint.report.svg_gantt import NAMES, ROLES, gantt_svg, memory_line_svg
from ridgepoint.report.text import gigabytes
from ridgepoint.traces.schedule_line import kind
from ridgepoint.training.schedule import TimeLine
from ridgepoint.training.timeline import MemoryLine, has_pipeline, memory_line, timeline


def pipeline_pictures(est: Estimate) -> list[Picture]:
    """``pipeline`` and ``pipeline_memory`` of a step with several stages; nothing for others."""
    if est.scenario.shape or not has_pipeline(est):
        return []
    line = timeline(est)
    memory = memory_of(est, line)
    return [passes_picture(line)] + ([] if memory is None else [memory_picture(memory)])


def memory_of(est: Estimate, line: TimeLine) -> MemoryLine | None:
    """Memory over the step, where activations stay on the device."""
    try:
        return memory_line(est, line)
    except RidgepointError:  # offloaded activations lie elsewhere
        return None


def passes_picture(line: TimeLine) -> Picture:
    """Every pass of every stage."""
    key = [(ROLES[name], NAMES[name]) for name in ROLES if any(kind(s.work) == name for s in line.spans)]
    caption = "Each row is a stage, each mark a pass of one micro-batch; what is blank is the bubble."
    return Picture("pipeline", "Pipeline, pass by pass", gantt_svg(line), key, caption, wide=True)


def memory_picture(memory: MemoryLine) -> Picture:
    """Bytes on every stage's device."""
    key = [("launch", "stays: weights, states, workspaces"), ("memory", "activations of micro-batches in flight")]
    caption = f"The dashed line is what a device may use, {gigabytes(memory.usable_bytes)}."
    return Picture("pipeline_memory", "Memory over the step", memory_line_svg(memory), key, caption)
