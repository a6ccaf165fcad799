"""Two engines on shares of one device: one reads prompts, the other decodes; the cache is that of both."""

from __future__ import annotations

from dataclasses import dataclass

from tests.serving.oracle.engine import Engine, Step
from tests.serving.oracle.jobs import Job


@dataclass(eq=False)
class Half(Engine):
    mate: Half | None = None

    @property
    def load(self) -> int:
        assert self.mate is not None
        return len(self.waiting) + len(self.running) + len(self.mate.running)

    def rests(self, sleeps: bool) -> None:
        assert self.mate is not None
        self.mate.set_level(0 if sleeps else 1)
        self.mate.poke()  # what was given back may be taken


@dataclass(eq=False)
class Reader(Half):
    def keep(self, job: Job) -> None:
        assert self.mate is not None
        self.running.remove(job)
        self.mate.running.append(job)
        self.mate.poke()


@dataclass(eq=False)
class Decoder(Half):
    def plan(self) -> Step:
        self.grow()
        self.cache.check()
        return self.decoding(), []

    def put_back(self, victim: Job) -> None:
        assert self.mate is not None
        self.mate.queue(victim)
