"""Advice as one HTML page: the limit, what techniques take off one after the other, what each would bring alone."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ridgepoint.advice.advice import Advice
from ridgepoint.advice.evidence import evidence
from ridgepoint.advice.remedies import Remedy
from ridgepoint.report.advice import GRADES
from ridgepoint.report.charts import pictures as estimate_pictures
from ridgepoint.report.html import folded, html_page, listed, section, table
from ridgepoint.report.html_estimate import body, grounds, head
from ridgepoint.report.objective import shown
from ridgepoint.report.picture import Picture
from ridgepoint.report.svg_bars import Step, waterfall_svg
from ridgepoint.report.text import ratio, resource
from ridgepoint.units import duration

MOST = 20
"""Remedies that are listed."""
PAPERS = 4
"""Papers of a technique, and other machines, that are named."""
NOTHING = "<p>Nothing that is known here helps by two per cent or more.</p>"


def advice_page(found: Advice, command: str = "") -> str:
    """The report of the scenario, with what would help before where its figures come from."""
    given = found.baseline.scenario
    title = f"{given.model.name} on {given.machine.name}: what would help"
    parts = [*head(found.baseline), *remedy_sections(found), *body(found.baseline), *grounds(found.baseline)]
    return html_page(title, parts, command)


def remedy_sections(found: Advice) -> Iterator[str]:
    """The waterfall, the remedies, what they do, faster hardware, what does not apply."""
    yield section(f"What would help, one after the other ({found.objective.better})", waterfall(found))
    yield section("What each would bring alone", remedies(found), explained(found))
    yield presuming(found)
    yield hardware(found)
    refused = [f"{r.technique.name}: {r.reason}" for r in found.refused]
    yield folded(f"{len(refused)} techniques do not apply, and why", listed(refused)) if refused else ""


def pictures(found: Advice) -> list[Picture]:
    """All charts: ``waterfall`` where something helps, and those of the scenario."""
    drawn = waterfall_picture(found)
    return [*([] if drawn is None else [drawn]), *estimate_pictures(found.baseline)]


def waterfall(found: Advice) -> str:
    """The waterfall after a sentence that says it, or that nothing helps."""
    picture = waterfall_picture(found)
    return NOTHING if picture is None else f"<p>{escape(gain_words(found))}</p>{picture.html}"


def gain_words(found: Advice) -> str:
    """What the first technique brings, and all of the waterfall together."""
    told = shown(found)
    now, after = told.figure(found.baseline), [told.figure(step.remedy.changed) for step in found.steps]
    gains = [ratio(figure / now if told.rising else now / figure) for figure in after]
    said = f"{found.steps[0].remedy.technique.name} alone: {gains[0]} {found.objective.better}"
    return f"{said}; {len(gains)} techniques together: {gains[-1]}." if len(gains) > 1 else f"{said}."


def waterfall_picture(found: Advice) -> Picture | None:
    """The objective's figure before, what each technique does to it on top of those above, and the figure after."""
    if not found.steps:
        return None
    told = shown(found)
    figures = [told.figure(found.baseline), *(told.figure(step.remedy.changed) for step in found.steps)]
    steps = [Step("now", figures[0], told.say(figures[0]), True)]
    for step, before, after in zip(found.steps, figures, figures[1:], strict=False):
        steps.append(
            Step(step.remedy.technique.name, after - before, f"{told.change(after - before)} → {told.say(after)}")
        )
    gained = ratio(figures[-1] / figures[0] if told.rising else figures[0] / figures[-1])
    steps.append(Step(f"then: {gained} {found.objective.better}", figures[-1], told.say(figures[-1]), True))
    title = f"What would help, one after the other ({found.objective.better})"
    svg = waterfall_svg(steps, f"What techniques do to {told.title}, one after the other", told.rising)
    key = [("memory", told.title), ("host", "better"), ("matrix", "worse")]
    worse = any((step.value < 0.0) == told.rising for step in steps if not step.total)
    return Picture("waterfall", title, svg, key if worse else key[:2])


def remedies(found: Advice) -> str:
    """What helps, best first."""
    told = shown(found)
    timed = () if told.title == "time" else (told.title,)
    titles = ("technique", "gain", *timed, "time", "memory", "fits", "answers", "then waits for")
    rows = [_row(found, remedy) for remedy in found.remedies[:MOST]]
    return table(titles, rows, left=(0, len(titles) - 2, len(titles) - 1)) if rows else NOTHING


def _row(found: Advice, remedy: Remedy) -> tuple[str, ...]:
    after, told = remedy.changed, shown(found)
    return (
        remedy.technique.name,
        ratio(found.gain(remedy)),
        *(() if told.title == "time" else (told.say(told.figure(after)),)),
        duration(float(after.time_s)),
        ratio(remedy.memory_ratio),
        "yes" if remedy.fits else "no",
        GRADES[remedy.technique.grade],
        resource(after.scenario.machine.resource_label(after.bottleneck)),
    )


def explained(found: Advice) -> str:
    """What the listed techniques do, what answers become, their papers, and how well those were reproduced."""
    if not found.remedies:
        return ""
    rows = []
    for technique in (r.technique for r in found.remedies[:MOST]):
        known = evidence(technique)
        tested = f"{known['within_25_percent']} of {known['claims']} figures" if known["claims"] else ""
        rows.append((technique.name, technique.title, technique.quality, ", ".join(technique.papers[:PAPERS]), tested))
    titles = ("technique", "what it does", "answers", "papers", "reproduced within 25 %")
    return folded("What they do to answers, and the papers they stand on", table(titles, rows, left=(0, 1, 2, 3, 4)))


def presuming(found: Advice) -> str:
    """What helps only if the workload is of a certain kind."""
    rows = [
        (r.technique.name, ratio(found.gain(r)), GRADES[r.technique.grade], r.technique.presumes)
        for r in found.presuming[:PAPERS]
    ]
    titles = ("technique", "gain", "answers", "if")
    return section("What would help if the workload is like this", table(titles, rows, left=(0, 2, 3))) if rows else ""


def hardware(found: Advice) -> str:
    """What faster parts and other machines would bring."""
    rows = [
        (f"{resource(p.label)} twice as fast", ratio(p.speedup), f"{ratio(p.infinite)} if infinite")
        for p in found.faster_parts
    ]
    for other in found.other_machines[:PAPERS]:
        price = "" if other.cost_ratio is None else f"{ratio(other.cost_ratio)} the cost of the same work"
        rows.append((other.machine, ratio(other.speedup), price))
    return section("What other hardware would bring", table(("", "faster", ""), rows, left=(0, 2))) if rows else ""
