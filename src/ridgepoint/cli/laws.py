"""``ridgepoint laws``: the closed forms of papers, by name and with values."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ridgepoint.cli.citing import Citations, print_citations
from ridgepoint.cli.output import console, print_json, print_page
from ridgepoint.cli.panels import Json
from ridgepoint.errors import RidgepointError

if TYPE_CHECKING:
    from ridgepoint.laws.registry import Law

app = typer.Typer(help="Scaling laws and calculators of papers: list, show, run.", add_completion=False)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A law's name")]


@app.command("list")
def list_laws(as_json: Json = False) -> None:
    """All laws, one line each."""
    from ridgepoint.laws.registry import LAWS

    def facts(law: Law) -> dict[str, Any]:
        return {
            "name": law.name,
            "summary": law.summary,
            "parameters": list(law.parameters),
            "papers": list(law.papers),
        }

    if as_json:
        print_json([facts(law) for law in LAWS.values()])
        return
    from ridgepoint.report.table import fitted

    screen = console()
    rows = [[law.name, law.summary] for law in LAWS.values()]
    print_page(fitted(["law", "what it gives"], rows, screen.width, wordy=(0, 1)), screen)


@app.command()
def show(name: Name) -> None:
    """One law: its equation, source, parameters and an example."""
    from ridgepoint.laws.registry import find_law

    law = find_law(name)
    print(f"{law.name}({', '.join(law.parameters)})\n\n{inspect.cleandoc(law.function.__doc__ or '')}")
    print("\nPapers: " + (", ".join(law.papers) or "named in the text"))


@app.command()
def run(
    name: Name,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="tokens=15T, costs=0.1/1.0; the example's else")
    ] = None,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """What a law gives for values; those left out are the example's."""
    from ridgepoint.document import plain
    from ridgepoint.laws.registry import calculate, find_law

    law = find_law(name)
    given = dict(_pair(text) for text in values or [])
    results = {key: plain(value) for key, value in calculate(name, given).items()}
    used = {key: plain(value) for key, value in {**law.example, **given}.items()}
    if as_json:
        said = {"law": name, "values": used, "results": results, "papers": list(law.papers)}
        print_json(said | {"citations": _cited(law)})
        return
    print(law.summary)
    for title, table in (("with", used), ("gives", results)):
        for key, value in table.items():
            print(f"  {title:5} {key} = {_shown(value)}")
    if citations:
        print_citations(_cited(law), console())


def _cited(law: Law) -> list[str]:
    """What it gives and after whom, and the catalogue's papers that it stands for."""
    from ridgepoint.evidence.papers.catalog import find_paper

    return [f"law {law.name}: {law.summary}", *(find_paper(slug).reference for slug in law.papers)]


def _pair(text: str) -> tuple[str, float | list[float]]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not key or not equals or not value:
        raise RidgepointError("bad_law", f"'{text}' is no value", "write it like tokens=15T")
    numbers = [_number(key, part) for part in value.split("/")]
    return key, numbers[0] if len(numbers) == 1 else numbers


def _number(key: str, text: str) -> float:
    scale = {"k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
    try:
        return float(text[:-1]) * scale[text[-1]] if text[-1:] in scale else float(text)
    except ValueError:
        raise RidgepointError("bad_law", f"{key} is '{text}'", "give a number like 0.5, 15T or 1e24") from None


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
