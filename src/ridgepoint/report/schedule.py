"""A pipeline's schedule as a Gantt chart of characters."""

from __future__ import annotations

from rich.text import Text

from ridgepoint.traces.schedule_line import kind
from ridgepoint.training.schedule import TimeLine
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
