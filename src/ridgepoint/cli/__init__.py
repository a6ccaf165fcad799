"""The ``ridgepoint`` command (design §10): commands parse, call and render; everything else is below."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import typer

from ridgepoint.cli import analyze, machines, models
from ridgepoint.cli.guard import Program

app = typer.Typer(
    cls=Program,
    help="What limits an AI workload on a machine, and what would lift the limit.",
    no_args_is_help=False,
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


app.command("analyze")(analyze.analyze)
app.add_typer(models.app, name="models")
app.add_typer(machines.app, name="machines")
for _name in ("validate", "calibrate"):
    if find_spec(f"ridgepoint.cli.{_name}") is not None:
        app.command(_name)(getattr(import_module(f"ridgepoint.cli.{_name}"), _name))


def main() -> None:
    """Run the command line."""
    app()
