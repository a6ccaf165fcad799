"""``ridgepoint models``: list, show, import."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.output import console, print_json, print_page
from ridgepoint.cli.panels import Json
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.units import parse_count

app = typer.Typer(help="Models: shapes, parameters, anatomy.", add_completion=False)


@app.command("list")
def list_models(
    text: Annotated[str, typer.Option("--filter", metavar="TEXT", help="Only models that this text is in.")] = "",
    as_json: Json = False,
) -> None:
    """All models, one line each."""
    from ridgepoint.models.listing import listing

    found = [m for m in listing() if _matches(m, text)]
    if as_json:
        print_json(found)
        return
    from rich.text import Text

    from ridgepoint.report.models import model_list

    screen = console()
    print_page(model_list(found, screen.width) if found else Text(f"no model has '{text}' in it"), screen)


def _matches(facts: dict[str, Any], text: str) -> bool:
    words = " ".join(map(str, (facts["name"], facts["title"], facts["kind"], *facts["aliases"])))
    return text.casefold() in words.casefold()


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Model name, config.json, or folder with one")],
    context: Annotated[
        str | None,
        typer.Option("--context", metavar="N", help="Tokens that the token attends to (4k, or the model's most)."),
    ] = None,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """One model: its parts, their parameters, operations and bytes; what a sequence keeps."""
    from ridgepoint.scenario import find

    facts, parts = _anatomy(find(name), None if context is None else parse_length(context))
    if as_json:
        shown = [asdict(part) | {"intensity": part.intensity} for part in parts]
        print_json(facts | {"parts": shown, "citations": _cited(facts)})
        return
    from ridgepoint.report.models import model_page

    print_answer(lambda width: model_page(facts, parts, width), _cited(facts) if citations else ())


def _cited(facts: dict[str, Any]) -> list[str]:
    """Where the configuration comes from; parts are counted from it alone."""
    return [f"configuration of {facts['name']}: {facts['source'] or 'given by the user'}", *facts["notes"]]


def parse_length(text: str) -> float:
    """A length in tokens.

    >>> parse_length("4k")
    4096.0
    """
    from ridgepoint.plan import whole

    return float(whole(parse_count(text), "--context", 1e9))


def _anatomy(model: Model | Network, length: float | None) -> tuple[dict[str, Any], list[Any]]:
    from ridgepoint.models.catalog import find_entry
    from ridgepoint.models.listing import model_facts, network_facts
    from ridgepoint.tasks.anatomy import network_parts, parts, state

    if isinstance(model, Network):
        found = network_parts(model)
        return network_facts(model, sum(p.parameters for p in found)) | {
            "per": "sample",
            "context": None,
            "state": None,
        }, found
    entry = find_entry(model.name)
    context = length if length is not None else float(min(4096, model.max_context or 4096))
    facts = model_facts(model) | {"released": entry.released if entry else None, "per": "token", "context": context}
    kept = asdict(state(model, context)) if model.decoder is not None else None
    return facts | {"state": kept}, parts(model, context)


@app.command("import")
def import_config(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A config.json, or the folder with one")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What to call it.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace an own model of that name.")] = False,
    as_json: Json = False,
) -> None:
    """Add a configuration to your own catalogue, so that its name works everywhere."""
    from ridgepoint.models.catalog import import_model

    written = import_model(config, name, replace)
    if as_json:
        print_json({"name": written.stem, "file": str(written)})
    else:
        print(f"{written.stem}: {written}")
