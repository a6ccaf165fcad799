"""Small deployments and loads that several tests use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

import ridgepoint as rp
from ridgepoint.serving.capacity import Cache
from ridgepoint.serving.deployment import Deployment, deployment
from ridgepoint.serving.engines import engines
from ridgepoint.serving.scheduling import Scheduling
from ridgepoint.serving.workload import Requests


@dataclass(frozen=True)
class Bare(Deployment):
    """A deployment without the fixed times before and after an engine, with as many cache blocks as a test wants."""

    cache_blocks: int | None = None

    @property
    def software(self):
        return msgspec.structs.replace(engines()[self.engine], request_s=0.0, lag=0.0)

    def cache(self, length: float) -> Cache:
        found = super().cache(length)
        return found if self.cache_blocks is None else replace(found, blocks=self.cache_blocks)


EXTRA = (
    "routing", "prefill_replicas", "speculation", "mixed_replicas", "sharing", "tiers", "adapters", "failures", "scaling",
    "budget", "power_cap_w",
)  # fmt: skip


def bare(on: str = "h100-sxm", plan: rp.Plan | None = None, blocks: int | None = None, **rules: Any) -> Bare:
    usual = deployment("llama-3.1-8b", on, plan or rp.Plan(tp=1))
    engine = str(rules.pop("engine", "vllm"))
    extra = {name: rules.pop(name) for name in EXTRA if name in rules}
    scheduling = replace(replace(usual, engine=engine, scheduling=None).rules, **rules)
    assert isinstance(scheduling, Scheduling)
    return Bare(usual.model, usual.machine, usual.plan, engine, scheduling, cache_blocks=blocks, **extra)


def load(
    rate: float, count: int, prompt: str = "lognormal:600", output: str = "lognormal:80", seed: int = 1
) -> Requests:
    return rp.poisson_requests(rate, count, prompt, output, seed=seed)


def documents(count: int, rate: float, seed: int = 2) -> Requests:
    """Requests on a dozen documents of 640 tokens: some of a document's 64-token blocks, then blocks of their own."""
    random = np.random.default_rng(seed)
    ids: list[int] = []
    offsets, prompts = [0], []
    for i in range(count):
        shared = random.integers(0, 11)
        own = random.integers(0, 6)
        ids += [*(1000 * random.integers(12) + np.arange(shared)), *(10**6 + 10 * i + np.arange(own))]
        offsets.append(len(ids))
        prompts.append(64 * (shared + own) + random.integers(1, 64))
    arrivals = np.cumsum(random.exponential(1.0 / rate, count))
    outputs = random.integers(1, 120, count)
    return Requests(
        arrivals, np.array(prompts), outputs, np.array(ids, dtype=np.int64), np.array(offsets), id_tokens=64
    )


def decoded(found: rp.Outcome) -> float:
    """Tokens that decode steps made."""
    return float(sum(np.dot(a.log["sequences"], a.log["steps"]) for a in found.actions))


def read(found: rp.Outcome) -> float:
    """Prompt tokens that were read."""
    return float(sum(a.reads["tokens"].sum() for a in found.actions))
