"""Continuous batching in its steady state: what a request waits for, in closed form.

``running`` requests share the device. While one request is served for S seconds the device does one prefill for each of
them, F seconds of work, and one decode step of D seconds for each of the o − 1 further tokens. Work is conserved, so

    S    = running · F + (o − 1) · D                    (Little's law, device always busy)
    TPOT = (S − F) / (o − 1) = D + (running − 1) · F / (o − 1)

Each decode step carries running/(o − 1) of a prefill, less its own. With one running request TPOT is D. When the cache
holds fewer sequences than there are clients, the others queue: ``running`` = min(clients, capacity), and the wait is
(clients − running) / running · S.

The first token waits for the step that is under way (half of one on average), its own prefill in ``chunks`` pieces, each
beside a decode step, and prefills that are queued before it. Requests that arrive spread over a part ``spread`` of S find

    queue = running · F − spread · S, when that is positive, and half of it on average

in front of them; spread 0 is a burst (all at once), 1 an even flow.

Source: Little 1961 for the balance; Yu et al. 2022 (Orca) and Agrawal et al. 2024 (Sarathi-Serve) for the schedules.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.numeric import Num


@dataclass(frozen=True)
class Load:
    """What clients ask for: ``clients`` requests under way at any time, ``output`` tokens each."""

    clients: Num
    output: Num
    spread: Num = 1.0
    """Part of a request's service time over which the arrivals of a wave are spread."""


@dataclass(frozen=True)
class Service:
    """What the engine needs: seconds of one decode step with all running requests, seconds of device work per prefill,
    steps that a prefill is cut into, requests that fit at once, host seconds per request outside all steps.
    """

    decode_s: Num
    prefill_s: Num
    chunks: Num = 1.0
    capacity: Num = np.inf
    request_s: Num = 0.0


@dataclass(frozen=True)
class Steady:
    """The steady state: requests running, seconds to first token, per further token, of service, and of waiting for room."""

    running: Num
    ttft_s: Num
    tpot_s: Num
    service_s: Num
    wait_s: Num
    output: Num

    @property
    def tokens_per_s(self) -> Num:
        """Output tokens of all running requests per second."""
        return self.running * self.output / self.service_s

    @property
    def requests_per_s(self) -> Num:
        """Requests completed per second."""
        return self.running / self.service_s


def running(clients: Num, capacity: Num) -> Num:
    """Requests that run at once: all clients', or as many as fit; never less than one.

    >>> float(running(64.0, 40.5))
    40.0
    """
    return np.maximum(np.minimum(clients, np.floor(capacity)), 1.0)


def steady(load: Load, service: Service) -> Steady:
    """The steady state of ``load``; ``decode_s`` is that of ``running(load.clients, service.capacity)`` requests.

    >>> one = steady(Load(clients=1.0, output=101.0), Service(decode_s=0.01, prefill_s=0.2))
    >>> round(float(one.tpot_s), 6), round(float(one.service_s), 6)
    (0.01, 1.2)
    """
    count = running(load.clients, service.capacity)
    steps = np.maximum(load.output - 1.0, 1.0)
    total = count * service.prefill_s + np.maximum(load.output - 1.0, 0.0) * service.decode_s
    wait = np.maximum(load.clients - count, 0.0) / count * total
    tpot = service.decode_s + (count - 1.0) * service.prefill_s / steps
    others = (count - 1.0) * service.prefill_s
    queue = np.maximum(others - load.spread * total, 0.0) / 2.0
    beside = np.where(np.asarray(count) > 1.0, (service.chunks - 0.5) * service.decode_s, 0.0)
    first = service.request_s + service.prefill_s + beside + queue + wait
    return Steady(count, first, tpot, total, wait, load.output)
