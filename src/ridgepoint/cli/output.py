"""Where commands print: one JSON document, or a page for people."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

ARGUMENTS: ContextVar[tuple[str, ...]] = ContextVar("ARGUMENTS", default=())
"""What the running command was called with."""

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


def command_line() -> str:
    """The running command as one could type it again."""
    return shlex.join(("ridgepoint", *ARGUMENTS.get()))


def progress_bar(quiet: bool) -> AbstractContextManager[Progress | None]:
    """A progress bar on stderr, which goes away when done; none for machines and pipes."""
    from rich.console import Console

    screen = Console(stderr=True)
    if quiet or not screen.is_terminal:
        return nullcontext()
    from rich.progress import Progress

    return Progress(console=screen, transient=True)


def teller(bar: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """What tells a bar how far a computation is: (done, in all)."""
    if bar is None:
        return None
    task = bar.add_task(what, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)
