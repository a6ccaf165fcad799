"""A profiler trace as a page for the terminal: who waited for whom, where the time went; a prediction beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import INDENT, indented, notes, section
from ridgepoint.report.text import bar, count, flow, percent, plural, ratio
from ridgepoint.traces.compare import Beside, Comparison
from ridgepoint.traces.launches import Idle
from ridgepoint.traces.profile import NS, Profile, Row
from ridgepoint.traces.verdict import WORDS
from ridgepoint.units import duration

LEAST = 0.01
"""Part of either side below which a comparison's row is folded."""
STRETCHES = 3
"""Launch-bound stretches that are shown, longest first."""
NONE = "–"
PRODUCT = "product, m × k × n"


def trace_page(found: Profile, width: int, beside: Comparison | None = None, top: int = 12) -> RenderableType:
    """The whole report for a terminal of ``width`` columns, with ``top`` rows in each table."""
    return Group(*_sections(found, width, beside, top))


def _sections(found: Profile, width: int, beside: Comparison | None, top: int) -> Iterator[RenderableType]:
    yield _headline(found)
    yield Text("")
    rows: list[list[Cell]] = [[a, Text(b, style="bold"), Text(c, style="dim")] for a, b, c in trace_facts(found)]
    yield indented(fitted(["", "", ""], rows, width - INDENT, wordy=(2,), left=(0, 1)))
    yield Text("")
    yield Text(flow(found.verdict.sentence.split(" "), width), style="bold")
    yield Text("")
    yield section("Where the span goes", _shares(found, width - INDENT))
    yield Text("")
    yield section("Time by op", _rows(found.ops, width - INDENT, top, "op"))
    yield Text("")
    yield section("Time by component", _rows(found.components, width - INDENT, top, "component", "events"))
    yield from _launch_bound(found, width)
    if beside is not None:
        yield from _beside(beside, width, top)
    warnings = (*found.warnings, *(() if beside is None else beside.warnings))
    yield from notes("Warnings", warnings, "yellow")
    yield from notes("Assumptions", () if beside is None else beside.estimate.assumptions, "dim")


def subject(found: Profile) -> str:
    """What was recorded: devices and steps in words."""
    names = dict.fromkeys(device.name for device in found.devices)
    if found.on_host:
        where = "processor"
    else:
        many = f"{len(found.devices)} × " if len(found.devices) > len(names) else ""
        where = many + ", ".join(names)
    steps = found.steps_s
    told = f" · {plural(len(steps), 'step')} of {duration(float(steps.mean()))}" if len(steps) else ""
    return f"{where}{told} · {plural(len(found.trace), 'event')}"


def _headline(found: Profile) -> Text:
    return Text.assemble((found.trace.title, "bold"), f" · {subject(found)}")


def trace_facts(found: Profile) -> Iterator[tuple[str, str, str]]:
    """Key figures: label, figure, remark."""
    yield "Span", duration(found.span_s), "from the first event to the last end"
    busy = percent(found.busy_s / found.span_s) if found.span_s else NONE
    if found.on_host:
        yield "In operators", duration(found.busy_s), f"{busy} of the span"
        yield "Between operators", duration(found.idle_s), "Python, framework, input"
        return
    for device in found.devices:
        which = f" {device.number}" if len(found.devices) > 1 else ""
        part = percent(device.busy * NS / found.span_s) if found.span_s else NONE
        streams = plural(device.streams, "stream")
        yield (
            f"Device{which} busy",
            duration(device.busy * NS),
            f"{part} of the span; {plural(device.kernels, 'event')} on {streams}",
        )
        yield f"Device{which} idle", duration(device.idle.total * NS), ", ".join(_causes(device.idle)) or "never"
        if device.communicating:
            hidden = f"{percent(device.hidden / device.communicating)} beside computation"
            exposed = f"{duration(device.exposed[1] * NS)} exposed"
            yield f"Communication{which}", duration(device.communicating * NS), f"{hidden}, {exposed}"
    launches = found.launches
    if launches is not None:
        told = launches.delay_s
        extremes = (
            f"p90 {duration(told['p90'])}, largest {duration(told['largest'])}; {plural(launches.kernels, 'kernel')}"
        )
        yield "Launch to start", f"{duration(told['p50'])}", f"median; {extremes}"
    waits = f"{duration(found.waiting_s)} of it in calls that wait for a device" if found.waiting_s else ""
    if found.host_busy_s:
        yield "Host busy", duration(found.host_busy_s), waits


def _causes(idle: Idle) -> Iterator[str]:
    """What a device waited for, most first; what is less than a hundredth is not worth words."""
    words = {
        "host": "not launched",
        "launch": "launching",
        "queued": "queued",
        "unknown": "unknown",
        "end": "at the end",
    }
    for name, nanoseconds in sorted(vars(idle).items(), key=lambda item: -int(item[1])):
        if nanoseconds > LEAST * idle.total:
            yield f"{words[name]} {duration(nanoseconds * NS)}"


