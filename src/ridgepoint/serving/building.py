"""The replicas of a simulated deployment: their clocks, caches and halves, as the deployment says them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np

from ridgepoint.serving.action import Sink
from ridgepoint.serving.adapters import Slots
from ridgepoint.serving.admission import DECODES
from ridgepoint.serving.clock import Clock
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.replica import READS, Replica
from ridgepoint.serving.room import Room
from ridgepoint.serving.scheduling import FULL, Speculation
from ridgepoint.serving.tiers import ways
from ridgepoint.serving.workload import Requests


def replicas_of(given: Deployment, requests: Requests, sink: Sink, random: Random) -> list[Replica]:
    """Every replica of all parts, in order; those that only read prompts hand their caches over.

    Errors: ``does_not_fit``, ``bad_tiers``.
    """
    found: list[Replica] = []
    for part in given.parts:
        found += _of_part(part, len(found), requests, sink, random)
    for replica in found[: given.readers]:
        replica.hands_over = True
    return found


def _of_part(given: Deployment, first: int, requests: Requests, sink: Sink, random: Random) -> list[Replica]:
    longest, prompts = int((requests.prompt + requests.output).max()), requests.prompt
    cache = given.cache(float(np.mean(requests.prompt + requests.output)))
    steps = _drawn_steps(given.speculation, random) if given.speculation else _plain_steps
    rules, id_tokens = given.rules, requests.id_tokens if given.rules.prefix_cache else 0
    below = ways(given, cache, id_tokens // cache.block * cache.block)
    ahead = given.speculation.drafted if given.speculation else 0
    both: tuple[tuple[Clock, ...], ...]
    if given.sharing is None:
        both = (given.clocks(longest, int(prompts.max())),)
    else:
        both = given.halves(longest, int(prompts.max()), float(prompts.mean()))
    found = []
    for number in range(first, first + given.replicas):
        room = Room(cache, ahead, rules.admits == FULL, id_tokens, below)
        slots = None if given.adapters is None else Slots(given.adapters.slots, given.adapter_load_s)
        halves = [Replica(number, clocks, cache, rules, sink, steps, room, slots) for clocks in both]
        if len(halves) == 2:
            halves[0].mate, halves[1].mate = halves[1], halves[0]
            halves[0].half, halves[1].half = READS, DECODES
        found.append(halves[0])
    return found


def _plain_steps(tokens: int) -> tuple[int, float]:
    return tokens, 1.0


def _drawn_steps(speculation: Speculation, random: Random) -> Callable[[int], tuple[int, float]]:
    """Passes until a number of tokens is there, the tokens of each drawn; and the mean tokens of one."""
    sizes = range(1, speculation.drafted + 2)
    bounds = np.cumsum(speculation.accepted).tolist()
    mean = speculation.tokens_per_step

    def steps(tokens: int) -> tuple[int, float]:
        made = count = 0
        while made < tokens:
            for size in random.choices(sizes, cum_weights=bounds, k=max(1, int((tokens - made) / mean))):
                made += size
                count += 1
                if made >= tokens:
                    break
        return count, tokens / count

    return steps
