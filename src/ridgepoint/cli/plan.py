"""``ridgepoint plan``: layouts for training, fleets for serving, graphs of several models; each kind has its own module."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import typer

app = typer.Typer(help="Plans: training layouts, serving fleets, feedback loops.", add_completion=False)

for _name in ("train", "serve", "recompute", "rlhf"):
    if find_spec(f"ridgepoint.cli.plan_{_name}") is not None:
        app.command(_name)(getattr(import_module(f"ridgepoint.cli.plan_{_name}"), _name))


@app.callback()
def _group() -> None:
    """Plans: training layouts, serving fleets, feedback loops."""
