"""Replicas that are switched on and off by load: the rule of Kubernetes' horizontal autoscaler, on requests per replica.

    wanted = ⌈requests under way / target⌉, between the least and all replicas

More are started at once and serve after ``start_s``; fewer only when fewer were wanted for ``patience_s``. A replica that is
switched off first ends what it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from ridgepoint.errors import RidgepointError


@dataclass(frozen=True)
class Scaling:
    """``target`` requests under way (waiting, read or decoding) per replica; between ``least`` replicas and all that the
    machine has. ``start_s``: device, process and weights. ``every_s``: how often it decides.
    """

    target: float
    least: int = 1
    start_s: float = 120.0
    every_s: float = 15.0
    patience_s: float = 300.0

    def __post_init__(self) -> None:
        good = self.target > 0.0 and self.least >= 1 and self.every_s > 0.0
        if not good or not (self.start_s >= 0.0 and self.patience_s >= 0.0):
            raise RidgepointError(
                "bad_scaling",
                f"a target of {self.target:g} requests per replica, at least {self.least}, decided every {self.every_s:g} s",
                "give a positive target and period, and at least 1 replica",
            )


class Scaler:
    """Decides how many replicas there should be."""

    def __init__(self, given: Scaling, most: int) -> None:
        self._given, self._most = given, most
        self._history: list[tuple[float, int]] = []

    def wanted(self, requests: int, now_s: float) -> int:
        """How many replicas there should be from now on, with ``requests`` under way: the largest number wanted of late.

        >>> some = Scaler(Scaling(target=10.0, patience_s=60.0), 8)
        >>> some.wanted(35, 0.0), some.wanted(5, 15.0), some.wanted(5, 90.0)
        (4, 4, 1)
        """
        given = self._given
        now = min(max(ceil(requests / given.target), given.least), self._most)
        self._history = [(when, count) for when, count in self._history if when > now_s - given.patience_s]
        self._history.append((now_s, now))
        return max(count for _, count in self._history)
