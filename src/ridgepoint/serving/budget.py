"""A row of servers that may draw more together than it is given, and is slowed when it does (POLCA, Patel et al. 2023).

The row's power is looked at every few seconds. Above the first threshold replicas of low priority run at a lower clock,
above the second at one lower still and the others at a reduced one too; above the budget itself all are braked. Clocks go
up again when the power is ``hysteresis`` below the threshold. A new clock takes effect after ``delay_s``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ridgepoint.errors import RidgepointError


@dataclass(frozen=True)
class PowerBudget:
    """``watts`` for all devices of the deployment. ``low``: how many replicas, the last ones, are of low priority (None:
    all); requests of priority 0 or less go to them first. Clocks are relative to the usual one.
    """

    watts: float
    low: int | None = None
    first: float = 0.8
    second: float = 0.89
    clocks: tuple[float, float, float] = (0.9, 0.79, 0.4)
    """Of low-priority replicas above the first threshold (and the others above the second), above the second, and the brake."""
    hysteresis: float = 0.05
    every_s: float = 2.0
    delay_s: float = 5.0

    def __post_init__(self) -> None:
        ordered = 0.0 < self.first <= self.second <= 1.0 and all(0.0 < c <= 1.0 for c in self.clocks)
        times = self.every_s > 0.0 and self.delay_s >= 0.0 and 0.0 <= self.hysteresis < self.first
        if not (self.watts > 0.0 and ordered and times) or (self.low is not None and self.low < 0):
            raise RidgepointError(
                "bad_power_budget",
                f"{self.watts:g} W with thresholds {self.first:g} and {self.second:g}",
                "give positive watts, thresholds from 0 to 1 in order, clocks from 0 to 1",
            )


HIGH_LEVELS, LOW_LEVELS = (0, 0, 1, 3), (0, 1, 2, 3)
"""Level of the clocks (0: the usual one) by state, of other and of low-priority replicas."""


class Governor:
    """The state of a row: 0 free, 1 above the first threshold, 2 above the second, 3 braked."""

    def __init__(self, given: PowerBudget) -> None:
        self._given, self.state = given, 0

    def look(self, watts: float) -> int:
        """The new state, when the row draws ``watts``.

        >>> row = Governor(PowerBudget(1000.0))
        >>> [row.look(w) for w in (790.0, 810.0, 900.0, 1010.0, 870.0, 830.0, 740.0)]
        [0, 1, 2, 3, 2, 1, 0]
        """
        given = self._given
        part = watts / given.watts
        above = sum(part > limit for limit in (given.first, given.second, 1.0))
        kept = sum(part > limit - given.hysteresis for limit in (given.first, given.second, 1.0))
        self.state = max(above, min(self.state, kept))
        return self.state
