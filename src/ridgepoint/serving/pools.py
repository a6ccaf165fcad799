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
    """The replicas that are up, by what they do. Where the last replicas of a power budget are of low priority, requests of
    priority above 0 go to the others, and all others to these, as long as there are any.
    """

    def __init__(self, given: Deployment, replicas: list[Replica], random: Random) -> None:
        first, mixed = given.readers, given.mixed_replicas
        self._all = list(replicas)
        self._cuts = (first, first + mixed) if first else (len(replicas), len(replicas))
        self.front, self.mixed, self.back = replicas[: self._cuts[0]], replicas[first : first + mixed], list[Replica]()
        if first:
            self.back = replicas[first + mixed :]
        else:
            self.mixed = []
        self._routes = {
            half: router(given.routing, random) for half in ("front", "front urgent", "back", "back urgent")
        }
        low = given.budget.low if given.budget is not None else None
        self._urgent = len(replicas) - low if low and low < len(replicas) else None

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
        if not self.front:
            return least(self.mixed) if self.mixed else None
        chosen = self._chosen(one, self.front, "front")
        if self.mixed and chosen.queued >= OVERFLOW:
            other = least(self.mixed)
            return other if other.queued < chosen.queued else chosen
        return chosen

    def take_on(self, one: Active) -> Replica | None:
        """Who decodes ``one``, whose prompt was read elsewhere; None while nobody can."""
        if not self.back:
            return least(self.mixed) if self.mixed else None
        chosen = self._chosen(one, self.back, "back")
        if self.mixed and chosen.waiting:
            other = least(self.mixed)
            return other if other.load < chosen.load else chosen
        return chosen

    def _chosen(self, one: Active, pool: list[Replica], half: str) -> Replica:
        if self._urgent is None:
            return self._routes[half](one, pool)
        urgent = one.priority > 0
        mine = [replica for replica in pool if (replica.name < self._urgent) == urgent]
        return self._routes[f"{half} urgent" if urgent else half](one, mine or pool)
