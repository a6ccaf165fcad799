"""``ridgepoint techniques``: list and show what ``--apply`` and ``advise`` know."""

from __future__ import annotations

from typing import Annotated

import typer

from ridgepoint.cli.output import console, print_json, print_page
from ridgepoint.cli.panels import Json

app = typer.Typer(help="Techniques: list, show.", add_completion=False)


@app.command("list")
def list_techniques(
    text: Annotated[str, typer.Option("--filter", metavar="TEXT", help="Only those that this text is in.")] = "",
    as_json: Json = False,
) -> None:
    """All techniques, one line each."""
    from ridgepoint.report.techniques import facts, technique_list
    from ridgepoint.techniques.registry import techniques

    found = [t for t in techniques().values() if text.casefold() in f"{t.name} {t.title} {t.mechanism}".casefold()]
    if as_json:
        print_json([facts(t) for t in found])
        return
    from rich.text import Text

    screen = console()
    print_page(technique_list(found, screen.width) if found else Text(f"no technique has '{text}' in it"), screen)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A technique's name")],
    as_json: Json = False,
) -> None:
    """One technique: what it changes, its parameters, papers, quality, what excludes it."""
    from ridgepoint.report.techniques import facts, technique_page
    from ridgepoint.techniques.registry import find_technique

    found = find_technique(name)
    if as_json:
        print_json(facts(found))
        return
    screen = console()
    print_page(technique_page(found, screen.width), screen)
