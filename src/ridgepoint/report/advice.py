"""Advice as a page for the terminal: the limit, remedies, the waterfall, hardware, and what does not apply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.advice.advice import Advice
from ridgepoint.advice.evidence import evidence
from ridgepoint.advice.remedies import Remedy
from ridgepoint.estimates import Estimate
from ridgepoint.report.headline import headline, summary
from ridgepoint.report.objective import shown
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import INDENT, notes, section
from ridgepoint.report.text import bar, flow, gigabytes, percent, ratio, resource
from ridgepoint.techniques.technique import Technique
from ridgepoint.units import duration

GRADES = {"exact": "same", "near": "near", "changed": "change"}
PARTS = 4
"""Parts of the machine and other machines that are shown."""


def advice_page(found: Advice, width: int, top: int, combine: bool, everything: bool) -> RenderableType:
    """The whole page for a terminal of ``width`` columns."""
    return Group(*_sections(found, width, top, combine, everything))


def _sections(found: Advice, width: int, top: int, combine: bool, everything: bool) -> Iterator[RenderableType]:
    base = found.baseline
    yield headline(base)
    yield Text("")
    yield _baseline(found, width)
    yield summary(base, width)
    yield from notes("Warnings", base.warnings, "yellow")
    yield Text("")
    yield _remedies(found, width - INDENT, top)
    yield from _presuming(found, width - INDENT)
    if combine:
        yield from _together(found, width - INDENT)
    yield from _hardware(found, width - INDENT)
    if everything:
        yield from _others(found, width - INDENT)


def _baseline(found: Advice, width: int) -> Text:
    est, memory = found.baseline, found.baseline.memory
    fits = "fits" if memory.fits else "does not fit"
    return Text(
        flow(
            [
                f"Now: {duration(float(est.time_s))},",
                f"{percent(1.0 / float(est.headroom))} of the physical limit's speed,",
                f"{gigabytes(float(memory.total_bytes))} of {gigabytes(memory.usable_bytes)} ({fits}).",
            ],
            width,
        )
    )


def _remedies(found: Advice, width: int, top: int) -> RenderableType:
    shown = found.remedies[:top]
    aim = found.objective.better if found.baseline.memory.fits else "what brings it nearest to fitting first"
    title = f"What would help ({aim}; {found.limits.quality} quality)"
    if not shown:
        wider = "" if found.limits.quality == "any" else "; --quality any tries techniques that change answers"
        return section(title, Text(f"nothing that is known here{wider}"))
    table = _table(found, shown, width)
    more = len(found.remedies) - len(shown)
    rest = [Text(f"{more} more: --top {len(found.remedies)}", style="dim")] if more else []
    return section(title, table, *rest, Text(""), *explained([r.technique for r in shown[:PARTS]]))


def _table(found: Advice, shown: Sequence[Remedy], width: int) -> Table:
    titles = ["technique", "gain", "90 % interval", "time", "memory", "fits", "answers", "then binds"]
    return fitted(titles, [_row(found, r) for r in shown], width, wordy=(0, 7), left=(6,))


def _row(found: Advice, remedy: Remedy) -> list[Cell]:
    after = remedy.changed
    low, high = remedy.interval
    machine = after.scenario.machine
    return [
        Text(remedy.technique.name, style="bold"),
        ratio(found.gain(remedy)),
        f"{ratio(low)} – {ratio(high)}" if found.objective.name == "latency" else "",
        duration(float(after.time_s)),
        ratio(remedy.memory_ratio),
        "yes" if remedy.fits else "no",
        GRADES[remedy.technique.grade] + ("" if remedy.technique.training_free else ", trained"),
        resource(machine.resource_label(after.bottleneck)),
    ]


def explained(shown: list[Technique]) -> Iterator[RenderableType]:
    """What the first ones do, their quality, papers, and how well these were reproduced."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for found in shown:
        known = evidence(found)
        tested = f"; reproduced {known['within_25_percent']} of {known['claims']} figures" if known["claims"] else ""
        says = f"{found.title}. Quality: {found.quality}. Papers: {', '.join(found.papers[:PARTS])}{tested}."
        table.add_row(Text(found.name, style="bold"), Text(says, style="dim"))
    yield table


def _presuming(found: Advice, width: int) -> Iterator[RenderableType]:
    """What helps only if the workload is of a certain kind, with what it would have to be."""
    rows: list[list[Cell]] = [
        [r.technique.name, ratio(found.gain(r)), GRADES[r.technique.grade], r.technique.presumes]
        for r in found.presuming[:PARTS]
    ]
    if rows:
        yield Text("")
        table = fitted(["technique", "gain", "answers", "if"], rows, width, wordy=(0, 3), left=(2,))
        yield section("What would help if the workload is like this", table)


def _together(found: Advice, width: int) -> Iterator[RenderableType]:
    if not found.steps:
        return
    told = shown(found)
    now = told.figure(found.baseline)
    figures = [told.figure(step.remedy.changed) for step in found.steps]
    most = max(now, *figures)
    rows: list[list[Cell]] = [["now", "", "", told.say(now), *_room(found, found.baseline), _bar(now / most)]]
    for step, figure in zip(found.steps, figures, strict=True):
        name, room = f"+ {step.remedy.technique.name}", _room(found, step.remedy.changed)
        rows.append([name, ratio(step.gain), ratio(step.alone), told.say(figure), *room, _bar(figure / most)])
    room_titles = ["memory", "fits"][: 0 if found.baseline.memory.fits else 2]
    yield Text("")
    titles = ["one after the other", "gain", "alone", told.title, *room_titles, ""]
    yield section("Together", fitted(titles, rows, width, wordy=(0,), left=(len(titles) - 1,)))
    if found.combinations:
        best: list[list[Cell]] = [
            [" + ".join(c.techniques), ratio(c.gain), told.say(told.figure(c.estimate)), *_room(found, c.estimate)]
            for c in found.combinations[:PARTS]
        ]
        yield Text("")
        yield section("Best sets", fitted(["techniques", "gain", told.title, *room_titles], best, width, wordy=(0,)))


def _room(found: Advice, est: Estimate) -> list[str]:
    """Memory and whether it fits, where the run as it is does not."""
    if found.baseline.memory.fits:
        return []
    return [gigabytes(float(est.memory.total_bytes)), "yes" if est.memory.fits else "no"]


def _bar(part: float) -> Text:
    return Text(bar(part, 24), style="cyan")


def _hardware(found: Advice, width: int) -> Iterator[RenderableType]:
    rows: list[list[Cell]] = [
        [f"{resource(part.label)} twice as fast", ratio(part.speedup), f"{ratio(part.infinite)} if infinite"]
        for part in found.faster_parts[:PARTS]
    ]
    for other in found.other_machines[:PARTS]:
        price = "" if other.cost_ratio is None else f"{ratio(other.cost_ratio)} the cost of the same work"
        rows.append([other.machine, ratio(other.speedup), price])
    if rows:
        yield Text("")
        yield section("What hardware would buy", fitted(["", "faster", ""], rows, width, wordy=(0,), left=(2,)))


def _others(found: Advice, width: int) -> Iterator[RenderableType]:
    if found.useless:
        yield Text("")
        yield section("What applies and does not help", _table(found, found.useless, width))
    refused = [f"{r.technique.name}: {r.reason}" for r in found.refused]
    yield from notes("What does not apply", tuple(refused), "dim")
