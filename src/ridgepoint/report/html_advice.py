"""Advice as one HTML page: the limit, what techniques take off one after the other, what each would bring alone."""

from __future__ import annotations

from collections.abc import Iterator

from ridgepoint.advice.advice import Advice
from ridgepoint.advice.remedies import Remedy
from ridgepoint.report.html import figure, folded, html_page, listed, section, table
from ridgepoint.report.html_estimate import body, grounds, head
from ridgepoint.report.svg_bars import Step, waterfall_svg
from ridgepoint.report.text import ratio, resource
from ridgepoint.units import duration

MOST = 20
"""Remedies that are listed."""
NOTHING = "<p>Nothing that is known here helps by two per cent or more.</p>"


def advice_page(found: Advice, command: str = "") -> str:
    """The report of the scenario, with what would help before where its figures come from."""
    given = found.baseline.scenario
    title = f"{given.model.name} on {given.machine.name}: what would help"
    parts = [*head(found.baseline), *remedy_sections(found), *body(found.baseline), *grounds(found.baseline)]
    return html_page(title, parts, command)


def remedy_sections(found: Advice) -> Iterator[str]:
    """The waterfall, the remedies, faster hardware, what does not apply."""
    yield section(f"What would help, one after the other ({found.objective.better})", waterfall(found))
    yield section("What each would bring alone", remedies(found))
    hardware = [
        (f"{resource(p.label)} twice as fast", ratio(p.speedup), f"{ratio(p.infinite)} if infinite")
        for p in found.faster_parts
    ]
    yield section("What faster parts would bring", table(("", "faster", ""), hardware, left=(0, 2)))
    refused = [f"{r.technique.name}: {r.reason}" for r in found.refused]
    yield folded(f"{len(refused)} techniques do not apply, and why", listed(refused)) if refused else ""


def waterfall(found: Advice) -> str:
    """The time before, what each technique takes off it on top of those above, and the time after."""
    if not found.steps:
        return NOTHING
    times = [float(found.baseline.time_s), *(float(step.remedy.changed.time_s) for step in found.steps)]
    steps = [Step("now", times[0], True)]
    for step, before, after in zip(found.steps, times, times[1:], strict=False):
        steps.append(Step(step.remedy.technique.name, after - before))
    steps.append(Step(f"then: {ratio(times[0] / times[-1])} as fast", times[-1], True))
    return figure(waterfall_svg(steps, _signed, "What techniques take off the time, one after the other"))


def _signed(seconds: float) -> str:
    return duration(seconds) if seconds >= 0.0 else f"−{duration(-seconds)}"


def remedies(found: Advice) -> str:
    """What helps, best first."""
    rows = [_row(found, remedy) for remedy in found.remedies[:MOST]]
    titles = ("technique", "gain", "time", "memory", "fits", "answers", "then waits for")
    return table(titles, rows, left=(0, 5, 6)) if rows else NOTHING


def _row(found: Advice, remedy: Remedy) -> tuple[str, ...]:
    after = remedy.changed
    return (
        remedy.technique.name,
        ratio(found.gain(remedy)),
        duration(float(after.time_s)),
        ratio(remedy.memory_ratio),
        "yes" if remedy.fits else "no",
        remedy.technique.grade,
        resource(after.scenario.machine.resource_label(after.bottleneck)),
    )
