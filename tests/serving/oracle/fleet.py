"""Engines behind a router."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.serving.oracle.engine import Engine
from tests.serving.oracle.jobs import Job


@dataclass
class Fleet:
    """Engines some of which may only read prompts (the first ``readers``); ``low``: how many, the last ones, serve jobs of
    priority 0 alone where others serve urgent ones (None: no such division).
    """

    env: Any
    engines: list[Engine]
    routing: str = "least_loaded"
    readers: int = 0
    up: set[int] = field(default_factory=set)
    draws: random.Random = field(default_factory=lambda: random.Random(0))
    token_s: float = 0.0
    start_s: float = 0.0
    layers: int = 1
    low: int | None = None
    turns: dict[str, int] = field(default_factory=lambda: {"read": -1, "decode": -1})
    free: dict[int, float] = field(default_factory=dict)
    held: list[Job] = field(default_factory=list)
    sent: dict[str, dict[int, int]] = field(default_factory=lambda: {"read": {}, "decode": {}})
    """By block, the engine that last got a prompt with it."""

    def route(self, job: Job) -> None:
        kind = "decode" if job.decodes else "read"
        numbers = [n for n in sorted(self.up) if (n < self.readers) == (kind == "read" and self.readers > 0)]
        if not numbers:
            self.held.append(job)
            return
        if self.low is not None:
            urgent = [n for n in numbers if (n < len(self.engines) - self.low) == (job.priority > 0)]
            numbers = urgent or numbers
        self.engines[self.choose(job, kind, numbers)].put(job)

    def choose(self, job: Job, kind: str, numbers: list[int]) -> int:
        if self.routing == "round_robin":
            self.turns[kind] = (self.turns[kind] + 1) % len(numbers)
            return numbers[self.turns[kind]]
        if self.routing == "power_of_two" and len(numbers) > 1:
            numbers = self.draws.sample(numbers, 2)
        loads = [self.engines[n].load for n in numbers]
        idlest = numbers[loads.index(min(loads))]
        if self.routing != "prefix_aware":
            return idlest
        # SGLang's: by load where loads differ by more than 32; else by prefix where more than half of it is known
        sent = self.sent[kind]
        matched = [n for n, name in enumerate(job.ids, 1) if name in sent]
        chosen = idlest
        if matched and max(loads) - min(loads) <= 32 and matched[-1] > 0.5 * len(job.ids):
            known = sent[job.ids[matched[-1] - 1]]
            chosen = known if known in numbers else idlest
        for name in job.ids:
            sent[name] = chosen
        return chosen

    def hand_over(self, job: Job, sender: Engine) -> None:
        """Layer by layer while the prompt is read, the last one after it; a sender sends one cache at a time."""
        number, seconds = self.engines.index(sender), job.target * self.token_s + self.start_s
        begun = max(job.began, self.free.get(number, 0.0))
        ready = max(self.env.now + seconds / self.layers, begun + seconds)
        self.free[number] = ready

        def later():
            yield self.env.timeout(ready - self.env.now)
            self.route(job)

        self.env.process(later())

    def befall(self, events):
        for time, number, what in events:
            yield self.env.timeout(time - self.env.now)
            if what in ("failed", "leaves"):
                self.up.discard(number)
            if what == "failed":
                for job in self.engines[number].fail():
                    self.route(job)
            elif what == "off":
                self.engines[number].cache.kept = []
            elif what in ("up", "repaired"):
                self.come(number)

    def come(self, number: int) -> None:
        self.up.add(number)
        held, self.held = self.held, []
        for job in held:
            self.route(job)
