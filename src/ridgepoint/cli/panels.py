"""Options under a heading of the command's help, with what is written after them; those that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def valued(words: str, metavar: str | None, text: str, panel: str) -> Any:
    """An option that says in its help what is written after it, and what holds without it."""
    return typer.Option(words, metavar=metavar, help=text, rich_help_panel=panel, show_default=False)


Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
PLAN = "Plan"
Weights = Annotated[str | None, valued("--weights", "FORMAT", "weights of the linear layers", PLAN)]
Acts = Annotated[str | None, valued("--acts", "FORMAT", "what matrix products read", PLAN)]
Kv = Annotated[str | None, valued("--kv", "FORMAT", "keys and values in the cache", PLAN)]
Engine = Annotated[str, valued("--engine", "NAME", "vllm, sglang or trtllm", PLAN)]
