"""A scheduler that steps token by token, with plain lists and no closed forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import simpy

from tests.serving.oracle.cache import Cache, Tier
from tests.serving.oracle.jobs import NO_ADAPTER, Job
from tests.serving.oracle.slots import Slots

Step = tuple[list[Job], list[tuple[Job, int]]]
ONE_TOKEN: Callable[[], int] = lambda: 1  # noqa: E731


@dataclass(eq=False)
class Engine:
    """vLLM V1's scheduler, step by step. ``tell`` hears of jobs that leave after their first token (``hands_over``);
    ``clocks`` time its steps, the one at ``level`` now; ``passed`` draws the tokens that a pass makes of a sequence; ``draws``
    tells the joules of the step under way.
    """

    env: Any
    clocks: Any
    cache: Cache
    budget: int
    most: int
    chunked: bool = True
    slots: Slots | None = None
    passed: Callable[[], int] = ONE_TOKEN
    draws: Callable[[Any], float] | None = None
    hands_over: bool = False
    tell: Callable[[Job, Any], None] | None = None
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    fetching: list[Job] = field(default_factory=list)  # of the running ones
    arrived: list[Job] = field(default_factory=list)  # of those, what waits for the next step
    level: int = 0
    changed: Any = None
    wake: Any = None
    process: Any = None
    arrivals: int = 0
    life: int = 0  # how often it failed
    step: Step | None = None
    step_s: float = 0.0  # as long as it takes at this level
    left: float = 0.0  # part of it that was not done at ``since``
    since: float = 0.0
    spent_j: float = 0.0  # up to ``since``

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.running)

    @property
    def clock(self) -> Any:
        return self.clocks[self.level]

    @property
    def width(self) -> int:
        return 1 + self.cache.ahead

    def put(self, job: Job) -> None:
        self.arrivals += 1
        job.order = self.arrivals
        self.queue(job)
        self.poke()  # of jobs that come in one moment the first begins at once

    def queue(self, job: Job) -> None:
        self.waiting.append(job)
        self.waiting.sort(key=lambda one: one.rank)

    def poke(self) -> None:
        """If it sleeps, see whether there is something to do."""
        if self.wake is None or self.wake.triggered:
            return
        step = self.plan()
        if any(step):
            self.wake.succeed(step)

    # Time

    def run(self):
        while True:
            try:
                step = self.plan()
                if not any(step):
                    self.rests(True)
                    self.wake = self.env.event()
                    step = yield self.wake
                    self.wake = None
                self.rests(False)
                yield from self.spend(step)
                self.give(*step)
            except simpy.Interrupt:  # it failed
                self.step = self.wake = None

    def rests(self, sleeps: bool) -> None:
        """What shares the device hears of it."""

    def spend(self, step: Step):
        """The step at the pace of the level, which may change meanwhile."""
        copies = 0.0
        if self.slots is not None:
            copies, self.slots.waits_s = self.slots.waits_s, 0.0
        self.step, self.left = step, 1.0
        while True:
            self.since, self.step_s = self.env.now, self.seconds(*step) + copies
            if len(self.clocks) == 1:
                yield self.env.timeout(self.left * self.step_s)
                break
            end, self.changed = self.env.timeout(self.left * self.step_s), self.env.event()
            yield end | self.changed
            self.spent_j = self.joules
            if end.processed:
                break
            self.left -= (self.env.now - self.since) / self.step_s
        self.step = None

    @property
    def joules(self) -> float:
        """Of all steps so far, that under way counted as far as it is done."""
        if self.step is None or self.draws is None:
            return self.spent_j
        part = (self.env.now - self.since) / self.step_s
        return self.spent_j + float(part * self.draws(self))

    def set_level(self, level: int) -> None:
        if level != self.level:
            self.level = level
            if self.changed is not None and not self.changed.triggered:
                self.changed.succeed()

    def seconds(self, decoding: list[Job], pieces: list[tuple[Job, int]]) -> float:
        count = len(decoding)
        context = sum(job.tokens + 1 for job in decoding) / count if count else 0.0
        with_adapter = [job.adapter for job in self.running if job.adapter != NO_ADAPTER and self.slots is not None]
        adapters = len(set(with_adapter)), len(with_adapter) / max(len(self.running), 1)
        if not pieces:
            device, host, _, _ = self.clock.decode(count, context, adapters[1], adapters[0])
            return float(device + host)
        ending = sum(1 for job, tokens in pieces if job.read + tokens >= job.target)
        parts = [(tokens, job.read) for job, tokens in pieces]
        device, host, _, _ = self.clock.mixed(count, context, parts, ending, adapters[1], adapters[0])
        return float(device + host)

    def fail(self) -> list[Job]:
        lost = sorted([*self.waiting, *self.running], key=lambda job: job.rank)
        self.waiting, self.running, self.fetching, self.arrived = [], [], [], []
        self.cache.clear()
        self.life += 1
        if self.slots is not None:
            self.slots.there, self.slots.waits_s = [], 0.0
        for job in lost:
            job.lose()
        self.process.interrupt()
        return lost

    # What is next

    def plan(self) -> Step:
        for job in self.arrived:
            self.fetching.remove(job)
            self.running.remove(job)
            self.running.append(job)  # behind those that could be read before
            self.cache.name(job, job.read)
        self.arrived = []
        self.receive()
        preempted = self.grow()
        decoding = self.decoding()
        pieces = self.pieces(self.budget - len(decoding) * self.width, preempted)
        self.cache.check()
        return decoding, pieces

    def decoding(self) -> list[Job]:
        return [job for job in self.running if job.decodes]

    def begin(self, job: Job, spare: int = 0) -> bool:
        """Whether it is begun: there is room for its prompt."""
        if len(self.cache.holders) >= self.most or (self.slots is not None and not self.slots.fits(job, self.running)):
            return False
        below = self.cache.begin(job, spare)
        if below is None:
            return False
        if self.slots is not None:
            self.slots.enter(job, self.running)
        self.waiting.remove(job)
        self.running.append(job)
        if job.began < 0:
            job.began, job.cached = self.env.now, job.read
        if below:
            job.fetched += sum(count for _, count in below) * self.cache.id_tokens
            self.fetching.append(job)
            self.env.process(self.fetch(job, below))
        return True

    def fetch(self, job: Job, below: list[tuple[Tier, int]]):
        def one(tier: Tier, count: int):
            with tier.link.request() as turn:
                yield turn
                yield self.env.timeout(tier.start_s + count * self.cache.id_tokens * tier.token_s)

        life = self.life
        yield simpy.AllOf(self.env, [self.env.process(one(*each)) for each in below])
        if life == self.life:  # else it was lost meanwhile
            self.arrived.append(job)
            self.poke()

    def receive(self) -> None:
        """Jobs whose cache came from elsewhere decode at once, a block for each step to come left free."""
        while True:
            able = [job for job in self.waiting if self.slots is None or self.slots.fits(job, self.running)]
            if not able or not able[0].decodes:
                return
            spare = sum(self.cache.wanted(job) for job in self.decoding()) + 1 if self.running else 0
            if not self.begin(able[0], spare):
                return

    def grow(self) -> bool:
        """Blocks for what each decoding job writes; the last admitted is put back where there are none."""
        preempted = False
        while not self.cache.grow(self.decoding()):
            victim = max((job for job in self.running if job not in self.fetching), key=lambda job: job.rank)
            self.leave(victim, victim.tokens if victim.decodes else victim.read)
            victim.lose()
            self.put_back(victim)
            preempted = True
        return preempted

    def put_back(self, victim: Job) -> None:
        self.queue(victim)

    def leave(self, job: Job, tokens: int) -> None:
        self.running.remove(job)
        self.cache.leave(job, tokens)
        if self.slots is not None:
            self.slots.leave(job, self.running)

    def pieces(self, budget: int, preempted: bool) -> list[tuple[Job, int]]:
        found: list[tuple[Job, int]] = []

        def piece(job: Job) -> int:
            left = job.target - job.read
            if self.chunked:
                return min(left, budget)
            return left if left <= budget or not found else 0

        for job in [job for job in self.running if not job.decodes and job not in self.fetching]:
            if piece(job) <= 0:
                return found
            found.append((job, piece(job)))
            budget -= found[-1][1]
        for job in [] if preempted else list(self.waiting):
            if self.slots is not None and not self.slots.fits(job, self.running):
                continue  # others go first
            if budget <= 0 or job.decodes:
                break
            if piece(job) <= 0 or not self.begin(job):
                break
            if job in self.fetching:
                continue
            found.append((job, piece(job)))
            budget -= found[-1][1]
        return found

    def give(self, decoding: list[Job], pieces: list[tuple[Job, int]]) -> None:
        now = self.env.now
        for job in decoding:
            made = min(self.passed(), job.output - job.made)
            job.tokens += made
            job.made += made
        for job in [job for job in decoding if job.made >= job.output]:
            job.done = now
            self.leave(job, job.tokens)
        for job, tokens in pieces:
            job.read += tokens
            if not job.decodes:
                continue
            self.cache.name(job, job.target)
            job.tokens = job.target
            job.made += 1
            if job.first < 0:
                job.first = now
            if job.made < job.output and not self.hands_over:
                self.keep(job)
                continue
            self.leave(job, job.target)
            if job.made < job.output and self.tell is not None:
                self.tell(job, self)
            else:
                job.done = now

    def keep(self, job: Job) -> None:
        """Its prompt is read: it decodes here."""
