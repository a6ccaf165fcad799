"""Papers: the list, what a search found, and one paper with its claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.evidence.papers.catalog import STATES, Paper
from ridgepoint.evidence.papers.rows import Claim
from ridgepoint.evidence.papers.search import Hit
from ridgepoint.evidence.papers.terms import Term, terms
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import INDENT, section
from ridgepoint.report.text import names

_RANK = {1: "core", 2: "related", 3: "peripheral"}
_LABEL = 15


def paper_list(papers: Sequence[Paper], width: int) -> RenderableType:
    """One line per paper, then how many there are in each state."""
    if not papers:
        return Text("no paper is all of that")
    counted = Counter(paper.state for paper in papers)
    states = ", ".join(f"{counted[state]:,} {state}" for state in STATES if counted[state])
    return Group(_table(papers, width), Text(""), Text(f"{len(papers):,} papers: {states}", style="dim"))


def hit_list(hits: Sequence[Hit], width: int) -> RenderableType:
    """What was found, best first, and as what the question was understood."""
    if not hits:
        return Text("nothing found: try other words, or `ridgepoint papers list --mechanism TAG`")
    lists = terms()
    known = {**lists.domain, **lists.bottleneck, **lists.mechanism}
    parts: list[RenderableType] = [_table([hit.paper for hit in hits], width)]
    if hits[0].understood:
        words = "understood as: " + ", ".join(known[tag].title for tag in hits[0].understood)
        parts += [Text(""), Text(words, style="dim")]
    return Group(*parts)


def _table(papers: Sequence[Paper], width: int) -> Table:
    mechanisms = terms().mechanism
    rows: list[list[Cell]] = [
        [
            Text(paper.slug, style="bold"),
            mechanisms[paper.mechanism[0]].title if width >= 110 else "",
            Text(paper.state, style="" if paper.run else "dim"),
            paper.does,
        ]
        for paper in papers
    ]
    return fitted(["paper", "mechanism", "state", ""], rows, width, wordy=(0, 1, 3), left=(2,))


def paper_page(paper: Paper, width: int) -> RenderableType:
    """One paper: what it is, what it does and needs, what it reports, what can be run for it."""
    return Group(*_sections(paper, width - INDENT))


def _sections(paper: Paper, width: int) -> Iterator[RenderableType]:
    lists = terms()
    yield Text.assemble((paper.name, "bold"), f" · {paper.slug}")
    yield Text(paper.title)
    about = [paper.kind, lists.domain[paper.domain].title, _RANK[paper.priority]]
    yield Text(" · ".join([*about, *([f"about {paper.year}"] if paper.year else [])]), style="dim")
    yield Text("")
    yield section("What it does", _lines(_facts(paper), width))
    yield Text("")
    yield section(f"State: {paper.state}", _lines(_running(paper, width), width))
    if paper.claims:
        yield Text("")
        yield section("What it reports", claim_table(paper.claims, width))
    if paper.claims_withheld:
        yield Text("")
        yield Text("reported values are withheld: predictions stand alone", style="dim")


def _facts(paper: Paper) -> Iterator[tuple[str, str]]:
    lists = terms()
    yield "", paper.does
    yield "by", ", ".join(_titles(paper.mechanism, lists.mechanism))
    yield "limited by", ", ".join(_titles(paper.bottleneck, lists.bottleneck))
    yield "to compute", paper.feature
    yield "models", ", ".join(paper.models)
    yield "hardware", ", ".join(paper.hardware)


def _running(paper: Paper, width: int) -> Iterator[tuple[str, str]]:
    yield "", paper.reason
    yield "run", shell_lines(paper.run or "", width - _LABEL)
    if paper.command and paper.command != paper.run:
        yield "does the same", shell_lines(paper.command, width - _LABEL)
    if paper.workload is not None and paper.workload.assumed:
        yield "", f"its workload, with {names(list(paper.workload.assumed))} assumed: the abstract does not say"


def shell_lines(command: str, width: int) -> str:
    """A command broken between its options, so that it can be pasted as it stands.

    >>> print(shell_lines("ridgepoint analyze gpt2 --on t4 --task decode", 30))
    ridgepoint analyze gpt2 \\
      --on t4 --task decode
    """
    lines = [""]
    for part in command.replace(" --", "\n--").split("\n"):
        if lines[-1].strip() and len(lines[-1]) + len(part) + 3 > width:
            lines[-1] += " \\"
            lines.append("  " + part)
        else:
            lines[-1] += (" " if lines[-1] else "") + part
    return "\n".join(lines)


def _titles(tags: Sequence[str], known: dict[str, Term]) -> list[str]:
    return [known[tag].title for tag in tags]


def _lines(facts: Iterator[tuple[str, str]], width: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=_LABEL - 2, style="dim")
    table.add_column(width=width - _LABEL)
    for label, value in facts:
        if value:
            table.add_row(label, Text(value))
    return table


def claim_table(claims: Sequence[Claim], width: int) -> Table:
    """Reported figures by position, as claims are counted everywhere."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.width = width
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for index, claim in enumerate(claims):
        value = (
            Text("withheld", style="dim") if claim.value is None else Text(f"{claim.sign}{claim.value:,g} {claim.unit}")
        )
        versus = [f"against {claim.baseline}"] if claim.baseline else []
        said = "; ".join([*versus, *([claim.condition] if claim.condition else [])])
        table.add_row(Text(str(index), style="dim"), claim.metric.replace("_", " "), value, said)
    return table
