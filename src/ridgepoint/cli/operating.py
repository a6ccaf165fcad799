"""``ridgepoint analyze --task serve``: throughput against latency over concurrency, without simulating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ridgepoint.cli.citing import print_citations
from ridgepoint.cli.output import console, print_json, print_page
from ridgepoint.errors import RidgepointError
from ridgepoint.request import Request, option, to_scenario

if TYPE_CHECKING:
    from ridgepoint.serving.deployment import Deployment

SIZES = ("prompt", "output")


def deployed(request: Request, asked: Mapping[str, bool], engine: str = "vllm") -> tuple[Deployment, float, float]:
    """The deployment, prompt and output tokens of a request for the task serve; ``asked`` as in ``serve``.

    Errors: ``bad_option`` for what the task does not take.
    """
    from ridgepoint.serving.deployment import deployment

    foreign = [option(name) for name in request.sizes if name not in SIZES]
    foreign += ["--size"] if request.inputs else []
    foreign += [name for name, given in asked.items() if given]
    if foreign:
        raise RidgepointError(
            "bad_option", f"{foreign[0]} does not belong to the task serve", "it takes --prompt and --output"
        )
    found = to_scenario(replace(request, task="generate", apply=()))
    sizes = found.task.sizes()
    given = deployment(found.model, found.machine, found.plan, engine)  # type: ignore[arg-type]
    return given, float(sizes["prompt"]), float(sizes["output"])


def serve(request: Request, asked: Mapping[str, bool], citations: bool, as_json: bool) -> None:
    """Print the operating curve that ``request`` describes; ``asked`` are options of other tasks and whether they were given.

    Errors: ``bad_option`` for what the task does not take.
    """
    from ridgepoint.report.operating import document, page
    from ridgepoint.serving.operating import operating

    curve = operating(*deployed(request, {**asked, "--apply": bool(request.apply)}))
    if as_json:
        print_json(document(curve))
        return
    screen = console()
    print_page(page(curve, screen.width), screen)
    if citations:
        print_citations(curve.citations, screen)
