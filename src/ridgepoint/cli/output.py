"""Where commands print: one JSON document, or a page for people."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPED_WIDTH = 100
NARROWEST, WIDEST = 60, 120


def print_json(document: Any) -> None:
    """One document on stdout; numbers are finite by construction."""
    print(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2))


def console() -> Console:
    """A console on stdout: colours in a terminal only, at most ``WIDEST`` columns; a pipe gets ``PIPED_WIDTH``."""
    from rich.console import Console

    found = Console(highlight=False, soft_wrap=False)
    width = found.width if found.is_terminal or os.environ.get("COLUMNS") else PIPED_WIDTH
    found.width = max(NARROWEST, min(WIDEST, width))
    return found


def print_page(renderable: RenderableType, on: Console) -> None:
    """A page for people, without blanks at the ends of lines."""
    with on.capture() as captured:
        on.print(renderable)
    print("\n".join(line.rstrip() for line in captured.get().rstrip().split("\n")))
