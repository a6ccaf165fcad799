"""The ``ridgepoint`` command (design §10): commands parse, call and render; everything else is below.

A command's module is imported when the command is run, so that ``ridgepoint --help`` waits for nothing.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from ridgepoint.cli.guard import Program

COMMANDS = {
    "analyze": "What a model takes on a machine: time, its limit, the bottleneck, memory, energy and money.",
    "sweep": "Every combination of what varies: the fastest, the cheapest, what fits, what nothing beats.",
    "advise": "What would lift the limit: techniques ranked by what they bring, and hardware that would do as much.",
    "require": "What a platform must have to serve a model within latency goals, and which machines do.",
    "simulate": "Serve requests one by one: latencies, throughput, goodput, what limits it.",
    "plan": "Plans: the best training layouts, serving fleets.",
    "techniques": "Techniques: list, show.",
    "capture": "Real code or an ONNX file becomes work: kernels and sizes, without weights.",
    "trace": "A PyTorch profile read: time by op and component, idle devices, launches; beside a prediction.",
    "models": "Models: list, show, import.",
    "machines": "Machines: list, show, compare.",
    "papers": "549 papers: list, search, show.",
    "reproduce": "Papers' figures predicted: reported, predicted, ratio, and what had to be assumed.",
    "laws": "Scaling laws and calculators of papers: list, show, run.",
    "validate": "Predictions beside measurements: errors by group, and the plain roofline's.",
    "calibrate": "Coefficients of a machine, fitted to measurements.",
    "serve": "The local page: pick a model and a machine, and see what limits it while you change them.",
}
"""Command → what it is for. Each has a module of its name in this package."""

app = typer.Typer(
    cls=Program,
    help="What limits an AI workload on a machine, and what would lift the limit.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from ridgepoint import __version__

        print(f"ridgepoint {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def _placeholder() -> None:
    """Stands for a command until it is run."""


for _name, _help in COMMANDS.items():
    if find_spec(f"{__name__}.{_name}") is not None:
        app.command(_name, help=_help)(_placeholder)


def main() -> None:
    """Run the command line."""
    app()
