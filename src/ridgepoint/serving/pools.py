"""Where requests and caches go: replicas that read prompts, replicas that decode, and mixed ones that take what overflows.

Without disaggregation all replicas are alike. With it a request goes to a replica that reads prompts, and its cache to one
that decodes (Splitwise, Patel et al. 2024); a mixed replica does both, and takes a prompt when ``OVERFLOW`` others wait on
each of the first pool, or a cache for which the second has no room. Pools hold only replicas that are up.
"""

from __future__ import annotations

from random import Random

from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.replica import Replica
from ridgepoint.serving.routing import least, router
from ridgepoint.serving.sequences import Active

OVERFLOW = 4
"""Prompts that wait on a replica when the mixed pool begins to help."""


class Pools:
    """The replicas that are up, by what they do. ``urgent``: the first of them that requests of priority above 0 go to."""

    def __init__(self, given: Deployment, replicas: list[Replica], random: Random) -> None:
        first, mixed = given.readers, given.mixed_replicas
        self._all = list(replicas)
        self._cuts = (first, first + mixed) if first else (len(replicas), len(replicas))
        self.front, self.mixed, self.back = replicas[: self._cuts[0]], replicas[first : first + mixed], list[Replica]()
        if first:
            self.back = replicas[first + mixed :]
        else:
            self.mixed = []
        self._to_front, self._to_back = (router(given.routing, pool, random) for pool in (self.front, self.back))
        low = given.budget.low if given.budget is not None else None
        self._urgent = len(replicas) - low if low and low < len(replicas) and not first else None

    def __len__(self) -> int:
        return len(self.front) + len(self.mixed) + len(self.back)

    def _pool(self, name: int) -> list[Replica]:
        if name < self._cuts[0]:
            return self.front
        return self.mixed if name < self._cuts[1] else self.back

    def remove(self, replica: Replica) -> None:
        """It takes no more requests."""
        pool = self._pool(replica.name)
        if replica in pool:
            pool.remove(replica)

    def add(self, replica: Replica) -> None:
        """It takes requests again."""
        pool = self._pool(replica.name)
        pool.append(replica)
        pool.sort(key=lambda other: other.name)

    def has(self, replica: Replica) -> bool:
        """Whether it is up."""
        return replica in self._pool(replica.name)

    def take(self, one: Active) -> Replica | None:
        """Who reads the prompt of ``one``; None while nobody can."""
        if self._urgent is not None:
            mine = [r for r in self.front if (r.name < self._urgent) == (one.priority > 0)]
            return least(mine or self.front) if self.front else None
        if not self.front:
            return least(self.mixed) if self.mixed else None
        chosen = self._to_front(one)
        if self.mixed and chosen.queued >= OVERFLOW:
            other = least(self.mixed)
            return other if other.queued < chosen.queued else chosen
        return chosen

    def take_on(self, one: Active) -> Replica | None:
        """Who decodes ``one``, whose prompt was read elsewhere; None while nobody can."""
        if not self.back:
            return least(self.mixed) if self.mixed else None
        chosen = self._to_back(one)
        if self.mixed and chosen.waiting:
            other = least(self.mixed)
            return other if other.load < chosen.load else chosen
        return chosen
