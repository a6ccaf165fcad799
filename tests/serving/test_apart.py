"""Pools for prompts and for decoding: the closed form against the simulator (Splitwise, DistServe; issue 10)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.serving.apart import Pools, apart_loop
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.handover import transfer
from ridgepoint.serving.operating import operating
from ridgepoint.serving.simulate import simulate_requests

MODEL = find_model("llama-3.1-8b")


def group(devices: int, readers: int) -> Deployment:
    machine = replace(find_machine("h100-sxm"), devices_per_node=devices, name=f"{devices}xh100-sxm")
    return Deployment(MODEL, machine, rp.Plan(tp=1.0, dp=float(devices)), prefill_replicas=readers)


@pytest.mark.parametrize(
    ("readers", "decoders", "prompt", "output"), [(1, 1, 1024, 256), (2, 1, 2048, 128), (1, 3, 1024, 512)]
)
def test_pools_agree_with_the_simulator_below_half_of_what_they_take(readers, decoders, prompt, output):
    given = group(readers + decoders, readers)
    per_token, start = transfer(given, given.cache(prompt + output))
    pace = operating(group(1, 0), prompt, output).pace
    loop = apart_loop(pace, Pools(readers, decoders, per_token * prompt + start, int(MODEL.main.depth)))
    for part in (0.2, 0.5):
        at = int(np.argmin(np.abs(loop.rate - part * loop.most)))
        run = simulate_requests(given, rp.poisson_requests(loop.rate[at], 4000, str(prompt), str(output)))
        assert loop.tpot_s[at] == pytest.approx(run.tpot_s[800:3600].mean(), rel=0.05)
        assert loop.ttft_s[at] == pytest.approx(run.ttft_s[800:3600].mean(), rel=0.05)


def test_a_slow_link_shows_between_the_first_tokens_and_bounds_the_rate():
    """A cache that takes ten times as long to send as its prompt to read makes the link the pace of the group."""
    pace = operating(group(1, 0), 1024, 256).pace
    read = float(pace.prompt_s[0])
    fast, slow = (apart_loop(pace, Pools(1, 1, send, 32)) for send in (0.001, 10.0 * read))
    assert slow.most < 0.2 * fast.most
    assert slow.tpot_s[0] - fast.tpot_s[0] == pytest.approx(9.0 * read / 255.0, rel=0.01)


def test_more_readers_serve_more_prompts():
    pace = operating(group(1, 0), 4096, 32).pace
    one, two = (apart_loop(pace, Pools(readers, 1, 0.001, 32)).most for readers in (1, 2))
    assert one < two <= 2.0 * one * 1.001
