"""What requests hold of a replica's cache: taken when they are admitted, shared when they are read, given back at the end."""

from __future__ import annotations

from ridgepoint.serving.blocks import Blocks
from ridgepoint.serving.capacity import Cache
from ridgepoint.serving.sequences import Active
from ridgepoint.serving.tiers import Below, Way


class Room:
    """The cache of one replica by request. ``ahead``: tokens beyond its own that a decoding sequence needs blocks for
    (drafted ones); ``whole``: blocks of the output are taken with those of the prompt; ``id_tokens``: tokens of a named
    block, 0 without prefix cache; ``ways``: the tiers below the device's memory.
    """

    __slots__ = ("_ahead", "_cache", "_whole", "blocks")

    def __init__(self, cache: Cache, ahead: int, whole: bool, id_tokens: int, ways: tuple[Way, ...] = ()) -> None:
        self._cache, self._ahead, self._whole = cache, ahead, whole
        width = 0 if cache.recurrent else id_tokens // cache.block
        size = width * cache.block
        self.blocks = Blocks(cache.blocks, width, size, Below(ways, size) if ways and width else None)

    def size(self, tokens: int) -> int:
        """Blocks of a sequence of ``tokens``, its states included."""
        return self._blocks_of(tokens) + self._cache.state_blocks

    def _blocks_of(self, tokens: int) -> int:
        return -(-tokens // self._cache.block)

    def take(self, one: Active, spare: int, promised: float, now_s: float) -> bool:
        """Take the blocks of ``one`` if they are there, ``spare`` more, and tokens that are ``promised`` to others; what of
        its prefix is cached counts as read, and ``one.ready_s`` says when the part is there that lay in a lower tier.
        """
        blocks = self.blocks
        handed = one.read >= one.target
        named: list[int] = []
        here = 0
        if blocks.width and one.ids and not handed:
            named = one.ids[: (one.target - 1) // blocks.id_tokens]
            here = blocks.prefix(named)
        ids = named[:here]
        need = self.size(one.target + self._ahead + (one.left - 1 if self._whole else 0)) - here * blocks.width
        if need + blocks.revived(ids) + spare > blocks.room:
            return False
        if promised and (need - blocks.room) * self._cache.block + promised > 0.0:
            return False
        blocks.use(ids)
        below = blocks.below
        one.fetched, one.ready_s = 0, 0.0
        if below is not None:
            further = named[here : here + below.leading(named[here:])]
            if further:
                one.fetched, one.ready_s = len(further) * blocks.id_tokens, below.fetch(further, now_s)
        blocks.take(need)
        one.held, one.shared = need, here
        if not handed:
            one.read = here * blocks.id_tokens + one.fetched
        return True

    def share(self, one: Active, tokens: int) -> None:
        """Let others use the full blocks of the first ``tokens`` tokens of ``one``."""
        blocks = self.blocks
        if not blocks.width or not one.ids:
            return
        named = blocks.name(one.ids[one.shared : tokens // blocks.id_tokens])
        one.shared += named
        one.held -= named * blocks.width

    def release(self, one: Active, grown: int, tokens: int) -> None:
        """Free what ``one`` holds after it grew by ``grown`` tokens; named blocks of its first ``tokens`` tokens are kept
        while nobody needs the room.
        """
        if grown:
            one.held += self._blocks_of(one.paged + grown) - self._blocks_of(one.paged)
        self.share(one, tokens - 1)
        self.blocks.give(one.held)
        self.blocks.leave(one.ids[: one.shared])
        one.held = one.shared = 0
