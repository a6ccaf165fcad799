"""What the page can ask about techniques and papers: lists, searches, advice."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ridgepoint.advice.advice import Advice, advice
from ridgepoint.advice.remedies import Limits, Remedy
from ridgepoint.evidence.papers.catalog import find_paper, list_papers
from ridgepoint.evidence.papers.search import search_papers
from ridgepoint.report.html import figure, table
from ridgepoint.report.svg_bars import Step, waterfall_svg
from ridgepoint.report.techniques import facts
from ridgepoint.report.text import ratio, resource
from ridgepoint.techniques.registry import techniques as registered
from ridgepoint.units import duration
from ridgepoint.web.scenarios import KEYS, bad, read_scenario
from ridgepoint.web.scenarios import table as json_table

Body = Mapping[str, Any]
MOST_HITS, LONGEST_QUESTION = 15, 300


@cache
def techniques() -> list[dict[str, Any]]:
    """Every technique: what it does, its parameters with their ranges, papers, what excludes it."""
    kept = (
        "name",
        "title",
        "summary",
        "mechanism",
        "papers",
        "quality",
        "grade",
        "training_free",
        "parameters",
        "excludes",
    )
    return [{key: facts(found)[key] for key in kept} for found in registered().values()]


def papers(body: Body) -> list[dict[str, Any]]:
    """Papers about a problem in plain words (``question``), best first; without one the core papers."""
    question = body.get("question", "")
    if not isinstance(question, str) or len(question) > LONGEST_QUESTION:
        raise bad("question is no text", "write a few words")
    found = [hit.paper for hit in search_papers(question, MOST_HITS)] if question.strip() else list_papers(priority=1)
    kept = ("slug", "name", "title", "year", "kind", "does", "state", "mechanism")
    return [{key: paper.to_dict()[key] for key in kept} for paper in found[:MOST_HITS]]


def paper(body: Body) -> dict[str, Any]:
    """One paper: facts, what it reports, the workload that runs for it."""
    slug = body.get("slug")
    if not isinstance(slug, str):
        raise bad("slug is no name", "write a paper's slug")
    return find_paper(slug).to_dict()


def advise(body: Body) -> dict[str, Any]:
    """What would lift the limit of a scenario: the document of ``advise --json``, and its waterfall."""
    given = json_table(body, "the body", (*KEYS, "objective", "quality"))
    asked = read_scenario({key: value for key, value in given.items() if key in KEYS})
    objective, quality = given.get("objective", "latency"), given.get("quality", "near")
    if not isinstance(objective, str) or not isinstance(quality, str):
        raise bad("objective and quality are names", "leave them out for latency and near")
    found = advice(asked.scenario, objective, Limits(quality=quality))
    return {**found.to_dict(), "view": {"waterfall": waterfall(found), "remedies": remedies(found)}}


def waterfall(found: Advice) -> str:
    """The time before, what each technique takes off one after the other, and the time after."""
    if not found.steps:
        return "<p>Nothing that is known here helps by two per cent or more.</p>"
    times = [float(found.baseline.time_s), *(float(step.remedy.changed.time_s) for step in found.steps)]
    names = [step.remedy.technique.name for step in found.steps]
    steps = [Step("now", times[0], True)]
    steps += [Step(name, after - before) for name, before, after in zip(names, times, times[1:], strict=False)]
    steps.append(Step(f"then, {ratio(times[0] / times[-1])} as fast", times[-1], True))
    return figure(waterfall_svg(steps, _signed, "What techniques take off the time, one after the other"))


def _signed(seconds: float) -> str:
    return duration(seconds) if seconds >= 0.0 else f"−{duration(-seconds)}"


def remedies(found: Advice) -> str:
    """What helps, best first."""
    rows = [_row(found, remedy) for remedy in found.remedies[:12]]
    titles = ("technique", "gain", "time", "memory", "fits", "answers", "then waits for")
    return table(titles, rows, left=(0, 5, 6)) if rows else ""


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