def _shares(found: Profile, width: int) -> Table:
    rows: list[list[Cell]] = [
        [name, percent(share), Text(bar(share, 24), style="cyan")]
        for name, share in found.verdict.shares.items()
        if share > 0.0
    ]
    return fitted(["", "", ""], rows, width, wordy=(0,), left=(2,))


def _rows(rows: Sequence[Row], width: int, top: int, title: str, counted: str = "runs") -> Table:
    whole = sum(row.time_s for row in rows) or 1.0
    shown = list(rows[:top]) if len(rows) > top + 1 else list(rows)
    cells: list[list[Cell]] = [
        [
            row.name,
            row.kind,
            count(row.count),
            duration(row.time_s),
            percent(row.time_s / whole),
            Text(bar(row.time_s / whole, 10), style="cyan"),
        ]
        for row in shown
    ]
    rest = rows[len(shown) :]
    if rest:
        seconds = sum(row.time_s for row in rest)
        runs = count(sum(row.count for row in rest))
        cells.append([f"other ({len(rest)})", "", runs, duration(seconds), percent(seconds / whole), ""])
    return fitted([title, "kind", counted, "own time", "share", ""], cells, width, wordy=(0,), left=(1, 5))


def _launch_bound(found: Profile, width: int) -> Iterator[RenderableType]:
    stretches = [s for device in found.devices for s in device.stretches]
    if not stretches:
        return
    whole = sum(s.end - s.start for s in stretches) * NS
    waited = whole - sum(s.busy for s in stretches) * NS
    rows: list[list[Cell]] = [
        [
            found.component_of(s.first),
            duration((s.start - found.trace.begin) * NS),
            duration((s.end - s.start) * NS),
            count(float(s.kernels)),
            percent(s.busy / (s.end - s.start)),
        ]
        for s in sorted(stretches, key=lambda s: s.start - s.end)[:STRETCHES]
    ]
    times = "1 stretch" if len(stretches) == 1 else f"{len(stretches):,} stretches"
    title = f"Launch-bound: {times} of {duration(whole)}, in which the device waits {duration(waited)} for launches"
    yield Text("")
    yield section(title, fitted(["longest in", "at", "length", "kernels", "busy"], rows, width - INDENT))


def _beside(beside: Comparison, width: int, top: int) -> Iterator[RenderableType]:
    yield Text("")
    tables: list[RenderableType] = [_comparison(beside, beside.kinds, width - INDENT, top, "kind")]
    for title, rows in (("component", beside.components), (PRODUCT, beside.products)):
        if rows:
            tables += [Text(""), _comparison(beside, rows, width - INDENT, top, title)]
    said = Text(beside_words(beside), style="bold")
    yield section("Measured beside predicted", said, Text(""), *tables)


def beside_words(beside: Comparison) -> str:
    """The comparison in a sentence."""
    given = beside.estimate.scenario
    low, high = beside.estimate.interval_s
    times = f" (mean of {beside.runs:g})" if beside.runs != 1.0 else ""
    measured, predicted = beside.whole.measured_s or 0.0, beside.whole.predicted_s or 0.0
    inside = "inside" if beside.within else "outside"
    return (
        f"{given.task.name} of {given.model.name} on {given.machine.name}: measured {duration(measured)}{times}, "
        f"predicted {duration(predicted)} ({ratio(predicted / measured) if measured else NONE}); "
        f"measured is {inside} {duration(low)} – {duration(high)}"
    )


def comparison_cells(beside: Comparison, rows: Sequence[Beside], top: int, title: str) -> list[list[str]]:
    """Rows of a comparison with small ones folded, and the whole below them."""
    whole = beside.whole

    def large(one: Beside) -> bool:
        sides = ((one.measured_s, whole.measured_s), (one.predicted_s, whole.predicted_s))
        return any((part or 0.0) >= LEAST * (total or 0.0) for part, total in sides)

    shown = [one for one in rows if large(one)][:top]
    rest = [one for one in rows if one not in shown]
    if len(rest) == 1:
        shown, rest = [*shown, *rest], []
    cells = [_side_by_side(one, _kind_words(one.name) if title == "kind" else one.name) for one in shown]
    if rest:
        sums = (sum(r.measured_s or 0.0 for r in rest), sum(r.predicted_s or 0.0 for r in rest))
        cells.append(_side_by_side(Beside("", *sums), f"other ({len(rest)})"))
    # Products are a part of the whole only.
    return cells if title == PRODUCT else [*cells, _side_by_side(whole, "whole")]


def _side_by_side(one: Beside, label: str) -> list[str]:
    sides = [NONE if side is None else duration(side) for side in (one.measured_s, one.predicted_s)]
    return [label, *sides, NONE if one.ratio is None else ratio(one.ratio)]


def _kind_words(kind: str) -> str:
    return "launches, host, idle" if kind == "host" else WORDS.get(kind, kind)


def _comparison(beside: Comparison, rows: Sequence[Beside], width: int, top: int, title: str) -> Table:
    cells: list[list[Cell]] = [list(row) for row in comparison_cells(beside, rows, top, title)]
    return fitted([title, "measured", "predicted", "ratio"], cells, width)
