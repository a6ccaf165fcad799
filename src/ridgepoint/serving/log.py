"""What a replica writes down of its actions, as columns: one row per action, one per piece of a prompt."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

LOG = (
    "start_s",
    "seconds",
    "steps",
    "sequences",
    "stalled",
    "context",
    "tokens",
    "chosen",
    "host_s",
    "used",
    "level",
    "stretch",
    "adapted",
    "adapters",
    "loading_s",
)
"""Seconds from its start; steps; decode sequences, and those that wait while prompts are read; their mean context; tokens of
a lane per step, sequences of a lane that get a token; host seconds of a step; blocks in use; which clock timed it, and how
much longer it took after all (the clock changed meanwhile); tokens of a lane that pass adapters, different adapters,
seconds in which adapters were loaded."""
READ = ("row", "tokens", "past", "part")
"""Row of the log, tokens, earlier tokens, part of its own seconds that counted."""


class Log:
    """The rows of one replica."""

    __slots__ = ("reads", "rows")

    def __init__(self) -> None:
        self.rows, self.reads = array("d"), array("d")

    def write(self, row: tuple[float, ...], pieces: Iterable[tuple[int, int]], part: float) -> None:
        """Add an action and the pieces (tokens, past) of prompts that it read."""
        number = len(self.rows) // len(LOG)
        self.rows.extend(row)
        for tokens, past in pieces:
            self.reads.extend((number, tokens, past, part))

    @property
    def mark(self) -> tuple[int, int]:
        """How many actions and pieces there are."""
        return len(self.rows) // len(LOG), len(self.reads) // len(READ)
