"""Who is next on a replica, and who goes when room ends.

Steps are filled with prompts that were begun first, then with waiting requests in order as long as they fit; a static batch
is chosen as a whole. Where the cache has no room for the next token of all, those admitted last are put back and computed
again.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from ridgepoint.serving.scheduling import RATIO
from ridgepoint.serving.sequences import Active

if TYPE_CHECKING:
    from ridgepoint.serving.replica import Replica

DECODES = "decodes"
"""The half of a shared device that reads no prompts."""


def choose(replica: Replica, budget: int, now: float, admit: bool) -> None:
    """Pieces of prompts for the next step: those begun first, then waiting requests in order."""
    pieces = replica.pieces = []
    if replica.half == DECODES:
        return
    for one in replica.reading:
        tokens = _piece(replica, one, budget)
        if tokens <= 0:
            return
        pieces.append((one, tokens))
        budget -= tokens
    if admit and budget > 0 and replica.queued:
        _begin_waiting(replica, budget, now)


def _piece(replica: Replica, one: Active, budget: int) -> int:
    """Tokens of ``one``'s prompt for the next step, ``budget`` of which are left."""
    rules, left = replica.rules, one.target - one.read
    if rules.chunked:
        return min(left, budget, rules.token_budget)
    return left if left <= budget or not replica.pieces else 0


def _begin_waiting(replica: Replica, budget: int, now: float) -> None:
    """Waiting requests as long as they fit; those whose adapter finds no slot, or whose prefix is on its way, let others
    go first.
    """
    waiting, pieces, slots, most = replica.waiting, replica.pieces, replica.slots, replica.most
    _call(replica)
    while waiting and budget > 0:
        one = waiting[0][2]
        if one.read >= one.target:  # its cache came from elsewhere: it is received when the next step is planned
            break
        if slots is not None and not slots.has_room(one):
            slots.park(heappop(waiting))
            continue
        if not replica.rules.chunked and not _piece(replica, one, budget):
            break
        if replica.running >= most or not _admit(replica, one, now):
            replica.blocked = True
            break
        heappop(waiting)
        if one.ready_s > now:
            heappush(replica.fetching, (one.ready_s, one.order, one))
            continue
        replica.reading.append(one)
        tokens = _piece(replica, one, budget)
        pieces.append((one, tokens))
        budget -= tokens


def _call(replica: Replica) -> None:
    """Requests that waited for their adapter queue again where it is there, or could come."""
    if replica.slots is not None:
        for entry in replica.slots.called():
            heappush(replica.waiting, entry)


def receive(replica: Replica, now: float) -> None:
    """Requests whose cache came from another replica decode at once, where a block more than they need is there; those
    of the mate have theirs. Those whose adapter finds no slot let others go first.
    """
    waiting, slots = replica.waiting, replica.slots
    _call(replica)
    while waiting and waiting[0][2].read >= waiting[0][2].target:
        one = waiting[0][2]
        if not one.held:
            if slots is not None and not slots.has_room(one):
                slots.park(heappop(waiting))
                continue
            spare = replica.decoding.blocks(1) + 1 if replica.running else 0
            if replica.running >= replica.most or not _admit(replica, one, now, spare):
                return
        heappop(waiting)
        replica.decode(one)


def choose_batch(replica: Replica, now: float) -> None:
    """A static batch begins when the last has ended and enough requests wait, or the first has waited long enough."""
    waiting, rules = replica.waiting, replica.rules
    replica.pieces = []
    if replica.running or not waiting or (len(waiting) < rules.static_batch and now < replica.wake(now)):
        return
    batch: list[Active] = []
    longest = most = 0
    while waiting and len(batch) < rules.static_batch:
        one = waiting[0][2]
        longest, most = max(longest, one.target), max(most, one.left)
        if (len(batch) + 1) * replica.room.size(longest + most - 1) > replica.blocks.room:
            break
        batch.append(heappop(waiting)[2])
    longest, most = max(one.target for one in batch), max(one.left for one in batch)
    for one in batch:
        one.target, one.left, one.held = longest, most, replica.room.size(longest + most - 1)
        replica.blocks.take(one.held)
        replica.sink.began(one, now)
    replica.reading = list(batch)
    replica.pieces = [(one, longest) for one in batch]


def _admit(replica: Replica, one: Active, now: float, spare: int = 0) -> bool:
    """Whether ``one`` fits now; if so, its blocks are taken and what of its prefix is cached is not read again."""
    if replica.slots is not None and not replica.slots.has_room(one):
        return False
    ratio = replica.rules.admits == RATIO and replica.running
    promised = replica.guess.promised(one, replica.decoding, replica.reading) if ratio else 0.0
    if not replica.room.take(one, spare, promised, now):
        return False
    if replica.slots is not None:
        replica.slots.enter(one)
    replica.sink.began(one, now)
    return True


def make_room(replica: Replica) -> bool:
    """Put sequences back until the next step's blocks are there: the last admitted of the lowest priority first."""
    decoding = replica.decoding
    put_back = False
    while len(decoding) and decoding.blocks(1) > replica.blocks.room:
        running = [*replica.reading, *decoding.members.values()]
        _put_back(replica, max(running, key=lambda one: (-one.priority, one.order)))
        put_back = True
    if put_back and replica.rules.admits == RATIO and len(decoding):
        replica.guess.learn(decoding)
    return put_back


def _put_back(replica: Replica, victim: Active) -> None:
    """``victim`` loses its cache; it will read its prompt and what it has made once more."""
    if victim.index in replica.decoding.members:
        replica.decoding.remove(victim)
        made = min(victim.made(replica.decoding.tick), victim.left - 1)
        replica.release(victim, victim.target + made)
        again(victim, made)
    else:
        replica.reading.remove(victim)
        replica.release(victim, victim.read)
    victim.read = 0
    reader = replica.mate if replica.mate is not None and replica.half == DECODES else replica
    heappush(reader.waiting, (-victim.priority, victim.order, victim))
    replica.sink.put_back(victim, replica.start_s)


def again(one: Active, made: int) -> None:
    """``one``, which made ``made`` tokens by decoding, will read its prompt and what it has made once more."""
    one.since = one.end = 0
    one.target += made + 1
    one.left -= made
