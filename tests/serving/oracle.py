"""An independent simulation of continuous batching on SimPy: one process per replica that steps token by token, with plain
lists and no closed forms. Only the seconds of a step, those of a transfer, and when replicas come and go are given.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from math import ceil
from typing import Any

import simpy

BLOCK = 16


@dataclass
class Job:
    number: int
    prompt: int
    output: int
    ids: list[int] = field(default_factory=list)
    priority: int = 0
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

    @property
    def target(self) -> int:
        return self.again or self.prompt

    @property
    def rank(self) -> tuple[int, int]:
        return -self.priority, self.order

    def lose(self) -> None:
        """Its cache is gone: what it read and made is read again."""
        if self.made:
            self.again = self.prompt + self.made
        self.read = self.tokens = self.own = self.shared = 0


@dataclass
class Engine:
    """vLLM V1's scheduler, step by step. ``tell`` hears of jobs that leave after their first token (``hands_over``)."""

    env: Any
    clock: Any
    blocks: int
    budget: int
    most: int
    chunked: bool = True
    id_tokens: int = 0
    hands_over: bool = False
    tell: Callable[[Job, Any], None] | None = None
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    users: Counter[int] = field(default_factory=Counter)
    kept: list[int] = field(default_factory=list)  # named blocks that nobody uses, least recently used first
    wake: Any = None
    process: Any = None
    peak: int = 0
    arrivals: int = 0

    @property
    def width(self) -> int:
        return self.id_tokens // BLOCK

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.running)

    def used(self) -> int:
        return sum(job.own for job in self.running) + self.width * len(self.users)

    def put(self, job: Job) -> None:
        self.arrivals += 1
        job.order = self.arrivals
        self.waiting.append(job)
        self.waiting.sort(key=lambda one: one.rank)
        if self.wake is not None and not self.wake.triggered:
            self.wake.succeed(self.plan())  # of jobs that come in one moment the first begins at once

    def plan(self) -> tuple[list[Job], list[tuple[Job, int]]]:
        self.receive()
        preempted = self.grow()
        decoding = [job for job in self.running if job.read >= job.target]
        pieces = self.pieces(self.budget - len(decoding), preempted)
        self.peak = max(self.peak, self.used())
        assert self.used() + self.width * len(self.kept) <= self.blocks
        return decoding, pieces

    def run(self):
        while True:
            try:
                if not self.waiting and not self.running:
                    self.wake = self.env.event()
                    step = yield self.wake
                else:
                    step = self.plan()
                yield self.env.timeout(self.seconds(*step))
                self.give(*step)
            except simpy.Interrupt:  # it failed
                continue

    def fail(self) -> list[Job]:
        lost = sorted([*self.waiting, *self.running], key=lambda job: job.rank)
        self.waiting, self.running, self.users, self.kept = [], [], Counter(), []
        for job in lost:
            job.lose()
        self.process.interrupt()
        return lost

    # Cache

    def begin(self, job: Job, spare: int = 0) -> bool:
        """Whether its prompt fits now, besides ``spare`` blocks."""
        handed = job.read >= job.target
        names = [] if handed or not self.width else job.ids[: (job.target - 1) // self.id_tokens]
        here = list(takewhile(lambda name: name in self.users or name in self.kept, names))
        need = ceil(job.target / BLOCK) - len(here) * self.width
        revived = sum(1 for name in here if name in self.kept) * self.width
        if len(self.running) >= self.most or self.used() + need + revived + spare > self.blocks:
            return False
        for name in here:
            self.users[name] += 1
            if name in self.kept:
                self.kept.remove(name)
        job.own, job.shared = need, len(here)
        self.waiting.remove(job)
        self.running.append(job)
        self.evict()
        if handed:
            job.tokens = job.target
        else:
            job.read = len(here) * self.id_tokens
        if job.began < 0:
            job.began, job.cached = self.env.now, job.read
        return True

    def evict(self) -> None:
        while self.used() + self.width * len(self.kept) > self.blocks:
            self.kept.pop(0)

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
        self.running.remove(job)
        for name in reversed(job.ids[: job.shared]):
            self.users[name] -= 1
            if not self.users[name]:
                del self.users[name]
                self.kept.append(name)

    # Steps

    def receive(self) -> None:
        """Jobs whose cache came from elsewhere decode at once, a block for each step to come left free."""
        while self.waiting and self.waiting[0].read >= self.waiting[0].target:
            decoding = [job for job in self.running if job.read >= job.target]
            spare = sum(self.wanted(job) for job in decoding) + 1 if self.running else 0
            if not self.begin(self.waiting[0], spare):
                return

    def wanted(self, job: Job) -> int:
        return ceil((job.tokens + 1) / BLOCK) - job.own - job.shared * self.width

    def grow(self) -> bool:
        """Blocks for the token that each decoding job writes; the last admitted is put back where there are none."""
        preempted = False
        while True:
            decoding = [job for job in self.running if job.read >= job.target]
            if self.used() + sum(self.wanted(job) for job in decoding) <= self.blocks:
                for job in decoding:
                    job.own += self.wanted(job)
                self.evict()
                return preempted
            victim = max(self.running, key=lambda job: job.rank)
            self.leave(victim, victim.tokens if victim.read >= victim.target else victim.read)
            victim.lose()
            self.waiting.append(victim)
            self.waiting.sort(key=lambda job: job.rank)
            preempted = True

    def pieces(self, budget: int, preempted: bool) -> list[tuple[Job, int]]:
        found: list[tuple[Job, int]] = []

        def piece(job: Job) -> int:
            left = job.target - job.read
            if self.chunked:
                return min(left, budget)
            return left if left <= budget or not found else 0

        for job in [job for job in self.running if job.read < job.target]:
            if piece(job) <= 0:
                return found
            found.append((job, piece(job)))
            budget -= found[-1][1]
        while self.waiting and budget > 0 and not preempted:
            job = self.waiting[0]
            if piece(job) <= 0 or not self.begin(job):
                break
            found.append((job, piece(job)))
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
        for job in [job for job in decoding if job.made >= job.output]:
            job.done = now
            self.leave(job, job.tokens)
        for job, tokens in pieces:
            job.read += tokens
            if job.read < job.target:
                continue
            self.name(job, job.target)
            job.tokens = job.target
            job.made += 1
            if job.first < 0:
                job.first = now
            if job.made >= job.output or self.hands_over:
                self.leave(job, job.target)
                if job.made < job.output and self.tell is not None:
                    self.tell(job, self)
                else:
                    job.done = now


@dataclass
class Fleet:
    """Engines behind a router, some of which may only read prompts; ``events``: (time, engine, what)."""

    env: Any
    engines: list[Engine]
    routing: str = "least_loaded"
    readers: int = 0
    up: set[int] = field(default_factory=set)
    draws: random.Random = field(default_factory=lambda: random.Random(0))
    token_s: float = 0.0
    start_s: float = 0.0
    layers: int = 1
    turns: dict[str, int] = field(default_factory=lambda: {"read": -1, "decode": -1})
    free: dict[int, float] = field(default_factory=dict)
    held: list[Job] = field(default_factory=list)

    def route(self, job: Job) -> None:
        kind = "decode" if job.read >= job.target else "read"
        numbers = [n for n in sorted(self.up) if (n < self.readers) == (kind == "read" and self.readers > 0)]
        if not numbers:
            self.held.append(job)
            return
        engines = [self.engines[n] for n in numbers]
        if self.routing == "round_robin":
            self.turns[kind] = (self.turns[kind] + 1) % len(engines)
            chosen = engines[self.turns[kind]]
        else:
            if self.routing == "power_of_two" and len(engines) > 1:
                engines = self.draws.sample(engines, 2)
            chosen = min(engines, key=lambda engine: engine.load)
        chosen.put(job)

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
                self.engines[number].kept = []
            elif what in ("up", "repaired"):
                self.up.add(number)
                held, self.held = self.held, []
                for job in held:
                    self.route(job)


def simulate(
    clock,
    requests,
    blocks: int,
    budget: int,
    most: int,
    *,
    count: int = 1,
    chunked: bool = True,
    events=(),
    up: int | None = None,
    readers: int = 0,
    routing: str = "least_loaded",
    seed: int = 0,
    transfer: tuple[float, float, int] = (0.0, 0.0, 1),
    prefix: bool = False,
) -> tuple[list[Job], list[Engine]]:
    env = simpy.Environment()
    width = requests.id_tokens if prefix else 0
    engines = [Engine(env, clock, blocks, budget, most, chunked, width) for _ in range(count)]
    fleet = Fleet(env, engines, routing, readers, set(range(up or count)), random.Random(seed), *transfer)
    for engine in engines[:readers]:
        engine.hands_over, engine.tell = True, fleet.hand_over
    for engine in engines:
        engine.process = env.process(engine.run())
    jobs = [_job(requests, i) for i in range(len(requests))]

    def arrivals():
        for job, time in zip(jobs, requests.arrival_s.tolist(), strict=True):
            yield env.timeout(time - env.now)
            job.arrived = env.now
            fleet.route(job)

    env.process(arrivals())
    env.process(fleet.befall(events))
    while any(job.done < 0 for job in jobs):
        env.step()
    return jobs, engines


def _job(requests, i: int) -> Job:
    ids = [] if requests.offsets is None else requests.ids[requests.offsets[i] : requests.offsets[i + 1]].tolist()
    priority = 0 if requests.priority is None else int(requests.priority[i])
    return Job(i, int(requests.prompt[i]), int(requests.output[i]), ids, priority)
