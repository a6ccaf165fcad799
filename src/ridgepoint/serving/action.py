"""The step or run of steps that a replica is doing, and what it tells of requests."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

from ridgepoint.serving.sequences import Active

if TYPE_CHECKING:
    from ridgepoint.serving.replica import Replica


class Sink:
    """What happens to requests, told by replicas; kept by the simulation."""

    def due(self, replica: Replica) -> None:
        """``replica.end_s`` is new."""

    def began(self, one: Active, time_s: float) -> None:
        """``one`` is admitted."""

    def answered(self, one: Active, time_s: float) -> None:
        """``one`` has its first token."""

    def done(self, one: Active, time_s: float) -> None:
        """``one`` has all tokens, or all that this replica makes."""

    def put_back(self, one: Active, time_s: float) -> None:
        """``one`` lost its cache and will be computed again."""


class Action(NamedTuple):
    """The step under way, or the first of a run: what the log will say of it, and its seconds as planned."""

    beside: int
    stalled: int
    context: float
    width: int
    chosen: int
    host_s: float
    part: float
    first_s: float
    slope: float
    level: int
    adapted: float
    adapters: int
    loading_s: float

    def seconds(self, steps: int) -> float:
        """Seconds of ``steps`` steps, the first of which takes ``first_s`` and each further one ``slope`` more."""
        return steps * self.first_s + self.slope * steps * (steps - 1) / 2.0

    def steps_in(self, seconds: float) -> float:
        """How many such steps fit: the inverse of ``seconds``."""
        first, slope = self.first_s, self.slope
        half = first - slope / 2.0
        return seconds / first if slope < 1e-15 else (sqrt(half * half + 2.0 * slope * seconds) - half) / slope
