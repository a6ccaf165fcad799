"""What the page can ask about techniques and papers: lists, searches, advice."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ridgepoint.advice.advice import Advice, advice
from ridgepoint.advice.remedies import Limits
from ridgepoint.evidence.papers.catalog import find_paper, list_papers
from ridgepoint.evidence.papers.search import search_papers
from ridgepoint.report.html_advice import advice_page, explained, hardware, presuming, remedies, waterfall
from ridgepoint.report.techniques import facts
from ridgepoint.techniques.registry import techniques as registered
from ridgepoint.web.commands import command
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
    """What would lift the limit of a scenario: the document of ``advise --json``, the command, and parts of its report."""
    found, said = _advice(body)
    parts = {
        "waterfall": waterfall,
        "remedies": remedies,
        "explained": explained,
        "presuming": presuming,
        "hardware": hardware,
    }
    return {**found.to_dict(), "command": said, "view": {name: part(found) for name, part in parts.items()}}


def advice_report(body: Body) -> str:
    """The report of ``advise --html``."""
    return advice_page(*_advice(body))


def _advice(body: Body) -> tuple[Advice, str]:
    given = json_table(body, "the body", (*KEYS, "objective", "quality"))
    asked = read_scenario({key: value for key, value in given.items() if key in KEYS})
    objective, quality = given.get("objective", "latency"), given.get("quality", "near")
    if not isinstance(objective, str) or not isinstance(quality, str):
        raise bad("objective and quality are names", "leave them out for latency and near")
    said = command("advise", asked.request, "--objective", objective, "--quality", quality)
    return advice(asked.scenario, objective, Limits(quality=quality)), said
