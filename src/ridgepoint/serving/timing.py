"""How long the next action of a replica takes, and what is written down of it.

A step that reads prompts is timed by itself. A run of equal decode steps lasts until a sequence ends, room ends, the step time
leaves its line in the tables, or somebody who waits could be admitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgepoint.serving.action import Action
from ridgepoint.serving.log import Log
from ridgepoint.serving.scheduling import RATIO

if TYPE_CHECKING:
    from ridgepoint.serving.replica import Replica

RESERVED = 64
"""Steps of a run for which blocks are held where a mate takes from the same cache."""
LEARNING = 16
"""Steps after which a scheduler that guesses outputs looks again: what they may still take shrinks with every step."""


def plan_time(replica: Replica, now: float) -> None:
    """Time what ``replica`` does from ``now`` on."""
    action = _step(replica, now) if replica.pieces else _run(replica)
    replica.pace_s = action.first_s


def _adapted(replica: Replica) -> tuple[float, int, float]:
    """(part of the running requests that use adapters, different ones, seconds of copies to wait for)."""
    slots = replica.slots
    if slots is None:
        return 0.0, 0, 0.0
    running = len(replica.fetching) + len(replica.reading) + len(replica.decoding.members)
    loading, slots.loading_s = slots.loading_s, 0.0
    return min(slots.running / max(running, 1), 1.0), slots.different, loading


def _step(replica: Replica, now: float) -> Action:
    decoding, clock = replica.decoding, replica.clock
    beside = len(decoding) if replica.run else 0
    pieces = [(tokens, one.read) for one, tokens in replica.pieces]
    finishing = sum(1 for one, tokens in replica.pieces if one.read + tokens >= one.target)
    context = decoding.context if beside else 0.0
    adapted, adapters, loading = _adapted(replica)
    device, host, width, part = clock.mixed(beside, context, pieces, finishing, adapted, adapters)
    chosen, seconds = clock.chosen(beside, finishing), device + host + loading
    action = replica.action = Action(
        beside, len(decoding) - beside, context, width, chosen, host, part, seconds, 0.0, replica.level,
        adapted * width, adapters, loading,
    )  # fmt: skip
    replica.end_s = now + seconds
    return action


def _run(replica: Replica) -> Action:
    decoding, count, clock = replica.decoding, len(replica.decoding), replica.clock
    context, rate = decoding.context, decoding.growth
    adapted, adapters, loading = _adapted(replica)
    device, host, slope, end = clock.decode(count, context, adapted, adapters)
    steps = min(decoding.next_end(), int((end - context) / rate) + 1)
    steps = max(1, decoding.steps_within(replica.blocks.room, steps))
    if replica.waiting and replica.rules.admits == RATIO:
        steps = min(steps, LEARNING)
    if loading or (replica.made_room and replica.waiting):  # who waits may fit into the room just made
        steps = 1
    chosen = clock.chosen(count, 0)
    action = replica.action = Action(
        count, 0, context, chosen, chosen, host, 1.0, device + host + loading, slope * rate, replica.level,
        adapted * chosen, adapters, loading,
    )  # fmt: skip
    if replica.fetching:
        steps = min(steps, replica.boundary(replica.fetching[0][0]))
    if replica.mate is not None:
        replica.reserve(0)
        steps = max(1, decoding.steps_within(replica.blocks.room, min(steps, RESERVED)))
        replica.reserve(decoding.blocks(steps))
    replica.end_after(steps)
    return action


def write(replica: Replica, log: Log) -> None:
    """Log what the action under way took after all, or will take as it stands."""
    done, steps = replica.action, max(replica.run, 1)
    assert done is not None
    seconds = replica.end_s - replica.start_s
    planned = done.seconds(steps)
    context = done.context + (replica.decoding.growth * (steps - 1) / 2.0 if steps > 1 else 0.0)
    stretch = seconds / planned if seconds != planned else 1.0
    row = (
        replica.start_s, seconds, steps, done.beside, done.stalled, context, done.width, done.chosen, done.host_s,
        replica.blocks.used, done.level, stretch, done.adapted, done.adapters, done.loading_s,
    )  # fmt: skip
    log.write(row, ((tokens, one.read) for one, tokens in replica.pieces), done.part)
