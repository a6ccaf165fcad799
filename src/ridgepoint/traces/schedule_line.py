"""A pipeline's schedule as a time line: a device per stage, a span per pass."""

from __future__ import annotations

from typing import Any

from ridgepoint.traces.perfetto import Span, device_events, document
from ridgepoint.training.schedule import Pass, TimeLine
from ridgepoint.training.schedule import Span as ScheduledPass


def kind(work: Pass) -> str:
    """forward, backward, or weights for the part that nobody waits for."""
    return "weights" if work.weights else "backward" if work.backward else "forward"


def pass_span(span: ScheduledPass, start_s: float = 0.0, scale: float = 1.0) -> Span:
    """A pass as work on the device of its stage, of a schedule that begins at ``start_s`` and takes ``scale`` times as long."""
    which = kind(span.work)
    told = {"microbatch": span.work.microbatch, "chunk": span.work.chunk}
    begin, end = start_s + scale * span.start_s, start_s + scale * span.end_s
    return Span(f"{which} {span.work.microbatch}", begin, end, span.stage, kind="pass", component=which, more=told)


def trace(line: TimeLine, name: str = "pipeline") -> dict[str, Any]:
    """The schedule as a trace: a device per stage, times in microseconds.

    >>> from ridgepoint.training.schedule import simulate
    >>> events = trace(simulate([1.0], [2.0], microbatches=1, schedule="1f1b"))["traceEvents"]
    >>> [(e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    [('forward 0', 0.0, 1000000.0), ('backward 0', 1000000.0, 2000000.0)]
    """
    titles = {stage: f"{name}, stage {stage}" for stage in range(line.stages)}
    return document(device_events(map(pass_span, line.spans), titles), titles.values())
