"""``ridgepoint require``: the model inverted — what a platform must have, and which catalogue machines do."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.output import print_json, progress_bar, teller
from ridgepoint.cli.panels import Acts, Engine, Json, Kv, Weights, valued
from ridgepoint.units import parse_count, parse_quantity

GOAL = "Goal"


def require(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model name, config.json, or folder with one")],
    prompt: Annotated[str, valued("--prompt", "N", "prompt tokens of a request", GOAL)],
    output: Annotated[str, valued("--output", "N", "tokens to generate", GOAL)],
    ttft: Annotated[str, valued("--ttft", "TIME", "time to first token: 500ms", GOAL)],
    tpot: Annotated[str, valued("--tpot", "TIME", "time per further token: 20ms", GOAL)],
    users: Annotated[str, valued("--users", "N", "requests under way at once (1)", GOAL)] = "1",
    on: Annotated[str | None, valued("--on", "NAME,…", "only these devices of the catalogue", GOAL)] = None,
    weights: Weights = None,
    acts: Acts = None,
    kv: Kv = None,
    engine: Engine = "vllm",
    every: Annotated[bool, typer.Option("--all", help="List every machine.")] = False,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """What a platform must have to serve a model within latency goals, and which catalogue machines do."""
    from ridgepoint.plan import Plan
    from ridgepoint.report.require import document, page
    from ridgepoint.serving.require import require as invert

    names = None if on is None else tuple(name.strip() for name in on.split(",") if name.strip())
    with progress_bar(as_json) as bar:
        found = invert(
            model,
            prompt=parse_count(prompt),
            output=parse_count(output),
            users=parse_count(users),
            ttft_s=parse_quantity(ttft, "s"),
            tpot_s=parse_quantity(tpot, "s"),
            plan=Plan(weights=weights, acts=acts, kv=kv),
            machines=names,
            engine=engine,
            progress=teller(bar, "machines"),
            workers=os.cpu_count() or 1,
        )
    if as_json:
        print_json(document(found))
        return
    print_answer(lambda width: page(found, width, every), found.citations if citations else ())
