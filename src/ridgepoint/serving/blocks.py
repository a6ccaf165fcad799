"""The paged cache of one replica: blocks in use, blocks that keep a prefix for later, eviction of the least recent.

Semantics of vLLM's and SGLang's prefix caches: full blocks whose tokens and predecessors are equal are one; a block that no
sequence uses stays until its room is needed; the least recently used goes first, and of one sequence its end before its
beginning.
"""

from __future__ import annotations

from ridgepoint.serving.tiers import Below


class Blocks:
    """``total`` blocks; an id names ``width`` of them (the trace's block over the engine's). What is evicted falls to the
    tiers ``below``, where there are any.
    """

    __slots__ = ("_idle", "_users", "below", "id_tokens", "total", "used", "width")

    def __init__(self, total: int, width: int = 1, id_tokens: int = 0, below: Below | None = None) -> None:
        self.total = total
        self.used = 0
        """Blocks that sequences hold, a shared one once; the rest is free or idle."""
        self.width = width
        self.id_tokens = id_tokens
        self.below = below
        self._users: dict[int, int] = {}
        self._idle: dict[int, None] = {}  # in order of last use

    @property
    def room(self) -> int:
        """Blocks that can be had: free ones, and idle ones that would be evicted."""
        return self.total - self.used

    @property
    def kept(self) -> int:
        """Idle blocks that keep a prefix."""
        return len(self._idle) * self.width

    def prefix(self, ids: list[int]) -> int:
        """How many leading ids are here.

        >>> cache = Blocks(8)
        >>> cache.take(2)
        >>> cache.name([7, 8])
        2
        >>> cache.prefix([7, 8, 9]), cache.prefix([9])
        (2, 0)
        """
        users, idle = self._users, self._idle
        count = 0
        for name in ids:
            if name not in users and name not in idle:
                break
            count += 1
        return count

    def revived(self, ids: list[int]) -> int:
        """Blocks that would have to be taken out of the idle ones to use ``ids``."""
        return sum(1 for name in ids if name in self._idle) * self.width

    def take(self, count: int) -> None:
        """Hold ``count`` more blocks; the caller has seen that there is ``room``."""
        self.used += count
        if self.used > self.total:
            raise RuntimeError(f"{self.used} of {self.total} cache blocks in use")
        if self._idle:
            self._evict()

    def give(self, count: int) -> None:
        """Free ``count`` blocks that have no id."""
        self.used -= count

    def use(self, ids: list[int]) -> None:
        """Share the blocks of ``ids``, which are all here."""
        for name in ids:
            if name in self._idle:
                del self._idle[name]
                self._users[name] = 1
                self.used += self.width
            else:
                self._users[name] += 1

    def name(self, ids: list[int]) -> int:
        """Give ids to blocks just filled, which the caller holds; returns how many of the first became shared ones. An id
        that another sequence filled meanwhile, and all behind it, stay the caller's own copies.
        """
        named = 0
        for name in ids:
            if name in self._users or name in self._idle:
                break
            self._users[name] = 1
            named += 1
        return named

    def leave(self, ids: list[int]) -> None:
        """Stop using ``ids``; those that nobody uses keep their prefix until the room is needed."""
        for name in reversed(ids):
            left = self._users[name] - 1
            if left:
                self._users[name] = left
            else:
                del self._users[name]
                self._idle[name] = None
                self.used -= self.width

    def _evict(self) -> None:
        while self.used + self.kept > self.total:
            name = next(iter(self._idle))
            del self._idle[name]
            if self.below is not None:
                self.below.spill(name)

    def clear(self) -> None:
        """Everything is lost."""
        self.used = 0
        self._users.clear()
        self._idle.clear()
        if self.below is not None:
            self.below.clear()
