"""Sequences that decode on one replica: who ends when, how long contexts are, when caches grow — without touching each
sequence in each step.

One step is a tick. A sequence that entered at tick s with context c attends to c + rate · (t − s) tokens in step t, so the
sum over all is a line in t; sequences that need a new cache block are counted by the phase at which they do.
"""

from __future__ import annotations

from heapq import heappop, heappush

LONGEST = 2**16
"""Blocks of more tokens than this never fill: states that do not grow."""


class Active:
    """A request in an engine: what of it is read, cached and still to make."""

    __slots__ = (
        "adapter", "answered", "came_s", "end", "fetched", "held", "ids", "index", "left", "order", "paged", "priority",
        "rate", "read", "ready_s", "shared", "since", "target",
    )  # fmt: skip

    def __init__(self, index: int, prompt: int, output: int, ids: list[int], priority: int = 0) -> None:
        self.index = index
        self.priority = priority
        self.adapter = -1
        """Number of the adapter that it names; -1: none."""
        self.order = 0
        self.came_s = 0.0
        self.target = prompt
        """Tokens to read before it decodes: its prompt, and what it had made when it was put back."""
        self.read = 0
        self.left = output
        """Tokens still to make."""
        self.answered = False
        self.ids = ids
        """Names of the blocks that it begins with."""
        self.shared = 0
        """How many of those it uses together with others, or could."""
        self.held = 0
        """Blocks of its own that it took when it was admitted."""
        self.fetched = 0
        """Tokens that come from a lower tier of the cache."""
        self.ready_s = 0.0
        """When they are there."""
        self.paged = 0
        """Tokens that had blocks when it began to decode."""
        self.since = 0
        self.end = 0
        self.rate = 1.0

    def made(self, tick: int) -> int:
        """Tokens that it has made by decoding up to ``tick``."""
        return int(self.rate * (tick - self.since) + 1e-9)

    def grown(self, tick: int) -> int:
        """Tokens beyond ``paged`` that have had blocks up to ``tick``: a step takes those of one more than was made before."""
        return self.made(tick - 1) + 1 if tick > self.since else 0


class Decoding:
    """The sequences that decode. ``block``: tokens of a cache block; ``paged``: whether caches grow step by step."""

    __slots__ = (
        "_block",
        "_calendar",
        "_ends",
        "_entered",
        "_offset",
        "_phases",
        "_rates",
        "ends_sum",
        "members",
        "paged",
        "tick",
    )

    def __init__(self, block: int, paged: bool) -> None:
        self.members: dict[int, Active] = {}
        self.tick = 0
        self.ends_sum = 0
        self._block, self.paged = block, paged and block < LONGEST
        self._ends: list[tuple[int, int, Active]] = []  # (end, number of those that entered before, sequence)
        self._entered = 0
        self._phases: list[int] = [0] * block if self.paged else []
        self._calendar: dict[int, int] = {}
        self._offset = 0.0  # Σ first context − rate · since
        self._rates = 0.0

    def __len__(self) -> int:
        return len(self.members)

    @property
    def context(self) -> float:
        """Mean tokens that a sequence attends to in the next step."""
        return (self._offset + self.tick * self._rates) / len(self.members)

    @property
    def growth(self) -> float:
        """Mean tokens by which that grows per step."""
        return self._rates / len(self.members)

    def enter(self, one: Active, steps: int, rate: float) -> None:
        """``one`` decodes from the next step on, for ``steps`` steps."""
        one.since, one.rate, one.end = self.tick, rate, self.tick + steps
        self.members[one.index] = one
        self.ends_sum += one.end
        self._entered += 1
        heappush(self._ends, (one.end, self._entered, one))
        self._count(one, 1)

    def remove(self, one: Active) -> None:
        """``one`` no longer decodes."""
        del self.members[one.index]
        self.ends_sum -= one.end
        self._count(one, -1)

    def _count(self, one: Active, sign: int) -> None:
        if self.members:
            self._offset += sign * (one.target + 1 - one.rate * one.since)
            self._rates += sign * one.rate
        else:  # no rounding is left behind
            self._offset = self._rates = 0.0
        if not self.paged:
            return
        if one.rate == 1.0:
            self._phases[(one.paged - one.since) % self._block] += sign
            return
        for tick in _crossings(one, self._block, self.tick):
            left = self._calendar.get(tick, 0) + sign
            if left:
                self._calendar[tick] = left
            else:
                del self._calendar[tick]

    def next_end(self) -> int:
        """Steps until the first sequence ends."""
        ends, members = self._ends, self.members
        while True:
            end, _, one = ends[0]
            if members.get(one.index) is one and one.end == end:
                return end - self.tick
            heappop(ends)

    def ended(self) -> list[Active]:
        """The sequences whose last step is done, in the order in which they entered."""
        found = []
        ends, members = self._ends, self.members
        while ends and ends[0][0] <= self.tick:
            end, _, one = heappop(ends)
            if members.get(one.index) is one and one.end == end:
                found.append(one)
                self.remove(one)
        return found

    def blocks(self, steps: int) -> int:
        """Cache blocks that the next ``steps`` steps begin.

        >>> some = Decoding(16, True)
        >>> one = Active(0, 16, 40, [])
        >>> one.paged = 16
        >>> some.enter(one, 40, 1.0)
        >>> some.blocks(1), some.blocks(16), some.blocks(17)
        (1, 1, 2)
        """
        if not self.paged:
            return 0
        block, phases, tick = self._block, self._phases, self.tick
        rounds, rest = divmod(steps, block)
        found = sum(phases) * rounds if rounds else 0
        for step in range(tick, tick + rest):
            found += phases[-step % block]
        if self._calendar:
            found += sum(self._calendar.get(step, 0) for step in range(tick, tick + steps))
        return found

    def steps_within(self, room: int, most: int) -> int:
        """How many of ``most`` steps can be done with ``room`` more blocks."""
        plenty = not self._calendar and len(self.members) * (most // self._block + 1) <= room
        if not self.paged or plenty or self.blocks(most) <= room:
            return most
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.blocks(middle) <= room else (low, middle)
        return low

    def advance(self, steps: int) -> None:
        """``steps`` steps are done."""
        self.tick += steps
        if self._calendar:
            for step in range(self.tick - steps, self.tick):
                self._calendar.pop(step, None)


def _crossings(one: Active, block: int, tick: int) -> list[int]:
    """Ticks from ``tick`` on at which a sequence that grows by other than one token a step begins blocks, as often as it
    does.
    """
    found = []
    held = -(-one.paged // block)
    for step in range(one.since, one.end):
        needed = -(-(one.paged + one.grown(step + 1)) // block)
        if step >= tick:
            found += [step] * (needed - held)
        held = needed
    return found
