"""The paged cache of a device as lists that are searched from one end, and the memories below it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import takewhile
from math import ceil
from typing import Any

from tests.serving.oracle.jobs import BLOCK, Job


@dataclass
class Tier:
    """A memory below the device's: names that fit, the oldest first, and a link that sends one request's at a time."""

    most: int
    token_s: float
    start_s: float
    link: Any
    names: list[int] = field(default_factory=list)

    def keep(self, name: int) -> int | None:
        """It is the newest now; returns what falls out."""
        if name in self.names:
            self.names.remove(name)
        self.names.append(name)
        return self.names.pop(0) if len(self.names) > self.most else None


@dataclass
class Cache:
    """``ahead``: drafted tokens, which need room too; ``whole``: room for a whole answer is taken with that of its prompt."""

    blocks: int
    id_tokens: int = 0
    ahead: int = 0
    whole: bool = False
    tiers: list[Tier] = field(default_factory=list)
    holders: list[Job] = field(default_factory=list)
    users: Counter[int] = field(default_factory=Counter)
    kept: list[int] = field(default_factory=list)  # named blocks that nobody uses, least recently used first
    peak: int = 0

    @property
    def width(self) -> int:
        return self.id_tokens // BLOCK

    def used(self) -> int:
        return sum(job.own for job in self.holders) + self.width * len(self.users)

    def check(self) -> None:
        self.peak = max(self.peak, self.used())
        assert self.used() + self.width * len(self.kept) <= self.blocks

    def begin(self, job: Job, spare: int = 0) -> list[tuple[Tier, int]] | None:
        """Takes the room of its prompt, if that is there beside ``spare`` blocks; what must be fetched from below, by tier."""
        handed = job.decodes
        names = [] if handed or not self.width else job.ids[: (job.target - 1) // self.id_tokens]
        here = list(takewhile(lambda name: name in self.users or name in self.kept, names))
        further = job.output - job.made - 1 if self.whole else 0
        need = ceil((job.target + self.ahead + further) / BLOCK) - len(here) * self.width
        revived = sum(1 for name in here if name in self.kept) * self.width
        if self.used() + need + revived + spare > self.blocks:
            return None
        for name in here:
            self.users[name] += 1
            if name in self.kept:
                self.kept.remove(name)
        fetched = self.below(names[len(here) :])
        job.own, job.shared = need, len(here)
        self.holders.append(job)
        self.evict()
        if handed:
            job.tokens = job.target
        else:
            job.read = (len(here) + sum(count for _, count in fetched)) * self.id_tokens
        return fetched

    def below(self, names: list[int]) -> list[tuple[Tier, int]]:
        """How many of the leading ``names`` each tier has, which keeps them and counts them as used."""
        counts: Counter[int] = Counter()
        for name in names:
            holding = [i for i, tier in enumerate(self.tiers) if name in tier.names]
            if not holding:
                break
            self.tiers[holding[0]].keep(name)
            counts[holding[0]] += 1
        return [(self.tiers[i], count) for i, count in sorted(counts.items())]

    def evict(self) -> None:
        while self.used() + self.width * len(self.kept) > self.blocks:
            falling: int | None = self.kept.pop(0)
            for tier in self.tiers:
                if falling is not None:
                    falling = tier.keep(falling)

    def name(self, job: Job, tokens: int) -> None:
        """Others may use the full blocks of its first tokens, up to one that somebody else named meanwhile."""
        if not self.width:
            return
        for name in job.ids[job.shared : tokens // self.id_tokens]:
            if name in self.users or name in self.kept:
                break
            self.users[name] = 1
            job.own -= self.width
            job.shared += 1

    def leave(self, job: Job, tokens: int) -> None:
        self.name(job, tokens - 1)
        self.holders.remove(job)
        for name in reversed(job.ids[: job.shared]):
            self.users[name] -= 1
            if not self.users[name]:
                del self.users[name]
                self.kept.append(name)

    def wanted(self, job: Job) -> int:
        """Blocks for the token that it writes next, and those drafted behind it."""
        return max(ceil((job.tokens + 1 + self.ahead) / BLOCK) - job.own - job.shared * self.width, 0)

    def grow(self, decoding: list[Job]) -> bool:
        """Takes the blocks that they want for the next step, if all are there."""
        if self.used() + sum(self.wanted(job) for job in decoding) > self.blocks:
            return False
        for job in decoding:
            job.own += self.wanted(job)
        self.evict()
        return True

    def clear(self) -> None:
        self.holders, self.users, self.kept = [], Counter(), []
        for tier in self.tiers:
            tier.names = []
