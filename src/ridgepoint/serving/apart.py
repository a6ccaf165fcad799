"""Pools for prompts and for decoding in their steady state: Splitwise's and DistServe's question, in closed form.

``readers`` replicas read prompts, ``decoders`` take the caches over the link and make all further tokens. With λ requests
per second, F seconds of reading one prompt alone and a cache that takes x seconds to send:

    TTFT = request + W + F            W as in M/D/c over the readers (Sakasegawa 1977, halved for constant service)
    TPOT = D + (visible + D / 2) / (o − 1)      visible = max(x / layers, x − F)

for caches are sent layer by layer while a prompt is read, and a request joins the step after the one under way. The n
others that decode beside it follow from Little's law: λ · (o − 1) · TPOT = n · decoders. A reader's link must carry λ · x /
readers < 1 as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.numeric import Array
from ridgepoint.serving.loops import FEW_OTHERS, OpenLoop, Pace, mean_decode_s

FULLEST = 0.97
"""Part of the time that readers and links may be busy."""


@dataclass(frozen=True)
class Pools:
    """Replicas that read, replicas that decode, seconds that a request's cache takes to send, layers that it has."""

    readers: int
    decoders: int
    send_s: float
    layers: int


def apart_loop(pace: Pace, pools: Pools) -> OpenLoop:
    """The curve of a group of pools under Poisson arrivals; ``pace`` is that of one replica that does everything."""
    within = pace.concurrency <= max(pace.capacity, 1.0)
    others = np.maximum(pace.concurrency[within] - 1.0, FEW_OTHERS)
    read, further = float(pace.prompt_s[0]), float(pace.further_s[0])
    steps = max(pace.output - 1.0, 1.0)
    step = mean_decode_s(pace, others, 1.0)
    visible = max(pools.send_s / pools.layers, pools.send_s - read)
    tpot = step + (visible + step / 2.0) / steps
    rate = others * pools.decoders / (steps * tpot)
    most = FULLEST * pools.readers / max(further, pools.send_s)
    if rate[-1] > most:  # readers or links end it: the curve is cut where they are full
        kept = rate < most
        tpot = np.append(tpot[kept], np.interp(most, rate, tpot))
        rate = np.append(rate[kept], most)
    coming = rate * read / pools.readers
    each = further + (read - further) * -np.expm1(-np.maximum(coming, 1e-9)) / np.maximum(coming, 1e-9)
    busy = np.minimum(rate * each / pools.readers, 1.0 - 1e-9)
    wait = _wait(busy, each, pools.readers)
    ttft = pace.engine.request_s + wait + read + pace.engine.lag * step_at(step, rate)
    return OpenLoop(rate * (ttft + steps * tpot), rate, ttft, tpot)


def step_at(step: Array, rate: Array) -> Array:
    """The decode steps that belong to the points of a curve that may be cut."""
    return step[np.minimum(np.arange(len(rate)), len(step) - 1)]


def _wait(busy: Array, each: Array, servers: int) -> Array:
    """Mean wait for one of several servers with constant service."""
    power = np.sqrt(2.0 * (servers + 1.0)) - 1.0
    wait: Array = busy**power / (servers * (1.0 - busy)) * each / 2.0
    return wait
