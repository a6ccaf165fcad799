"""Which replica a request goes to.

``round_robin``: in turn. ``least_loaded``: the one with the fewest requests. ``power_of_two``: the less loaded of two drawn at
random (Mitzenmacher 2001). ``prefix_aware``: where most of its prefix went before, unless the loads of all differ much — the
rule of SGLang's router, whose thresholds these are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from ridgepoint.serving.replica import Replica
from ridgepoint.serving.sequences import Active

MATCH = 0.5
"""Part of the prefix of which more must be known for the prefix to decide."""
UNEVEN = 32
"""Requests by which the most and the least loaded may differ before load decides."""

Route = Callable[[Active, Sequence[Replica]], Replica]


def router(name: str, random: Random) -> Route:
    """The rule ``name``. It is asked with the replicas that are there, at least one."""
    if name == "round_robin":
        return _in_turn()
    if name == "least_loaded":
        return lambda one, replicas: least(replicas)
    if name == "power_of_two":
        return lambda one, replicas: least(random.sample(replicas, 2) if len(replicas) > 1 else replicas)
    return _by_prefix()


def _in_turn() -> Route:
    at = -1

    def route(one: Active, replicas: Sequence[Replica]) -> Replica:
        nonlocal at
        at = (at + 1) % len(replicas)
        return replicas[at]

    return route


def least(replicas: Sequence[Replica]) -> Replica:
    """The one with the fewest requests."""
    best = replicas[0]
    fewest = best.load
    for other in replicas[1:]:
        load = other.load
        if load < fewest:
            best, fewest = other, load
    return best


def _by_prefix() -> Route:
    went: dict[int, Replica] = {}

    def route(one: Active, replicas: Sequence[Replica]) -> Replica:
        idlest = chosen = least(replicas)
        if one.ids and max(replica.load for replica in replicas) - idlest.load <= UNEVEN:
            # An id names a block and all before it: the last one that is known tells how much of the prefix is.
            known = next((i for i in range(len(one.ids), 0, -1) if one.ids[i - 1] in went), 0)
            if known > MATCH * len(one.ids):
                before = went[one.ids[known - 1]]
                chosen = before if before in replicas else idlest
        went.update(dict.fromkeys(one.ids, chosen))
        return chosen

    return route
