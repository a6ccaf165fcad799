"""An independent simulation of continuous batching on SimPy: one process per replica that steps token by token, with plain
lists and no closed forms. Only the seconds of a step come from the tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Any

import simpy


@dataclass
class Job:
    number: int
    prompt: int
    output: int
    read: int = 0
    made: int = 0
    tokens: int = 0  # in the cache
    again: int = 0  # tokens to read, once it was put back
    arrived: float = 0.0
    first: float = -1.0
    done: float = -1.0
    blocks: int = 0

    @property
    def target(self) -> int:
        return self.again or self.prompt


@dataclass
class Engine:
    """vLLM V1's scheduler, step by step."""

    env: Any
    clock: Any
    blocks: int
    budget: int
    most: int
    block: int = 16
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    wake: Any = None
    peak: int = 0

    def used(self) -> int:
        return sum(job.blocks for job in self.running)

    def put(self, job: Job) -> None:
        job.arrived = self.env.now
        self.waiting.append(job)
        if self.wake is not None and not self.wake.triggered:
            self.wake.succeed()

    def run(self):
        while True:
            if not self.waiting and not self.running:
                self.wake = self.env.event()
                yield self.wake
            preempted = self.grow()
            decoding = [job for job in self.running if job.read >= job.target]
            pieces = self.pieces(self.budget - len(decoding), preempted)
            self.peak = max(self.peak, self.used())
            assert self.used() <= self.blocks
            yield self.env.timeout(self.seconds(decoding, pieces))
            self.give(decoding, pieces)

    def grow(self) -> bool:
        """Blocks for the token that each decoding job writes; the last admitted is put back where there are none."""
        preempted = False
        while True:
            decoding = [job for job in self.running if job.read >= job.target]
            wanted = sum(ceil((job.tokens + 1) / self.block) - job.blocks for job in decoding)
            if self.used() + wanted <= self.blocks:
                for job in decoding:
                    job.blocks = ceil((job.tokens + 1) / self.block)
                return preempted
            victim = self.running.pop()
            victim.again = victim.prompt + victim.made
            victim.read = victim.tokens = victim.blocks = 0
            self.waiting.insert(0, victim)
            self.waiting.sort(key=lambda job: job.number)
            preempted = True

    def pieces(self, budget: int, preempted: bool) -> list[tuple[Job, int]]:
        found = []
        for job in self.running:
            if job.read < job.target and budget > 0:
                found.append((job, min(job.target - job.read, budget)))
                budget -= found[-1][1]
        while self.waiting and budget > 0 and len(self.running) < self.most and not preempted:
            job = self.waiting[0]
            need = ceil(job.target / self.block)
            if self.used() + need > self.blocks:
                break
            self.waiting.pop(0)
            job.blocks = need
            self.running.append(job)
            found.append((job, min(job.target, budget)))
            budget -= found[-1][1]
        return found

    def seconds(self, decoding: list[Job], pieces: list[tuple[Job, int]]) -> float:
        count = len(decoding)
        context = sum(job.tokens + 1 for job in decoding) / count if count else 0.0
        if not pieces:
            device, host, _, _ = self.clock.decode(count, context)
            return float(device + host)
        ending = sum(1 for job, tokens in pieces if job.read + tokens >= job.target)
        device, host, _, _ = self.clock.mixed(count, context, [(t, job.read) for job, t in pieces], ending)
        return float(device + host)

    def give(self, decoding: list[Job], pieces: list[tuple[Job, int]]) -> None:
        now = self.env.now
        for job in decoding:
            job.tokens += 1
            job.made += 1
        for job, tokens in pieces:
            job.read += tokens
            if job.read >= job.target:
                job.tokens = job.target
                job.made += 1
                if job.first < 0:
                    job.first = now
        for job in [job for job in self.running if job.made >= job.output]:
            job.done = now
            self.running.remove(job)


def simulate(clock, requests, blocks: int, budget: int, most: int) -> tuple[list[Job], Engine]:
    env = simpy.Environment()
    engine = Engine(env, clock, blocks, budget, most)
    env.process(engine.run())
    jobs = [Job(i, int(p), int(o)) for i, (p, o) in enumerate(zip(requests.prompt, requests.output, strict=True))]

    def arrivals():
        for job, time in zip(jobs, requests.arrival_s.tolist(), strict=True):
            yield env.timeout(time - env.now)
            engine.put(job)

    env.process(arrivals())
    while any(job.done < 0 for job in jobs):
        env.step()
    return jobs, engine
