"""A pipeline's schedule as a Gantt chart of characters, and memory over the step beside it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.report.text import gigabytes
from ridgepoint.traces.schedule_line import kind
from ridgepoint.training.schedule import TimeLine
from ridgepoint.training.timeline import MemoryLine, memory_line, timeline
from ridgepoint.units import duration

STYLES = {"forward": "cyan", "backward": "green", "weights": "yellow"}
MARKS = {"forward": "█", "backward": "▓", "weights": "▒"}


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


LEVELS = " ▁▂▃▄▅▆▇█"


def memory_rows(memory: MemoryLine, width: int) -> Text:
    """One row per stage: the most bytes in each stretch of the step, on a scale up to what a device may use."""
    room = max(width - 24, 10)
    top = max(memory.usable_bytes, memory.peak_bytes)
    text = Text()
    for stage, one in enumerate(memory.stages):
        text.append(f"stage {stage:2d} ")
        heights = (most / top * (len(LEVELS) - 1) for most in one.most_bytes(memory.end_s, room))
        text.append("".join(LEVELS[max(round(height), 1)] for height in heights), "blue")
        text.append(f" {gigabytes(one.peak_bytes):>8}\n")
    return text.append(f"{'':9}at most, of the {gigabytes(memory.usable_bytes)} that a device may use", "dim")


def pipeline_page(est: Estimate, width: int, line: TimeLine | None = None) -> RenderableType:
    """The schedule and the memory of a step with several stages."""
    drawn = timeline(est) if line is None else line
    parts: list[RenderableType] = [Text("Pipeline, pass by pass", "bold"), gantt(drawn, width)]
    try:
        memory = memory_line(est, drawn)
    except RidgepointError:  # offloaded activations lie elsewhere
        return Group(*parts)
    return Group(*parts, Text(""), Text("Memory over the step", "bold"), memory_rows(memory, width))
