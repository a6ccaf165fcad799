"""A pipeline's schedule as a Gantt chart of characters, and as a trace that Perfetto and chrome://tracing open."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from ridgepoint.report.perfetto import Span, device_events, document
from ridgepoint.training.schedule import Pass, TimeLine
from ridgepoint.training.schedule import Span as ScheduledPass
from ridgepoint.units import duration

STYLES = {"forward": "cyan", "backward": "green", "weights": "yellow"}
MARKS = {"forward": "█", "backward": "▓", "weights": "▒"}


def kind(work: Pass) -> str:
    """forward, backward, or weights for the part that nobody waits for."""
    return "weights" if work.weights else "backward" if work.backward else "forward"


def gantt(line: TimeLine, width: int) -> Text:
    """One row per stage over the time of the step; blanks are the bubble.

    >>> from ridgepoint.training.schedule import simulate
    >>> print(gantt(simulate([1.0, 1.0], [1.0, 1.0], microbatches=2, schedule="1f1b"), 22).plain.splitlines()[0])
    stage  0 ████  ▓▓  ▓▓
    """
    room = max(width - 10, 10)
    text = Text()
    for stage in range(line.stages):
        cells: list[str] = [""] * room
        for span in line.of_stage(stage):
            first = int(span.start_s / line.makespan_s * room + 1e-9)
            last = max(int(span.end_s / line.makespan_s * room + 1e-9), first + 1)
            cells[first:last] = [kind(span.work)] * (min(last, room) - first)
        text.append(f"stage {stage:2d} ")
        for cell in cells:
            text.append(MARKS.get(cell, " "), STYLES.get(cell, ""))
        text.append("\n")
    legend = ", ".join(
        f"{mark} {name}" for name, mark in MARKS.items() if any(kind(s.work) == name for s in line.spans)
    )
    return text.append(f"{'':9}0 to {duration(line.makespan_s)}: {legend}", "dim")


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
