"""A pipeline's schedule as a Gantt chart, and memory over the step: a row per stage, which takes the focus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ridgepoint.report.palette import paint
from ridgepoint.report.svg import at, chart, element, line, pixel, titled, told, words
from ridgepoint.report.text import gigabytes, percent
from ridgepoint.traces.schedule_line import kind
from ridgepoint.training.schedule import Span, TimeLine
from ridgepoint.training.timeline import MemoryLine, StageMemory
from ridgepoint.units import duration

ROLES = {"forward": "memory", "backward": "matrix", "weights": "vector"}
NAMES = {"forward": "forward", "backward": "backward", "weights": "gradient of weights"}
_ROW, _BAR, _LEFT, _FOOT = 26.0, 20.0, 9.0, 22.0
"""Pixels of a row and of its bar; per cent of the width for names; pixels of the axis."""
_NARROWEST = 0.12
"""Per cent of the width below which passes are drawn together."""
_COLUMNS = 160
"""Stretches of time of which the most memory is drawn."""


def gantt_svg(drawn: TimeLine) -> str:
    """Every pass of every stage over the time of the step; what is blank is the bubble.

    >>> from ridgepoint.training.schedule import simulate
    >>> svg = gantt_svg(simulate([1.0, 1.0], [2.0, 2.0], microbatches=2, schedule="1f1b"))
    >>> svg.count("<rect"), "stage 0: idle 33 % of 9.00 s" in svg
    (8, True)
    """
    rows = [_row(drawn, stage) for stage in range(drawn.stages)]
    bottom = drawn.stages * _ROW
    said = f"Pipeline schedule of {drawn.stages} stages over {duration(drawn.makespan_s)}"
    return chart(bottom + _FOOT, said, *rows, *_axis(drawn.makespan_s, bottom))


def _axis(whole: float, bottom: float) -> Iterator[str]:
    for part in range(5):
        across = _LEFT + (100.0 - _LEFT) * part / 4
        anchor = "start" if part == 0 else "end" if part == 4 else "middle"
        yield line(across, bottom, across, bottom + 4, "rp-line")
        yield words(across, bottom + 17, duration(whole * part / 4) if part else "0", anchor, "rp-quiet")


def _row(drawn: TimeLine, stage: int) -> str:
    y, whole = stage * _ROW, drawn.makespan_s
    spans = drawn.of_stage(stage)
    many = sum(not s.work.backward for s in spans)
    said = f"stage {stage}: idle {percent(drawn.idle_s(stage) / whole)} of {duration(whole)}, {many} forward passes"
    name = words(0.0, y + 15, f"stage {stage}", css="rp-quiet")
    return titled(said, name, *(_mark(group, y, whole) for group in _together(spans, whole)))


def _together(spans: Sequence[Span], whole: float) -> Iterator[list[Span]]:
    """Passes one by one, or runs of one kind where they are too narrow to see."""
    group: list[Span] = []
    for span in spans:
        narrow = (span.end_s - span.start_s) / whole * 100.0 < _NARROWEST
        if group and not (
            narrow and kind(group[0].work) == kind(span.work) and span.start_s - group[-1].end_s < whole / 1e3
        ):
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _mark(group: Sequence[Span], y: float, whole: float) -> str:
    first, last = group[0], group[-1]
    which = kind(first.work)
    start = _LEFT + (100.0 - _LEFT) * first.start_s / whole
    wide = (100.0 - _LEFT) * (last.end_s - first.start_s) / whole
    shape = element(
        "rect",
        x=at(start),
        y=pixel(y + 2),
        width=f"{max(wide - 0.06, 0.02):.3f}%",
        height=pixel(_BAR),
        **paint(ROLES[which]),
    )
    batch = f"{first.work.microbatch}" if len(group) == 1 else f"{first.work.microbatch} to {last.work.microbatch}"
    chunk = f", chunk {first.work.chunk}" if any(s.work.chunk for s in group) else ""
    when = f"{duration(first.start_s) if first.start_s else '0'} – {duration(last.end_s)}"
    return told(f"{NAMES[which]} of micro-batch {batch}{chunk}: {when}", shape)


def memory_line_svg(memory: MemoryLine) -> str:
    """Bytes on every stage's device over the step, each row up to what a device may use; darker is what stays."""
    top = max(memory.usable_bytes, memory.peak_bytes)
    tall = _ROW * 1.7
    rows = [_memory_row(memory, stage, one, top, tall) for stage, one in enumerate(memory.stages)]
    bottom = len(memory.stages) * tall
    said = f"Memory over the step: at most {gigabytes(memory.peak_bytes)}, on stage {memory.fullest}"
    return chart(bottom + _FOOT, said, *rows, *_axis(memory.end_s, bottom))


def _memory_row(memory: MemoryLine, stage: int, one: StageMemory, top: float, tall: float) -> str:
    base, high = (stage + 1) * tall - 2, tall - 8
    stays = sum(one.stays.values())
    usable = base - high * memory.usable_bytes / top
    parts = [words(0.0, base - high / 2 + 4, f"stage {stage}", css="rp-quiet")]
    for column, size in enumerate(one.most_bytes(memory.end_s, _COLUMNS)):
        begin, end = (memory.end_s * (column + edge) / _COLUMNS for edge in (0, 1))
        x, wide = _LEFT + (100.0 - _LEFT) * begin / memory.end_s, (100.0 - _LEFT) * (end - begin) / memory.end_s
        place = {"x": at(x), "width": f"{max(wide, 0.02):.3f}%"}
        still, full = high * stays / top, high * size / top
        lower = element("rect", y=pixel(base - still), height=pixel(still), **place, **paint("launch"))
        upper = element("rect", y=pixel(base - full), height=pixel(full - still), **place, **paint("memory"))
        parts.append(
            told(f"{duration(begin) if begin else '0'} – {duration(end)}: at most {gigabytes(size)}", lower, upper)
        )
    parts.append(line(_LEFT, usable, 100.0, usable, "rp-rule", stroke_width=1.5, stroke_dasharray="4 4"))
    said = f"stage {stage}: {gigabytes(stays)} stay, at most {gigabytes(one.peak_bytes)} of {gigabytes(memory.usable_bytes)}"
    return titled(said, *parts)
