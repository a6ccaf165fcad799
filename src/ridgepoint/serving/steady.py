"""Continuous batching in its steady state: what a request waits for, in closed form.

``running`` requests share the device. While one request is served for S seconds the device takes in one prompt for each
of them, F seconds of work, and does one decode step of D seconds for each of the o − 1 further tokens. Work is
conserved, so

    S    = F₁ + (running − 1) · F + (o − 1) · D         (the device is always busy)
    TPOT = (S − F₁ − Q) / (o − 1) = D + ((running − 1) · F − Q) / (o − 1)

where Q = (together − 1) · F / 2 is what a request waits for the prompts that arrived together with it: their work falls
before its first token, that of all others between its tokens. With one running request TPOT is D; with all in step
(``together`` = ``running``, an engine that takes prompts first) half of the prefills fall into each. An engine that
mixes prompts into decode steps reads the weights once for both, which its F leaves out (``riding``). When the cache holds
fewer sequences than there are clients, the others queue: ``running`` = min(clients, capacity), and they wait
(clients − running) / running · S (Little's law).

The first token takes the request's own prefill F₁, a decode step beside each of its ``chunks`` and ``lag`` steps until it
is seen, Q, and for the part ``burst`` of the requests that came when the run began half of all running prompts.

Sources: Little 1961 for the balance; Yu et al. 2022 (Orca) and Agrawal et al. 2024 (Sarathi-Serve) for the schedules.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.numeric import Num


@dataclass(frozen=True)
class Load:
    """What clients ask for: ``clients`` requests under way at any time, ``output`` tokens each; ``together`` of them arrive
    at a time, and the part ``burst`` of all requests arrives at once, before anything runs.
    """

    clients: Num
    output: Num
    together: Num = 1.0
    burst: Num = 0.0


@dataclass(frozen=True)
class Service:
    """What the engine needs: seconds of a decode step with all running requests, of a prompt alone, and of one among
    others (less, where it fills steps); steps that a prompt is cut into; steps until a token is seen; requests that fit
    at once; host seconds per request outside all steps.
    """

    decode_s: Num
    prefill_s: Num
    shared_prefill_s: Num
    chunks: Num = 1.0
    lag: Num = 0.0
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


def riding(prefill_s: Num, weights_s: Num, prompts: Num) -> Num:
    """Seconds that a prompt adds to decode steps that it rides in, ``prompts`` at a time: the weights are read anyway.

    >>> float(riding(0.05, 0.01, 1.0)), float(riding(0.05, 0.01, 4.0))
    (0.04, 0.0475)
    """
    return np.maximum(prefill_s - weights_s / prompts, 0.25 * prefill_s)


def steady(load: Load, service: Service) -> Steady:
    """The steady state of ``load``; ``decode_s`` is that of ``running(load.clients, service.capacity)`` requests.

    >>> one = steady(Load(clients=1.0, output=101.0), Service(decode_s=0.01, prefill_s=0.2, shared_prefill_s=0.2))
    >>> round(float(one.tpot_s), 6), round(float(one.service_s), 6)
    (0.01, 1.2)
    """
    count = running(load.clients, service.capacity)
    steps = np.maximum(load.output - 1.0, 0.0)
    others = (count - 1.0) * service.shared_prefill_s
    total = service.prefill_s + others + steps * service.decode_s
    behind = (np.minimum(load.together, count) - 1.0) * service.shared_prefill_s / 2.0
    tpot = service.decode_s + (others - behind) / np.maximum(steps, 1.0)
    wait = np.maximum(load.clients - count, 0.0) / count * total
    queue = behind + load.burst * others / 2.0
    beside = np.where(np.asarray(count) > 1.0, service.chunks, 0.0) + service.lag
    first = service.request_s + service.prefill_s + beside * service.decode_s + queue + wait
    return Steady(count, first, tpot, total, wait, load.output)
