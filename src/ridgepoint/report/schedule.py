"""A pipeline's schedule as a Gantt chart of characters, and as a trace that Perfetto and chrome://tracing open."""

from __future__ import annotations

import json
from typing import Any

from rich.text import Text

from ridgepoint.training.schedule import Pass, TimeLine
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


def trace(line: TimeLine, name: str = "pipeline") -> dict[str, Any]:
    """The schedule in the Trace Event Format: one row per stage, times in microseconds.

    >>> from ridgepoint.training.schedule import simulate
    >>> events = trace(simulate([1.0], [2.0], microbatches=1, schedule="1f1b"))["traceEvents"]
    >>> [(e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    [('forward 0', 0.0, 1000000.0), ('backward 0', 1000000.0, 2000000.0)]
    """
    named: list[dict[str, Any]] = [{"ph": "M", "pid": 1, "name": "process_name", "args": {"name": name}}]
    named += [
        {"ph": "M", "pid": 1, "tid": stage, "name": "thread_name", "args": {"name": f"stage {stage}"}}
        for stage in range(line.stages)
    ]
    spans = [
        {
            "ph": "X",
            "pid": 1,
            "tid": span.stage,
            "name": f"{kind(span.work)} {span.work.microbatch}",
            "cat": kind(span.work),
            "ts": span.start_s * 1e6,
            "dur": (span.end_s - span.start_s) * 1e6,
            "args": {"microbatch": span.work.microbatch, "chunk": span.work.chunk},
        }
        for span in line.spans
    ]
    return {"traceEvents": [*named, *spans], "displayTimeUnit": "ms"}


def trace_text(line: TimeLine, name: str) -> str:
    """``trace`` as a file's text."""
    return json.dumps(trace(line, name))
