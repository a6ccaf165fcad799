"""Requests as the oracle knows them: token by token."""

from __future__ import annotations

from dataclasses import dataclass, field

BLOCK = 16
NO_ADAPTER = -1


@dataclass(eq=False)
class Job:
    number: int
    prompt: int
    output: int
    ids: list[int] = field(default_factory=list)
    priority: int = 0
    adapter: int = NO_ADAPTER
    order: int = 0  # of arrival at the engine that has it
    read: int = 0
    made: int = 0
    tokens: int = 0  # in the cache
    again: int = 0  # tokens to read, once its cache was lost
    arrived: float = 0.0
    began: float = -1.0
    first: float = -1.0
    done: float = -1.0
    own: int = 0  # blocks that nobody shares
    shared: int = 0  # named blocks in use
    cached: int = 0  # tokens that it found when it was first begun
    fetched: int = 0  # of those, tokens that lay below the device's memory

    @property
    def target(self) -> int:
        return self.again or self.prompt

    @property
    def decodes(self) -> bool:
        return self.read >= self.target

    @property
    def rank(self) -> tuple[int, int]:
        return -self.priority, self.order

    def lose(self) -> None:
        """Its cache is gone: what it read and made is read again."""
        if self.made:
            self.again = self.prompt + self.made
        self.read = self.tokens = self.own = self.shared = 0


def jobs_of(requests, adapters=None) -> list[Job]:
    def ids(i: int) -> list[int]:
        return [] if requests.offsets is None else requests.ids[requests.offsets[i] : requests.offsets[i + 1]].tolist()

    priority = [0] * len(requests) if requests.priority is None else requests.priority.tolist()
    named = [NO_ADAPTER] * len(requests) if adapters is None else adapters.tolist()
    return [
        Job(i, int(requests.prompt[i]), int(requests.output[i]), ids(i), priority[i], named[i])
        for i in range(len(requests))
    ]
