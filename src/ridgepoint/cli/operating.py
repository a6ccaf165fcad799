"""``ridgepoint analyze --task serve``: throughput against latency over concurrency, without simulating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ridgepoint.cli.citing import print_citations
from ridgepoint.cli.output import console, print_json, print_page
from ridgepoint.errors import RidgepointError
from ridgepoint.request import Request, option, to_scenario

SIZES = ("prompt", "output")


def serve(request: Request, asked: Mapping[str, bool], citations: bool, as_json: bool) -> None:
    """Print the operating curve that ``request`` describes; ``asked`` are options of other tasks and whether they were given.

    Errors: ``bad_option`` for what the task does not take.
    """
    from ridgepoint.report.operating import document, page
    from ridgepoint.serving.deployment import deployment
    from ridgepoint.serving.operating import operating

    foreign = [option(name) for name in request.sizes if name not in SIZES]
    foreign += ["--size"] if request.inputs else []
    foreign += ["--apply"] if request.apply else []
    foreign += [name for name, given in asked.items() if given]
    if foreign:
        raise RidgepointError(
            "bad_option", f"{foreign[0]} does not belong to the task serve", "it takes --prompt and --output"
        )
    found = to_scenario(replace(request, task="generate"))
    sizes = found.task.sizes()
    prompt, output = (float(sizes[name]) for name in SIZES)
    curve = operating(deployment(found.model, found.machine, found.plan), prompt, output)  # type: ignore[arg-type]
    if as_json:
        print_json(document(curve))
        return
    screen = console()
    print_page(page(curve, screen.width), screen)
    if citations:
        print_citations(curve.citations, screen)
