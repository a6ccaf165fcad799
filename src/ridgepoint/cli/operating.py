"""``ridgepoint analyze --task serve``: throughput against latency over concurrency, without simulating."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ridgepoint.cli.citing import print_answer
from ridgepoint.cli.files import write_charts
from ridgepoint.cli.output import command_line, print_json
from ridgepoint.errors import RidgepointError
from ridgepoint.request import Request, option, to_scenario

if TYPE_CHECKING:
    from ridgepoint.report.picture_file import Wanted
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


def serve(
    request: Request,
    asked: Mapping[str, bool],
    html: Path | None,
    files: Sequence[Wanted],
    citations: bool,
    as_json: bool,
) -> None:
    """Print the operating curve that ``request`` describes; ``asked`` are options of other tasks and whether they were given.

    Errors: ``bad_option`` for what the task does not take.
    """
    from ridgepoint.report.operating import document, page
    from ridgepoint.serving.operating import operating

    curve = operating(*deployed(request, {**asked, "--apply": bool(request.apply)}))
    if html is not None:
        from ridgepoint.files import write_whole
        from ridgepoint.report.html_operating import operating_page

        write_whole(html, operating_page(curve, command_line()))
    if files:
        from ridgepoint.report.html_operating import pictures

        write_charts(
            files, lambda: pictures(curve), f"{curve.deployment.model.name} on {curve.deployment.machine.name}"
        )
    if as_json:
        print_json(document(curve))
        return
    print_answer(lambda width: page(curve, width), curve.citations if citations else ())
