"""The model inverted: what a platform must have (design §10)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.machines.catalog import device_names
from ridgepoint.serving.deployment import deployment
from ridgepoint.serving.operating import operating
from ridgepoint.serving.simulate import simulate_requests

GOAL: dict[str, Any] = {"prompt": 2048, "output": 256, "users": 64, "ttft_s": 0.5, "tpot_s": 0.025}


def ask(**changes):
    return rp.require("llama-3.1-8b", **(GOAL | {"machines": ("h100-sxm", "a100-sxm-80gb")} | changes))


def test_the_least_is_what_the_counted_work_needs():
    """2 · parameters · tokens of arithmetic, weights and caches once per token: textbook counts within a few per cent."""
    found = ask(users=1)
    assert found.prefill_flop == pytest.approx(2.0 * 7.5e9 * 2048, rel=0.1)
    cache = 128 * 1024 * (2048 + 256)
    assert found.cache_bytes == pytest.approx(cache, rel=1e-6)
    assert found.decode_bytes == pytest.approx(15.0e9 + 128 * 1024 * 2176, rel=0.03)
    assert found.least.bytes_per_s == pytest.approx(found.decode_bytes / 0.025)
    assert found.least.flop_per_s == pytest.approx(found.prefill_flop / 0.5)


def test_a_harder_goal_never_needs_less():
    usual = ask()
    for harder in (ask(users=128), ask(tpot_s=0.0125), ask(prompt=4096), ask(ttft_s=0.001)):
        assert harder.least.flop_per_s >= usual.least.flop_per_s
        assert harder.least.bytes_per_s >= usual.least.bytes_per_s
        assert harder.balanced.flop_per_s >= harder.least.flop_per_s
    assert ask(users=128).capacity_bytes > usual.capacity_bytes


def test_a_machine_that_is_named_keeps_the_goal_in_the_simulator():
    for chosen in ask().candidates:
        each = int(np.ceil(chosen.users_per_replica))
        given = deployment("llama-3.1-8b", f"{chosen.tp}x{chosen.machine}", rp.Plan(tp=chosen.tp))
        run = simulate_requests(given, rp.client_requests(each, 20 * each, "2048", "uniform:192:320"))
        assert run.tpot_s.mean() < 1.05 * 0.025
        assert chosen.devices == chosen.tp * chosen.replicas


def test_no_candidate_has_less_than_the_physical_limit():
    found = ask()
    for chosen in found.candidates:
        machine = rp.find_machine(chosen.machine)
        rate = machine.arithmetic("bf16").flop_per_s
        assert chosen.devices * machine.memory_bytes_per_s >= found.least.bytes_per_s
        assert chosen.devices * rate >= found.least.flop_per_s
        assert chosen.devices * machine.memory_bytes >= found.weight_bytes


def test_a_goal_that_nothing_meets_says_the_closest_and_what_binds():
    found = ask(tpot_s=0.0005)
    assert found.candidates == ()
    assert [m.machine for m in found.missed] == ["h100-sxm", "a100-sxm-80gb"]
    assert "time per token" in found.missed[0].why
    assert found.missed[0].over is not None
    assert found.missed[0].over > 1.0


@pytest.mark.parametrize(
    "wrong", [{"users": 0}, {"users": 1.5}, {"output": 1}, {"prompt": float("nan")}, {"ttft_s": 0.0}, {"tpot_s": -1.0}]
)
def test_goals_that_mean_nothing_are_refused(wrong):
    with pytest.raises(rp.RidgepointError) as refused:
        ask(**wrong)
    assert refused.value.kind == "bad_goal"


def test_models_that_generate_no_tokens_are_refused():
    with pytest.raises(rp.RidgepointError) as refused:
        rp.require("resnet50", **GOAL)
    assert refused.value.kind == "bad_task"


@pytest.mark.parametrize(("ttft_s", "tpot_s"), [(0.05, 1.0), (0.2, 0.02), (5.0, 0.004)])
def test_machines_passed_over_at_peak_rates_miss_the_goal_with_real_kernels_too(ttft_s, tpot_s):
    """Were the quick look wrong, a machine that does it would be missing from the answer."""
    names = ("l4", "a10", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "mi300x", "tpu-v5e", "b200-sxm")
    asked: dict[str, Any] = {"prompt": 4096, "output": 256, "users": 20, "ttft_s": ttft_s, "tpot_s": tpot_s}
    found = rp.require("llama-3.1-8b", machines=names, **asked)
    met = {candidate.machine for candidate in found.candidates}
    for name in names:
        curves = []
        for tp in (1, 2, 4, 8):
            try:
                on = rp.find_machine(name if tp == 1 else f"{tp}x{name}")
                curves.append(operating(deployment("llama-3.1-8b", on, rp.Plan(tp=float(tp), dp=1.0)), 4096, 256))
            except rp.RidgepointError:
                continue
        assert (name in met) == any(curve.most_within(ttft_s, tpot_s) is not None for curve in curves)


def test_several_processes_give_the_same_answer_and_the_same_errors():
    names = tuple(device_names()[:40])
    alone, beside = (ask(machines=names, workers=workers) for workers in (1, 2))
    assert alone.candidates == beside.candidates != ()
    assert alone.missed == beside.missed
    with pytest.raises(rp.RidgepointError, match="unknown") as refused:
        ask(machines=(*names, "h100-smx"), workers=2)
    assert "h100-sxm" in refused.value.hint
