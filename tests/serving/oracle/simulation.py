"""An independent simulation of continuous batching on SimPy: one process per replica (two where a device is shared) that
steps token by token. Only the seconds and joules of a step, those of a transfer, and when replicas fail are given.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import simpy

from tests.serving.oracle.cache import Cache, Tier
from tests.serving.oracle.conditions import Governor, Scaler
from tests.serving.oracle.engine import ONE_TOKEN, Engine
from tests.serving.oracle.fleet import Fleet
from tests.serving.oracle.halves import Decoder, Reader
from tests.serving.oracle.jobs import Job, jobs_of
from tests.serving.oracle.slots import Slots


def simulate(
    clocks: Any,
    requests: Any,
    blocks: int,
    budget: int,
    most: int,
    *,
    count: int = 1,
    chunked: bool = True,
    events: Any = (),
    up: int | None = None,
    readers: int = 0,
    routing: str = "least_loaded",
    seed: int = 0,
    transfer: tuple[float, float, int] = (0.0, 0.0, 1),
    prefix: bool = False,
    ahead: int = 0,
    passed: Callable[[], int] = ONE_TOKEN,
    tiers: Any = (),
    adapters: Any = None,
    slots: tuple[int, float] | None = None,
    beside: Any = None,
    scaling: dict[str, Any] | None = None,
    power: dict[str, Any] | None = None,
    draws: Callable[[Engine], float] | None = None,
    kind: Callable[..., Engine] = Engine,
    whole: bool = False,
) -> tuple[list[Job], list[Engine]]:
    """``clocks``: one per level; ``beside``: those of the half that decodes, on a shared device;
    ``kind``: the scheduler.
    """
    env = simpy.Environment()
    width = requests.id_tokens if prefix else 0

    def engine(kind: Callable[..., Engine] = kind, own: Any = clocks, cache: Cache | None = None) -> Any:
        below = [Tier(way.blocks, way.token_s, way.start_s, simpy.Resource(env)) for way in tiers]
        room = cache or Cache(blocks, width, ahead, whole, below)
        return kind(env, own, room, budget, most, chunked, Slots(*slots) if slots else None, passed, draws)

    def shared() -> list[Any]:
        reader = engine(Reader)
        decoder = engine(Decoder, beside, reader.cache)
        reader.mate, decoder.mate = decoder, reader
        return [reader, decoder]

    parts = [[engine()] if beside is None else shared() for _ in range(count)]
    engines: list[Engine] = [halves[0] for halves in parts]
    fleet = Fleet(env, engines, routing, readers, set(range(up or count)), random.Random(seed), *transfer)
    for one in engines[:readers]:
        one.hands_over, one.tell = True, fleet.hand_over
    for one in (half for halves in parts for half in halves):
        one.process = env.process(one.run())
    jobs = jobs_of(requests, adapters)

    def arrivals():
        for job, time in zip(jobs, requests.arrival_s.tolist(), strict=True):
            yield env.timeout(time - env.now)
            job.arrived = env.now
            fleet.route(job)

    env.process(arrivals())
    env.process(fleet.befall(events))
    if scaling is not None:
        env.process(Scaler(env, fleet, **scaling).run())
    if power is not None:
        fleet.low = power["low"] if 0 < power["low"] < count else None
        env.process(Governor(env, engines, **power).run())
    while any(job.done < 0 for job in jobs):
        env.step()
    return jobs, engines
