"""One replica of an engine: its scheduler, its cache and its clock.

What it does next is one *action*: a step that reads prompts (and decodes beside it), or a run of equal decode steps that
lasts until a sequence ends, room ends, the step time leaves its line in the tables, or a request arrives that could be
admitted. Such a run has a closed form, k · τ + slope · k(k − 1)/2, so that its cost does not depend on k.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil, inf, sqrt

from ridgepoint.serving.capacity import Cache
from ridgepoint.serving.clock import Clock
from ridgepoint.serving.room import Room
from ridgepoint.serving.scheduling import FULL, MIXED, RATIO, STATIC, Scheduling
from ridgepoint.serving.sequences import Active, Decoding

LOG = (
    "start_s",
    "seconds",
    "steps",
    "sequences",
    "stalled",
    "context",
    "tokens",
    "chosen",
    "host_s",
    "waiting",
    "used",
)
"""One row per action: seconds from its start, decode sequences, those that wait while prompts are read, mean context of the
first, tokens of a lane per step, sequences of a lane that get a token, host seconds, requests that wait, blocks in use."""
READ = ("row", "tokens", "past", "part")
"""One row per piece of a prompt: row of the log, tokens, earlier tokens, part of its own seconds that counted."""
RATIO_START, RATIO_END, RATIO_STEPS = 0.7, 0.098, 600
"""SGLang's guess of what outputs will still take: where it starts, where it decays to, in how many decode steps."""
CLIPPED = 4096
"""Output tokens that SGLang counts for a request it admits."""

Steps = Callable[[int], tuple[int, float]]


class Sink:
    """What happens to requests, told by replicas; kept by the simulation."""

    def began(self, one: Active, time_s: float) -> None:
        """``one`` is admitted."""

    def answered(self, one: Active, time_s: float) -> None:
        """``one`` has its first token."""

    def done(self, one: Active, time_s: float) -> None:
        """``one`` has all tokens, or all that this replica makes."""

    def put_back(self, one: Active) -> None:
        """``one`` lost its cache and will be computed again."""


