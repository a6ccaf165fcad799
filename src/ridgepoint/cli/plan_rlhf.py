"""``ridgepoint plan rlhf``: reinforcement learning from feedback, or any graph of calls to several models, on one cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.numbers import whole_number
from ridgepoint.cli.output import print_json, progress_bar, teller
from ridgepoint.cli.panels import valued
from ridgepoint.errors import RidgepointError
from ridgepoint.request import named_machine
from ridgepoint.units import parse_quantity

if TYPE_CHECKING:
    from ridgepoint.training.graph import Graph

MODELS, BATCH, OUT = "Models", "Iteration", "Output"


def rlhf(
    machine: Annotated[str | None, valued("--on", "MACHINE", "2x8xh100-sxm, my.toml", BATCH)] = None,
    actor: Annotated[str | None, valued("--actor", "MODEL", "generates and trains", MODELS)] = None,
    critic: Annotated[
        str | None, valued("--critic", "MODEL", "scores and trains (PPO; leave out: GRPO)", MODELS)
    ] = None,
    reference: Annotated[str | None, valued("--reference", "MODEL", "scores (KL term)", MODELS)] = None,
    reward: Annotated[str | None, valued("--reward", "MODEL", "scores", MODELS)] = None,
    host: Annotated[
        str | None, valued("--rest-on-host", "NAME,…", "models that lie in the host's memory between calls", MODELS)
    ] = None,
    graph: Annotated[Path | None, valued("--graph", "FILE", "any graph of calls, in TOML", MODELS)] = None,
    batch: Annotated[str, valued("--batch", "N", "sequences of an iteration (512)", BATCH)] = "512",
    prompt: Annotated[str, valued("--prompt", "N", "tokens of a prompt (1k)", BATCH)] = "1k",
    output: Annotated[str, valued("--output", "N", "tokens written (1k)", BATCH)] = "1k",
    steps: Annotated[str, valued("--steps", "N", "optimizer steps of an iteration (1)", BATCH)] = "1",
    max_memory: Annotated[str | None, valued("--max-memory", "SIZE", "most per device: 70G", BATCH)] = None,
    citations: Citations = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=OUT)] = False,
) -> None:
    """A plan for every call of actor, critic, reference and reward model, and the time of an iteration."""
    from ridgepoint.report.graph_plan import page
    from ridgepoint.training.graph import plan_graph

    if graph is None:
        wanted = _feedback(
            {"actor": actor, "critic": critic, "reference": reference, "reward": reward},
            host,
            batch,
            prompt,
            output,
            steps,
        )
    else:
        from ridgepoint.training.graph.document import read_graph

        if actor or critic or reference or reward or host:
            raise RidgepointError("bad_usage", "models are given beside --graph", "write them into the file")
        wanted, named = read_graph(graph)
        machine = machine or named
    cluster = named_machine(machine)
    with progress_bar(as_json) as bar:
        found = plan_graph(
            wanted,
            on=cluster,
            max_memory=None if max_memory is None else parse_quantity(max_memory, "B"),
            progress=teller(bar, "calls"),
        )
    if as_json:
        print_json(found.to_dict())
        return
    print_answer(lambda width: page(found, width), found.citations if citations else ())


def _feedback(
    names: dict[str, str | None], host: str | None, batch: str, prompt: str, output: str, steps: str
) -> Graph:
    from ridgepoint.training.graph import feedback
    from ridgepoint.training.graph.document import graph_model

    if names["actor"] is None:
        raise RidgepointError("bad_usage", "no actor is given", "add --actor MODEL, or --graph FILE")
    actor = graph_model(names["actor"])
    models = {name: graph_model(value) for name, value in names.items() if value is not None}
    resting = tuple(filter(None, (part.strip() for part in (host or "").split(","))))
    return feedback(
        actor,
        critic=models.get("critic"),
        reference=models.get("reference"),
        reward=models.get("reward"),
        batch=whole_number("--batch", batch),
        prompt=whole_number("--prompt", prompt),
        output=whole_number("--output", output),
        steps=whole_number("--steps", steps),
        host=resting,
    )
