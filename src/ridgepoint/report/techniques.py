"""Techniques as data and as pages: the list, and one with its parameters and documentation."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ridgepoint.advice.evidence import evidence
from ridgepoint.document import plain
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import INDENT, indented, section
from ridgepoint.techniques.registry import techniques
from ridgepoint.techniques.technique import Technique, conflict


def facts(found: Technique) -> dict[str, Any]:
    """What is known of a technique, as values that JSON knows."""
    return {
        "name": found.name,
        "title": found.title,
        "summary": found.summary,
        "mechanism": list(found.mechanism),
        "papers": list(found.papers),
        "quality": found.quality,
        "grade": found.grade,
        "training_free": found.training_free,
        "presumes": found.presumes or None,
        "parameters": [
            {"name": p.name, "default": plain(p.default), "range": p.range, "unit": p.unit, "meaning": p.meaning}
            for p in found.parameters
        ],
        "excludes": excluded(found),
        "evidence": evidence(found),
        "documentation": inspect.cleandoc(found.doc),
    }


def excluded(found: Technique) -> list[str]:
    """Other techniques that change the same thing."""
    return [other.name for other in techniques().values() if other.name != found.name and conflict(found, other)]


def technique_list(found: Sequence[Technique], width: int) -> RenderableType:
    """One line each, by name."""
    rows: list[list[Cell]] = [[t.name, t.title, t.grade, "" if t.training_free else "yes"] for t in found]
    titles = ["technique", "what it is", "answers", "trained"]
    table = fitted(titles, rows, width, wordy=(0, 1), left=(2, 3))
    return Group(table, Text(""), Text(f"{len(found)} techniques; `ridgepoint techniques show NAME`", style="dim"))


def technique_page(found: Technique, width: int) -> RenderableType:
    """One technique in full."""
    return Group(*_sections(found, width))


def _sections(found: Technique, width: int) -> Iterator[RenderableType]:
    yield Text.assemble((found.name, "bold"), f" · {found.title}")
    yield Text("")
    yield indented(Text("\n\n".join(_paragraphs(found.doc))))
    if found.parameters:
        rows: list[list[Cell]] = [[p.name, str(plain(p.default)), p.meaning, p.range] for p in found.parameters]
        yield Text("")
        table = fitted(["name", "default", "meaning", "give"], rows, width - INDENT, wordy=(2, 3), left=(0, 1))
        yield section("Parameters", table)
    yield Text("")
    known = evidence(found)
    said: list[list[Cell]] = [
        ["answers", f"{found.grade}: {found.quality}"],
        ["training", "none" if found.training_free else "needed"],
        ["presumes", found.presumes],
        ["papers", ", ".join(found.papers)],
        ["reproduced", f"{known['within_25_percent']} of {known['claims']} figures" if known["claims"] else ""],
        ["excludes", ", ".join(excluded(found))],
    ]
    for name, text in said:
        if text:
            yield indented(Text.assemble((f"{name}: ", "dim"), str(text)))


def _paragraphs(doc: str) -> Iterator[str]:
    """The documentation's paragraphs, sentences in one line for the terminal to break; examples stay as they are."""
    for paragraph in inspect.cleandoc(doc).split("\n\n"):
        yield paragraph if paragraph.startswith(">>>") else " ".join(paragraph.split())