class Replica:
    """Waiting, reading and decoding requests of one engine. ``name`` is its number; ``hands_over``: requests leave after
    their first token (a prefill replica). ``steps`` draws in how many steps a number of tokens is made, and at what rate.
    """

    __slots__ = (
        "_line", "_log_at", "_order", "_pieces", "_ratio", "_room", "_run", "_sink", "_steps", "_width", "blocked", "blocks",
        "cache", "clock", "decoding", "end_s", "hands_over", "idle", "log", "name", "reading", "reads", "rules",
        "start_s", "version", "waiting",
    )  # fmt: skip

    def __init__(
        self, name: int, clock: Clock, cache: Cache, rules: Scheduling, sink: Sink, steps: Steps, id_tokens: int = 0
    ) -> None:
        self.name, self.clock, self.cache, self.rules = name, clock, cache, rules
        self._width = 1 + clock.tables.drafted
        self._room = Room(cache, self._width - 1, rules.admits == FULL, id_tokens if rules.prefix_cache else 0)
        self.blocks = self._room.blocks
        self.decoding = Decoding(cache.block, rules.admits != FULL and rules.policy != STATIC)
        self.waiting: list[tuple[int, int, Active]] = []
        self.reading: list[Active] = []
        self.log, self.reads = array("d"), array("d")
        self.idle, self.blocked, self.hands_over = True, False, False
        self.start_s, self.end_s, self.version = 0.0, inf, 0
        self._sink, self._steps = sink, steps
        self._order = 0
        self._ratio = RATIO_START
        self._pieces: list[tuple[Active, int]] = []
        self._run = 0
        self._line = (0.0, 0.0)
        self._log_at = 0

    @property
    def load(self) -> int:
        """Requests that it has."""
        return len(self.waiting) + len(self.reading) + len(self.decoding.members)

    @property
    def running(self) -> int:
        """Requests that it reads or decodes."""
        return len(self.reading) + len(self.decoding.members)

    def holds(self, prompt: int, output: int) -> bool:
        """Whether a request could ever be served here."""
        return self._room.size(prompt + output + self._width - 2) <= self.cache.blocks

    def submit(self, one: Active, now_s: float) -> bool:
        """Take a request; returns whether ``end_s`` is new: the action under way was cut short, or one was begun."""
        self._order += 1
        one.order, one.came_s = self._order, now_s
        heappush(self.waiting, (-one.priority, one.order, one))
        if self.idle:
            self.plan(now_s)
            return True
        return self._cut(now_s)

    def _cut(self, now_s: float) -> bool:
        """End a run of decode steps at the first boundary from ``now_s`` on, if the new request could be admitted there."""
        if self._run <= 1 or self.rules.policy == STATIC or self.running >= self._most:
            return False
        if self.blocked and self.waiting[0][2].order != self._order:
            return False
        first, slope = self._line
        passed = now_s - self.start_s
        half = first - slope / 2.0
        exact = passed / first if slope < 1e-15 else (sqrt(half * half + 2.0 * slope * passed) - half) / slope
        steps = max(1, ceil(exact - 1e-9))
        if steps >= self._run:
            return False
        self._run = steps
        self.end_s = self.start_s + steps * first + slope * steps * (steps - 1) / 2.0
        self.version += 1
        return True

    @property
    def _most(self) -> int:
        return self.rules.max_sequences * self.clock.lanes

    def finish(self) -> None:
        """The action under way is done: give tokens, let go of what has ended, decide on the next."""
        now, run, pieces = self.end_s, self._run, self._pieces
        if run or pieces:
            self._complete_log()
        if run:
            self._finish_decoding(run, now)
        if pieces:
            self._finish_reading(pieces, now)
        self.plan(now)

    def _finish_decoding(self, steps: int, now: float) -> None:
        decoding = self.decoding
        if not self._pieces:  # a step that also reads took its blocks when it was planned
            self.blocks.take(decoding.blocks(steps))
            self._ratio = max(RATIO_END, self._ratio - steps * (RATIO_START - RATIO_END) / RATIO_STEPS)
        decoding.advance(steps)
        for one in decoding.ended():
            self._release(one, one.target + one.left)
            self._sink.done(one, now + self._lag_s())

    def _finish_reading(self, pieces: list[tuple[Active, int]], now: float) -> None:
        self._pieces = []
        for one, tokens in pieces:
            one.read += tokens
            if one.read < one.target:
                continue
            self._room.share(one, one.target)
            self.reading.remove(one)
            if not one.answered:
                one.answered = True
                self._sink.answered(one, now + self._lag_s())
            one.left -= 1
            if one.left and not self.hands_over:
                self._decode(one)
            else:
                self._release(one, one.target)
                self._sink.done(one, now if self.hands_over else now + self._lag_s())

    def _lag_s(self) -> float:
        """What passes until a token that is made has been sent: some decode steps."""
        lag = self.clock.tables.engine.lag
        if not lag:
            return 0.0
        decoding = self.decoding
        device, host, _, _ = self.clock.decode(max(len(decoding), 1), decoding.context if len(decoding) else 1.0)
        return lag * (device + host)

    def _decode(self, one: Active) -> None:
        one.paged = one.target + self._width - 1
        steps, rate = self._steps(one.left) if self._width > 1 else (one.left, 1.0)
        self.decoding.enter(one, steps, rate)

    def plan(self, now: float) -> None:
        """Decide on the next action."""
        self.start_s, self._run, self.blocked = now, 0, False
        self.version += 1
        policy = self.rules.policy
        if policy == STATIC:
            self._choose_batch(now)
        else:
            self._receive(now)
            (self._fill_mixed if policy == MIXED else self._fill_apart)(now)
        self.idle = False
        if self._pieces:
            self._time_step(now)
        elif len(self.decoding):
            self._time_run(now)
        else:
            self.idle = True
            self.end_s = self._wake(now)

    def _wake(self, now: float) -> float:
        """When an idle replica acts by itself: when the first of an incomplete static batch has waited long enough."""
        if self.rules.policy != STATIC or not self.waiting:
            return inf
        return max(now, min(one.came_s for _, _, one in self.waiting) + self.rules.static_wait_s)

    def _fill_mixed(self, now: float) -> None:
        put_back = self._make_room()
        beside = len(self.decoding)
        growth = self.decoding.blocks(1) if beside else 0
        self.blocks.take(growth)
        self._choose(self.rules.token_budget * self.clock.lanes - beside * self._width, now, admit=not put_back)
        if not self._pieces:
            self.blocks.give(growth)
        elif beside:
            self._run = 1

    def _fill_apart(self, now: float) -> None:
        self._choose(self.rules.token_budget * self.clock.lanes, now, admit=True)
        if not self._pieces:
            self._make_room()

    # How long

    def _time_step(self, now: float) -> None:
        decoding, run = self.decoding, self._run
        beside = len(decoding) if run else 0
        pieces = [(tokens, one.read) for one, tokens in self._pieces]
        finishing = sum(1 for one, tokens in self._pieces if one.read + tokens >= one.target)
        context = decoding.context if beside else 0.0
        device, host, width, part = self.clock.mixed(beside, context, pieces, finishing)
        self.end_s = now + device + host
        row = len(self.log) // len(LOG)
        chosen = self.clock.chosen(beside, finishing)
        self._log(now, beside, len(decoding) - beside, context, width, chosen, host)
        for tokens, past in pieces:
            self.reads.extend((row, tokens, past, part))

    def _time_run(self, now: float) -> None:
        decoding, count = self.decoding, len(self.decoding)
        context, rate = decoding.context, decoding.growth
        device, host, slope, end = self.clock.decode(count, context)
        steps = min(decoding.next_end(), int((end - context) / rate) + 1)
        steps = max(1, decoding.steps_within(self.blocks.room, steps))
        if self.waiting and self.rules.admits == RATIO:
            steps = min(steps, 16)  # what outputs may still take shrinks with every step, which can admit a request
        first, slope = device + host, slope * rate
        self._run, self._line = steps, (first, slope)
        self.end_s = now + steps * first + slope * steps * (steps - 1) / 2.0
        chosen = self.clock.chosen(count, 0)
        self._log(now, count, 0, context, chosen, chosen, host)

    def _log(self, now: float, count: int, stalled: int, context: float, width: int, chosen: int, host: float) -> None:
        self._log_at = len(self.log)
        self.log.extend(
            (now, 0.0, 1.0, count, stalled, context, width, chosen, host, len(self.waiting), self.blocks.used)
        )

    def _complete_log(self) -> None:
        """What the action under way took after all."""
        log, at, steps = self.log, self._log_at, self._run
        log[at + 1] = self.end_s - self.start_s
        if steps > 1:
            log[at + 2] = steps
            log[at + 5] += self.decoding.growth * (steps - 1) / 2.0

    # Who is next

    def _choose(self, budget: int, now: float, admit: bool) -> None:
        """Pieces of prompts for the next step: those begun first, then waiting requests in order."""
        pieces = self._pieces = []
        largest, most, waiting = self.rules.token_budget, self._most, self.waiting
        for one in self.reading:
            if budget <= 0:
                return
            tokens = min(one.target - one.read, budget, largest)
            pieces.append((one, tokens))
            budget -= tokens
        while admit and waiting and budget > 0:
            one = waiting[0][2]
            if self.running >= most or not self._admit(one, now):
                self.blocked = True
                return
            heappop(waiting)
            self.reading.append(one)
            tokens = min(one.target - one.read, budget, largest)
            pieces.append((one, tokens))
            budget -= tokens

    def _receive(self, now: float) -> None:
        """Requests whose cache came from another replica decode at once, where a block more than they need is there."""
        waiting = self.waiting
        while waiting and waiting[0][2].read >= waiting[0][2].target and self.running < self._most:
            one = waiting[0][2]
            spare = self.decoding.blocks(1) + 1 if self.running else 0
            if not self._admit(one, now, spare):
                return
            heappop(waiting)
            self._decode(one)

    def _choose_batch(self, now: float) -> None:
        """A static batch begins when the last has ended and enough requests wait, or the first has waited long enough."""
        waiting, rules = self.waiting, self.rules
        self._pieces = []
        if self.running or not waiting or (len(waiting) < rules.static_batch and now < self._wake(now)):
            return
        batch: list[Active] = []
        longest = most = 0
        while waiting and len(batch) < rules.static_batch:
            one = waiting[0][2]
            longest, most = max(longest, one.target), max(most, one.left)
            if (len(batch) + 1) * self._room.size(longest + most - 1) > self.blocks.room:
                break
            batch.append(heappop(waiting)[2])
        longest, most = max(one.target for one in batch), max(one.left for one in batch)
        for one in batch:
            one.target, one.left, one.held = longest, most, self._room.size(longest + most - 1)
            self.blocks.take(one.held)
            self._sink.began(one, now)
        self.reading = list(batch)
        self._pieces = [(one, longest) for one in batch]

    def _admit(self, one: Active, now: float, spare: int = 0) -> bool:
        """Whether ``one`` fits now; if so, its blocks are taken and what of its prefix is cached is not read again."""
        if not self._room.take(one, spare, self._promised(one)):
            return False
        self._sink.began(one, now)
        return True

    def _promised(self, one: Active) -> float:
        """Tokens that must stay free beside what ``one`` takes (SGLang's ratio of outputs; 0 for other engines)."""
        if self.rules.admits != RATIO or not self.running:
            return 0.0
        decoding = self.decoding
        left = decoding.ends_sum - len(decoding) * decoding.tick + sum(r.left for r in self.reading)
        return self._ratio * left + min(one.left, CLIPPED)

    # Room

    def _release(self, one: Active, tokens: int) -> None:
        """``one`` leaves; ``tokens`` of its tokens are cached."""
        made = one.made(self.decoding.tick) if one.end > one.since and self.decoding.paged else 0
        one.since = one.end = 0
        self._room.release(one, made, tokens)

    def _make_room(self) -> bool:
        """Put sequences back until the next step's blocks are there: the last admitted of the lowest priority first."""
        decoding = self.decoding
        put_back = False
        while len(decoding) and decoding.blocks(1) > self.blocks.room:
            running = [*self.reading, *decoding.members.values()]
            self._put_back(max(running, key=lambda one: (-one.priority, one.order)))
            put_back = True
        if put_back and self.rules.admits == RATIO and len(decoding):
            self._ratio = min(1.0, self._retracted())
        return put_back

    def _retracted(self) -> float:
        """SGLang's new guess: what outputs took so far and 20 tokens each, over what they take in all."""
        tick, members = self.decoding.tick, self.decoding.members.values()
        made, left = sum(tick - one.since for one in members), sum(one.end - tick for one in members)
        return (made + 20.0 * len(members)) / (made + left + 1.0)

    def _put_back(self, victim: Active) -> None:
        """``victim`` loses its cache; it will read its prompt and what it has made once more."""
        made = 0
        if victim.index in self.decoding.members:
            self.decoding.remove(victim)
            made = min(victim.made(self.decoding.tick), victim.left - 1)
            self._release(victim, victim.target + made)
            victim.target += made + 1
            victim.left -= made
        else:
            self.reading.remove(victim)
            self._release(victim, victim.read)
        victim.read = 0
        heappush(self.waiting, (-victim.priority, victim.order, victim))
        self._sink.put_back(victim)
