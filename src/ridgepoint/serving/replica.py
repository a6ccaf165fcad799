"""One replica of an engine: its scheduler, its cache and its clock.

What it does next is one *action*: a step that reads prompts (and decodes beside it), or a run of equal decode steps that
lasts until a sequence ends, room ends, the step time leaves its line in the tables, or a request arrives that could be
admitted. Such a run has a closed form, k · τ + slope · k(k − 1)/2, so that its cost does not depend on k.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import ceil, inf

from ridgepoint.serving.action import Action, Sink
from ridgepoint.serving.adapters import Slots
from ridgepoint.serving.admission import again, choose, choose_batch, make_room, receive
from ridgepoint.serving.capacity import Cache
from ridgepoint.serving.clock import Clock
from ridgepoint.serving.guess import Guess
from ridgepoint.serving.log import Log
from ridgepoint.serving.room import Room
from ridgepoint.serving.scheduling import FULL, MIXED, STATIC, Scheduling
from ridgepoint.serving.sequences import Active, Decoding
from ridgepoint.serving.timing import plan_time, write

Steps = Callable[[int], tuple[int, float]]
BOTH, READS = "both", "reads"
"""What a replica does: everything, or one half of it beside a mate on the same device."""


class Replica:
    """Waiting, reading and decoding requests of one engine. ``name`` is its number; ``steps`` draws in how many steps a
    number of tokens is made, and at what rate. ``clocks`` time its steps, the one at ``level`` now.

    ``hands_over``: requests leave after their first token (a prefill replica). ``mate``: what shares the device with it, and
    the cache: one of both reads prompts, the other decodes (``half``).
    """

    __slots__ = (
        "_order", "_reserved", "_steps", "_width", "action", "blocked", "blocks", "cache", "clock", "clocks",
        "decoding", "end_s", "fetching", "guess", "half", "hands_over", "idle", "level", "log", "made_room", "mate",
        "name", "pace_s", "pieces", "reading", "room", "rules", "run", "sink", "slots", "start_s", "version", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        name: int,
        clocks: tuple[Clock, ...],
        cache: Cache,
        rules: Scheduling,
        sink: Sink,
        steps: Steps,
        room: Room,
        slots: Slots | None = None,
    ) -> None:
        self.name, self.clocks, self.cache, self.rules = name, clocks, cache, rules
        self.level, self.clock = 0, clocks[0]
        self._width = 1 + self.clock.tables.drafted
        self.room, self.slots = room, slots
        self.blocks = room.blocks
        self.decoding = Decoding(cache.block, rules.admits != FULL and rules.policy != STATIC)
        self.waiting: list[tuple[int, int, Active]] = []
        self.reading: list[Active] = []
        self.fetching: list[tuple[float, int, Active]] = []
        self.log = Log()
        self.idle, self.blocked, self.hands_over = True, False, False
        self.mate: Replica | None = None
        self.half = BOTH
        self.start_s, self.end_s, self.version = 0.0, inf, 0
        self.pace_s = 0.0
        """Seconds of the step under way at the clock of now; the action says those of the clock at which it began."""
        self.sink, self._steps = sink, steps
        self._order, self.made_room = 0, False
        self.guess = Guess()
        self.pieces: list[tuple[Active, int]] = []
        self.run = self._reserved = 0
        self.action: Action | None = None

    @property
    def load(self) -> int:
        """Requests that it has, with those of its mate."""
        own = self.queued + len(self.fetching) + len(self.reading) + len(self.decoding.members)
        mate = self.mate
        return own if mate is None else own + len(mate.waiting) + len(mate.reading) + len(mate.decoding.members)

    @property
    def queued(self) -> int:
        """Requests that wait to be admitted."""
        return len(self.waiting) + (0 if self.slots is None else self.slots.parked)

    @property
    def running(self) -> int:
        """Requests that it reads or decodes, or its mate does."""
        own = len(self.fetching) + len(self.reading) + len(self.decoding.members)
        mate = self.mate
        return own if mate is None else own + len(mate.fetching) + len(mate.reading) + len(mate.decoding.members)

    def holds(self, prompt: int, output: int) -> bool:
        """Whether a request could ever be served here."""
        return self.room.size(prompt + output + self._width - 2) <= self.cache.blocks

    # Events

    def submit(self, one: Active, now_s: float) -> None:
        """Take a request: it is begun at once, or waits; a run of decode steps ends early where it could be admitted."""
        if not one.held:
            self._order += 1
            one.order, one.came_s = self._order, now_s
        heappush(self.waiting, (-one.priority, one.order, one))
        if self.idle:
            self.plan(now_s)
            return
        if self.run <= 1 or self.rules.policy == STATIC or self.running >= self.most:
            return
        if not self.blocked or self.waiting[0][2].order == self._order:
            self._cut(now_s)

    def forget(self, one: Active) -> bool:
        """``one``, which waits to be begun, goes away; whether it was here."""
        kept = [entry for entry in self.waiting if entry[2] is not one]
        if len(kept) == len(self.waiting):
            return self.slots is not None and self.slots.forget(one)
        heapify(kept)
        self.waiting = kept
        return True

    def pause(self, now_s: float) -> None:
        """A run of decode steps ends with the step under way, and goes on after it."""
        if self.run > 1 and not self.pieces:
            self._cut(now_s)

    def _cut(self, now_s: float) -> None:
        """End a run of decode steps at the first boundary from ``now_s`` on."""
        steps = self.boundary(now_s)
        if steps < self.run:
            self.end_after(steps)
            self.version += 1
            self.sink.due(self)

    def boundary(self, when_s: float) -> int:
        """Steps of the run under way until its first boundary from ``when_s`` on."""
        return max(1, ceil(self._passed(when_s) - 1e-9))

    def _passed(self, when_s: float) -> float:
        """Steps of the run under way that are done at ``when_s``."""
        assert self.action is not None
        return self.action.steps_in(when_s - self.start_s)

    def end_after(self, steps: int) -> None:
        """The run under way ends after so many steps."""
        assert self.action is not None
        self.run, self.end_s = steps, self.start_s + self.action.seconds(steps)

    @property
    def most(self) -> int:
        """Requests that it may read and decode at once."""
        return self.rules.max_sequences * self.clock.lanes

    def set_level(self, level: int, now_s: float) -> None:
        """Another clock times it from now on: a run ends with the step under way, what remains of a step is stretched."""
        if level == self.level:
            return
        self.pause(now_s)
        self.level, self.clock = level, self.clocks[level]
        before, run, left, pace_s = self.action, self.run, self.end_s - now_s, self.pace_s
        if before is None:
            return
        if self.slots is not None:
            self.slots.loading_s += before.loading_s
        plan_time(self, self.start_s)
        if now_s > self.start_s:  # else it was planned this moment
            self.end_s = now_s + left * self.pace_s / pace_s
            self.action, self.run = before, run
            if self.mate is not None and not self.pieces:
                self.reserve(self.decoding.blocks(run))
        self.version += 1
        self.sink.due(self)

    def fail(self, now_s: float) -> list[Active]:
        """Everything on it is lost; returns the requests that it had, which must be read once more. Whole steps of a run
        that were done had given their tokens; a step under way is lost.
        """
        if self.run and not self.pieces:
            whole = int(self._passed(now_s) + 1e-9)
            if whole:
                self.end_after(min(whole, self.run))
                write(self, self.log)
                self._finish_decoding(self.run, self.end_s)
        lost = [one for _, _, one in self.waiting]
        if self.slots is not None:
            lost += self.slots.clear()
        for one in lost:
            if one.read >= one.target:  # its prompt was read elsewhere and made a token
                again(one, 0)
        lost += [one for _, _, one in self.fetching] + list(self.reading)
        for one in list(self.decoding.members.values()):
            self.decoding.remove(one)
            again(one, min(one.made(self.decoding.tick), one.left - 1))
            lost.append(one)
        for one in lost:
            one.read = one.held = one.shared = one.fetched = 0
        self.waiting, self.fetching, self.reading, self.pieces = [], [], [], []
        self.blocks.clear()
        lost.sort(key=lambda one: (-one.priority, one.order))  # who came first is first again
        self.run, self._reserved, self.action, self.idle, self.end_s = 0, 0, None, True, inf
        self.version += 1
        return lost

    def finish(self) -> None:
        """The action under way is done: give tokens, let go of what has ended, decide on the next."""
        now, run, pieces = self.end_s, self.run, self.pieces
        if run or pieces:
            write(self, self.log)
        self.action = None
        if run:
            self._finish_decoding(run, now)
        if pieces:
            self._finish_reading(pieces, now)
        self.plan(now)
        mate = self.mate
        if mate is not None and mate.idle and mate.queued:
            mate.plan(now)

    def _finish_decoding(self, steps: int, now: float) -> None:
        decoding = self.decoding
        if not self.pieces:  # a step that also reads took its blocks when it was planned
            self.reserve(0)
            self.blocks.take(decoding.blocks(steps))
            self.guess.pass_steps(steps)
        decoding.advance(steps)
        for one in decoding.ended():
            self.release(one, one.target + one.left)
            self.sink.done(one, now + self._lag_s())

    def _finish_reading(self, pieces: list[tuple[Active, int]], now: float) -> None:
        self.pieces = []
        for one, tokens in pieces:
            one.read += tokens
            if one.read < one.target:
                continue
            self.room.share(one, one.target)
            self.reading.remove(one)
            if not one.answered:
                one.answered = True
                self.sink.answered(one, now + self._lag_s())
            one.left -= 1
            if one.left and not self.hands_over:
                if self.mate is None:
                    self.decode(one)
                else:
                    self.mate.submit(one, now)
            else:
                self.release(one, one.target)
                self.sink.done(one, now if self.hands_over else now + self._lag_s())

    def reserve(self, blocks: int) -> None:
        """Hold ``blocks`` for the run under way, in place of those held before: the mate takes from the same cache."""
        self.blocks.give(self._reserved)
        self.blocks.take(blocks)
        self._reserved = blocks

    def _lag_s(self) -> float:
        """What passes until a token that is made has been sent: some decode steps."""
        lag = self.clock.tables.engine.lag
        if not lag:
            return 0.0
        decoding = self.decoding
        device, host, _, _ = self.clock.decode(max(len(decoding), 1), decoding.context if len(decoding) else 1.0)
        return lag * (device + host)

    def decode(self, one: Active) -> None:
        """``one``, whose prompt is read, decodes from the next step on."""
        one.paged = one.target + self._width - 1
        steps, rate = self._steps(one.left) if self._width > 1 else (one.left, 1.0)
        self.decoding.enter(one, steps, rate)

    def plan(self, now: float) -> None:
        """Decide on the next action."""
        self.start_s, self.run, self.blocked, self.action = now, 0, False, None
        self.version += 1
        policy = self.rules.policy
        if policy == STATIC:
            choose_batch(self, now)
        else:
            if self.fetching:
                self._fetched(now)
            receive(self, now)
            (self._fill_mixed if policy == MIXED else self._fill_apart)(now)
        self.idle = not (self.pieces or len(self.decoding))
        if self.idle:
            self.end_s = self.wake(now)
        else:
            plan_time(self, now)
        self.sink.due(self)
        if self.mate is not None:
            self.mate.set_level(0 if self.idle else 1, now)

    def wake(self, now: float) -> float:
        """When an idle replica acts by itself: a prefix arrives from a lower tier, or the first of an incomplete static batch
        has waited long enough.
        """
        if self.fetching:
            return self.fetching[0][0]
        if self.rules.policy != STATIC or not self.waiting:
            return inf
        return max(now, min(one.came_s for _, _, one in self.waiting) + self.rules.static_wait_s)

    def _fetched(self, now: float) -> None:
        """Requests whose prefix has arrived from a lower tier read what is left of their prompt."""
        fetching = self.fetching
        while fetching and fetching[0][0] <= now:
            one = heappop(fetching)[2]
            self.room.share(one, one.read)
            self.reading.append(one)

    def _fill_mixed(self, now: float) -> None:
        put_back = self.made_room = make_room(self)
        beside = len(self.decoding)
        growth = self.decoding.blocks(1) if beside else 0
        self.blocks.take(growth)
        choose(self, self.rules.token_budget * self.clock.lanes - beside * self._width, now, admit=not put_back)
        if not self.pieces:
            self.blocks.give(growth)
        elif beside:
            self.run = 1

    def _fill_apart(self, now: float) -> None:
        choose(self, self.rules.token_budget * self.clock.lanes, now, admit=True)
        self.made_room = not self.pieces and make_room(self)

    # Room

    def release(self, one: Active, tokens: int) -> None:
        """``one`` leaves; ``tokens`` of its tokens are cached."""
        grown = one.grown(self.decoding.tick) if one.end > one.since and self.decoding.paged else 0
        one.since = one.end = 0
        self.room.release(one, grown, tokens)
        self._leave_slot(one)

    def _leave_slot(self, one: Active) -> None:
        if self.slots is not None:
            self.slots.leave(one)
