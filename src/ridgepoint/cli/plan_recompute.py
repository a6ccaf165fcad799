"""``ridgepoint plan recompute``: what a training step computes again so that it fits into a memory budget."""

from __future__ import annotations

from typing import Annotated

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.numbers import whole_number
from ridgepoint.cli.options import input_sizes
from ridgepoint.cli.output import print_json, progress_bar
from ridgepoint.cli.panels import Json
from ridgepoint.cli.plan_train import takes_training
from ridgepoint.errors import RidgepointError
from ridgepoint.request import Request, named_machine, plan_values
from ridgepoint.units import parse_count, parse_quantity


@takes_training
def recompute(
    request: Request,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Most per device: 40G (what it may use).")
    ] = None,
    batch: Annotated[str, typer.Option("--batch", metavar="N", help="Sequences or images, over all devices.")] = "1",
    seq: Annotated[
        str | None, typer.Option("--seq", metavar="N", help="Tokens of a sequence; 8k = 8192.", show_default=False)
    ] = None,
    sizes: Annotated[
        list[str] | None, typer.Option("--size", metavar="NAME=N", help="Any other size of a network's input.")
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option("--exact/--heuristic", help="Of captured steps: by CP-SAT (the extra search), or not."),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", metavar="T", min=1.0, help="Longest exact search.")] = 60.0,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """What to compute again in the backward pass: op by op, within a memory budget."""
    from ridgepoint.report.recompute import page
    from ridgepoint.training.remat.recompute import plan_recompute

    machine = named_machine(request.machine)
    if "recompute" in request.plan:
        raise RidgepointError("bad_option", "--recompute is what is planned here", "leave it out")
    with progress_bar(as_json) as bar:
        if bar is not None:
            bar.add_task("planning", total=None)
        found = plan_recompute(
            request.model or "",
            on=machine,
            batch=whole_number("--batch", batch),
            seq=None if seq is None else whole_number("--seq", seq),
            memory=None if memory is None else parse_quantity(memory, "B"),
            exact=exact,
            seconds=seconds,
            inputs={name: parse_count(value) for name, value in input_sizes(sizes).items()},
            **plan_values(request),
        )
    if as_json:
        print_json(found.to_dict())
        return
    print_answer(lambda width: page(found, width), found.citations if citations else ())
