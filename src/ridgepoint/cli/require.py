"""``ridgepoint require``: the model inverted — what a platform must have, and which catalogue machines do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.output import print_json
from ridgepoint.units import parse_count, parse_quantity

GOAL, PLAN = "Goal", "Plan"


def _option(words: str, metavar: str, text: str, panel: str = GOAL) -> Any:
    return typer.Option(words, metavar=metavar, help=text, rich_help_panel=panel, show_default=False)


def require(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model name, config.json, or folder with one")],
    prompt: Annotated[str, _option("--prompt", "N", "prompt tokens of a request")],
    output: Annotated[str, _option("--output", "N", "tokens to generate")],
    ttft: Annotated[str, _option("--ttft", "TIME", "time to first token: 500ms")],
    tpot: Annotated[str, _option("--tpot", "TIME", "time per further token: 20ms")],
    users: Annotated[str, _option("--users", "N", "requests under way at once (1)")] = "1",
    on: Annotated[str | None, _option("--on", "NAME,…", "only these devices of the catalogue")] = None,
    weights: Annotated[str | None, _option("--weights", "FORMAT", "weights of the linear layers", PLAN)] = None,
    acts: Annotated[str | None, _option("--acts", "FORMAT", "what matrix products read", PLAN)] = None,
    kv: Annotated[str | None, _option("--kv", "FORMAT", "keys and values in the cache", PLAN)] = None,
    engine: Annotated[str, _option("--engine", "NAME", "vllm, sglang or trtllm", PLAN)] = "vllm",
    every: Annotated[bool, typer.Option("--all", help="List every machine.")] = False,
    citations: Citations = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """What a platform must have to serve a model within latency goals, and which catalogue machines do."""
    from ridgepoint.plan import Plan
    from ridgepoint.report.require import document, page
    from ridgepoint.serving.require import require as invert

    names = None if on is None else tuple(name.strip() for name in on.split(",") if name.strip())
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
    )
    if as_json:
        print_json(document(found))
        return
    print_answer(lambda width: page(found, width, every), found.citations if citations else ())
