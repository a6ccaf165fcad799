"""Schedulers other than vLLM's: prompts first, by a guess of what answers take, and static batches."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import simpy

from tests.serving.oracle.engine import Engine, Step
from tests.serving.oracle.jobs import BLOCK, Job


@dataclass(eq=False)
class PromptsFirst(Engine):
    """SGLang: while there is a prompt to read nobody decodes."""

    def plan(self) -> Step:
        self.receive()
        pieces = self.pieces(self.budget, False)
        if pieces:
            self.cache.check()
            return [], pieces
        self.grow()
        self.cache.check()
        return self.decoding(), []


@dataclass(eq=False)
class Guessing(PromptsFirst):
    """SGLang's part of outputs that it keeps free: falls with every decode step, set anew where jobs were put back."""

    ratio: float = 0.7

    def begin(self, job: Job, spare: int = 0) -> bool:
        if self.running:
            promised = self.ratio * sum(one.output - one.made for one in self.running) + min(
                job.output - job.made, 4096
            )
            free = (self.cache.blocks - self.cache.used()) * BLOCK
            if ceil(job.target / BLOCK) * BLOCK + promised > free:
                return False
        return super().begin(job, spare)

    def grow(self) -> bool:
        preempted = super().grow()
        left = self.decoding()
        if preempted and left:
            made, total = sum(job.made for job in left), sum(job.output for job in left)
            self.ratio = min((made + 20.0 * len(left)) / (total + 1.0), 1.0)
        return preempted

    def give(self, decoding: list[Job], pieces: list[tuple[Job, int]]) -> None:
        if decoding:
            self.ratio = max(self.ratio - (0.7 - 0.098) / 600.0, 0.098)
        super().give(decoding, pieces)


@dataclass(eq=False)
class Static(Engine):
    """A batch begins when it is full or its first has waited long enough, and runs padded to its longest to the end."""

    batch: int = 0
    wait_s: float = 0.0

    def put(self, job: Job) -> None:
        self.waiting.append(job)
        if self.wake is not None and not self.wake.triggered:
            self.wake.succeed()

    def run(self):
        while True:
            while len(self.waiting) < self.batch:
                ends = [
                    self.env.timeout(max(job.arrived + self.wait_s - self.env.now, 0.0)) for job in self.waiting[:1]
                ]
                self.wake = self.env.event()
                happened = yield simpy.AnyOf(self.env, [self.wake, *ends])
                if any(end in happened for end in ends):
                    break
            jobs, self.waiting = self.waiting[: self.batch], self.waiting[self.batch :]
            longest, most, count = max(job.prompt for job in jobs), max(job.output for job in jobs), len(jobs)
            yield self.env.timeout(sum(self.clock.mixed(0, 0.0, [(longest, 0)] * count, count)[:2]))
            for job in jobs:
                job.first = self.env.now
            for step in range(1, most):
                yield self.env.timeout(sum(self.clock.decode(count, longest + step)[:2]))
            for job in jobs:
                job.done = self.env.now
