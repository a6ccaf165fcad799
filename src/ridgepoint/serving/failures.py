"""Replicas that fail and come back: requests on them start again elsewhere, caches are lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from ridgepoint.errors import RidgepointError

At = Callable[[float, Callable[[float], None]], None]
"""Has something called at a time."""


@dataclass(frozen=True)
class Failures:
    """Devices fail at random, one in ``mtbf_s`` seconds in the mean, and take their replica with them for ``repair_s``
    seconds: until it is noticed, replaced, and the weights are loaded. A device repaired is as good as new.
    """

    mtbf_s: float
    repair_s: float = 600.0

    def __post_init__(self) -> None:
        if not self.mtbf_s > 0.0 or not self.repair_s >= 0.0:
            raise RidgepointError(
                "bad_failures",
                f"a failure every {self.mtbf_s:g} s and {self.repair_s:g} s of repair",
                "give a positive time between failures, like 1000h, and a repair of at least 0",
            )


class Breaking:
    """Draws when each of ``replicas`` fails, and has it lost and restored."""

    def __init__(
        self,
        given: Failures,
        replicas: int,
        devices: int,
        random: Random,
        at: At,
        lose: Callable[[int, float], bool],
        restore: Callable[[int, float], None],
    ) -> None:
        self._given, self._rate, self._random = given, devices / given.mtbf_s, random
        self._at, self._lose, self._restore = at, lose, restore
        for number in range(replicas):
            self._next(number, 0.0)

    def _next(self, number: int, now_s: float) -> None:
        self._at(now_s + self._random.expovariate(self._rate), lambda time: self._fail(number, time))

    def _fail(self, number: int, now_s: float) -> None:
        if self._lose(number, now_s):
            self._at(now_s + self._given.repair_s, lambda time: self._repaired(number, time))
        else:  # it was switched off
            self._next(number, now_s)

    def _repaired(self, number: int, now_s: float) -> None:
        self._restore(number, now_s)
        self._next(number, now_s)
