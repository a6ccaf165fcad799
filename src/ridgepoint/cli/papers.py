"""``ridgepoint papers``: list, search, show."""

from __future__ import annotations

from typing import Annotated

import typer

from ridgepoint.cli.output import console, print_json, print_page
from ridgepoint.cli.panels import Json
from ridgepoint.evidence.papers.catalog import find_paper, list_papers

app = typer.Typer(help="Papers: what they do, what they report, what is run for them.", add_completion=False)


@app.command("list")
def list_command(
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="technique, measurement, law …")] = None,
    mechanism: Annotated[
        str | None, typer.Option("--mechanism", metavar="TAG", help="kv_eviction, weight_quantization …")
    ] = None,
    bottleneck: Annotated[
        str | None, typer.Option("--bottleneck", metavar="TAG", help="memory_capacity, interconnect …")
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="TAG", help="llm, vision, diffusion_image …")
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="listed, modelled or reproduced")
    ] = None,
    priority: Annotated[int | None, typer.Option("--priority", metavar="N", help="1 core to 3 peripheral")] = None,
    as_json: Json = False,
) -> None:
    """Papers, one line each, core ones first."""
    found = list_papers(
        kind=kind, mechanism=mechanism, bottleneck=bottleneck, domain=domain, state=state, priority=priority
    )
    if as_json:
        print_json([paper.to_dict() for paper in found])
        return
    from ridgepoint.report.papers import paper_list

    screen = console()
    print_page(paper_list(found, screen.width), screen)


@app.command()
def search(
    question: Annotated[list[str], typer.Argument(metavar="WORDS", help="A problem in plain words, or a name")],
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="How many to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Papers about a problem: "cached keys and values too big"."""
    from ridgepoint.evidence.papers.search import search_papers

    hits = search_papers(" ".join(question), top)
    if as_json:
        print_json([hit.paper.to_dict() | {"score": hit.score, "understood": list(hit.understood)} for hit in hits])
        return
    from ridgepoint.report.papers import hit_list

    screen = console()
    print_page(hit_list(hits, screen.width), screen)


@app.command()
def show(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="Slug or name of a paper")],
    as_json: Json = False,
) -> None:
    """One paper: facts, what it reports, what runs for it."""
    paper = find_paper(slug)
    if as_json:
        print_json(paper.to_dict())
        return
    from ridgepoint.report.papers import paper_page

    screen = console()
    print_page(paper_page(paper, screen.width), screen)
