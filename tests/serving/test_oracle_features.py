"""What the simulator does beside plain batching, beside the independent simulation on SimPy (tests/serving/oracle): the same
requests wait, are fetched, slowed down and moved (issue 10).

Where both draw the same the times of every request agree; else the percentiles do (speculation is drawn request by request in
the simulator and pass by pass in the oracle).
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.cost.energy import idle_w
from ridgepoint.serving.budget import PowerBudget
from ridgepoint.serving.handover import transfer
from ridgepoint.serving.log import Log
from ridgepoint.serving.power import Draws
from ridgepoint.serving.scheduling import Speculation
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.serving.tiers import ways
from ridgepoint.serving.usage import actions
from tests.serving.both import both
from tests.serving.oracle.schedulers import Guessing, PromptsFirst, Static
from tests.serving.systems import bare, documents, load

pytest.importorskip("simpy")
ANSWERS = ("first_s", "done_s")


def column(jobs, name):
    return np.array([getattr(job, name) for job in jobs])


def alike(found, jobs):
    """The same first and last tokens, request by request."""
    for name, mine in zip(ANSWERS, ("first", "done"), strict=True):
        assert np.allclose(found.columns[name], column(jobs, mine), rtol=1e-6, atol=1e-9)


def close(found, jobs, within, percentiles=(10, 50, 90, 99)):
    """The same percentiles of latencies to first and last tokens, and of what lies between."""
    arrived = column(jobs, "arrived")
    several = found.requests.output > 1
    further = (column(jobs, "done") - column(jobs, "first"))[several] / (found.requests.output[several] - 1)
    pairs = {
        "ttft": (found.ttft_s, column(jobs, "first") - arrived),
        "latency": (found.latency_s, column(jobs, "done") - arrived),
        "tpot": (found.tpot_s, further),
    }
    for name, (mine, other) in pairs.items():
        for q in percentiles:
            assert np.percentile(mine, q) == pytest.approx(np.percentile(other, q), rel=within), (name, q)


# Other schedulers


@pytest.mark.parametrize(("rate", "blocks", "chunked"), [(12.0, None, True), (40.0, 500, True), (40.0, 500, False)])
def test_prompts_first(rate, blocks, chunked):
    requests = load(rate, 300, "uniform:16:1800", "uniform:1:250")
    system = bare(
        blocks=blocks, policy="prefill_first", admits="grow", token_budget=2048, max_sequences=48, chunked=chunked
    )
    found, jobs, _ = both(system, requests, kind=PromptsFirst, chunked=chunked)
    assert (found.put_back > 0) == (blocks is not None)
    alike(found, jobs)


@pytest.mark.parametrize("blocks", [None, 600])
def test_room_for_whole_answers(blocks):
    requests = load(25.0, 300, "uniform:16:1800", "uniform:1:250")
    found, jobs, _ = both(bare(blocks=blocks, admits="full", max_sequences=48), requests, whole=True)
    assert found.put_back == 0
    alike(found, jobs)


@pytest.mark.parametrize("blocks", [None, 700])
def test_a_guess_of_what_answers_will_take(blocks):
    """SGLang looks before every step, the simulator every 16 steps while somebody waits."""
    requests = load(25.0, 600, "uniform:16:1800", "uniform:1:250")
    system = bare(blocks=blocks, policy="prefill_first", admits="ratio", max_sequences=48)
    found, jobs, _ = both(system, requests, kind=Guessing)
    close(found, jobs, 1e-6 if blocks is None else 0.05, (10, 50, 90))


@pytest.mark.parametrize(("rate", "wait_s"), [(3.0, 0.5), (40.0, 0.1)])
def test_static_batches(rate, wait_s):
    requests = load(rate, 200, "uniform:16:1800", "uniform:1:250")
    system = bare(policy="static", static_batch=8, static_wait_s=wait_s)
    found, jobs, _ = both(system, requests, kind=partial(Static, batch=8, wait_s=wait_s))
    alike(found, jobs)


# Adapters


@pytest.mark.parametrize(("rate", "slots", "blocks"), [(8.0, 3, None), (40.0, 2, None), (60.0, 5, 400)])
def test_adapters_wait_for_slots_and_let_others_go_first(rate, slots, blocks):
    requests = load(rate, 300, "uniform:16:1500", "uniform:1:150", seed=3)
    system = bare(blocks=blocks, adapters=rp.Adapters(12, slots=slots, share=0.8), max_sequences=24)
    assert system.adapters is not None
    names = system.adapters.drawn(len(requests), 0)
    found, jobs, engines = both(system, requests, adapters=names, slots=(slots, system.adapter_load_s))
    alike(found, jobs)
    assert found.replicas[0].slots.loaded == engines[0].slots.loads > 3 * slots


# Memories below the device's


@pytest.mark.parametrize(("rate", "blocks", "host"), [(4.0, 400, 4e8), (15.0, 500, 2e8), (40.0, 300, 1e12)])
def test_prefixes_come_back_from_below(rate, blocks, host):
    requests = documents(300, rate)
    system = bare(blocks=blocks, tiers=rp.CacheTiers(host, 1e12), token_budget=1024)
    below = ways(system, simulate_requests(system, requests).cache, requests.id_tokens)
    found, jobs, _ = both(system, requests, prefix=True, tiers=below)
    assert np.array_equal(found.columns["cached_tokens"], column(jobs, "cached"))
    assert np.array_equal(found.columns["fetched_tokens"], column(jobs, "fetched"))
    assert column(jobs, "fetched").sum() > 5000
    alike(found, jobs)


# Routing by prefix


@pytest.mark.parametrize(("rate", "blocks"), [(20.0, None), (300.0, 600)])
def test_prefixes_choose_replicas_until_loads_differ(rate, blocks):
    requests = documents(600, rate)
    system = bare("4xh100-sxm", rp.Plan(tp=1, dp=4), blocks=blocks, routing="prefix_aware", max_sequences=16)
    found, jobs, _ = both(system, requests, prefix=True)
    alike(found, jobs)
    assert np.array_equal(found.columns["cached_tokens"], column(jobs, "cached"))
    spread = simulate_requests(bare("4xh100-sxm", rp.Plan(tp=1, dp=4), max_sequences=16), requests)
    assert found.columns["cached_tokens"].sum() > spread.columns["cached_tokens"].sum()


# Speculation


@pytest.mark.parametrize("blocks", [None, 500])
def test_speculation_whose_drafts_are_all_kept(blocks):
    """Nothing is drawn: three tokens a pass, and answers that are whole passes."""
    passes = load(15.0, 300, "uniform:16:1500", "uniform:1:66", seed=2)
    requests = replace(passes, output=1 + 3 * passes.output)
    system = bare(blocks=blocks, speculation=Speculation(2, (0.0, 0.0, 1.0)), max_sequences=24)
    found, jobs, _ = both(system, requests, ahead=2, passed=lambda: 3)
    assert (found.put_back > 0) == (blocks is not None)
    alike(found, jobs)


@pytest.mark.parametrize(("rate", "acceptance"), [(4.0, 0.8), (20.0, 0.5)])
def test_speculation_drawn_pass_by_pass(rate, acceptance):
    requests = load(rate, 1500, "uniform:16:1500", "uniform:20:200", seed=2)
    speculation = Speculation.geometric(3, acceptance)
    chance = random.Random(7)

    def passed() -> int:
        kept = 0
        while kept < 3 and chance.random() < acceptance:
            kept += 1
        return kept + 1

    found, jobs, _ = both(bare(speculation=speculation, max_sequences=32), requests, ahead=3, passed=passed)
    close(found, jobs, 0.04)


# Shared devices


@pytest.mark.parametrize(
    ("rate", "share", "blocks", "within"), [(4.0, 0.4, None, 1e-3), (12.0, 0.6, None, 1e-3), (12.0, 0.5, 900, 0.05)]
)
def test_halves_of_a_device(rate, share, blocks, within):
    """Where room is short the percentiles alone are near: the half that decodes holds some of it ahead."""
    requests = load(rate, 500, "uniform:16:3000", "uniform:1:200", seed=5)
    system = bare(blocks=blocks, sharing=share, max_sequences=48)
    decoding = simulate_requests(system, requests).halves[1].clocks
    found, jobs, _ = both(system, requests, beside=decoding)
    close(found, jobs, within, (10, 50, 90) if blocks else (10, 50, 90, 99))


# Scaling


@pytest.mark.parametrize(("rate", "patience"), [(20.0, 4.0), (14.0, 0.0)])
def test_replicas_started_and_stopped_by_load(rate, patience):
    requests = rp.poisson_requests(rate, 800, "uniform:16:1200", "uniform:1:250", seed=8)
    rule = {"target": 8.0, "least": 1, "start_s": 3.0, "every_s": 2.0, "patience_s": patience}
    system = bare("4xh100-sxm", rp.Plan(tp=1, dp=4), scaling=rp.Scaling(**rule))
    found, jobs, _ = both(system, requests, up=1, scaling=rule)
    alike(found, jobs)
    assert {event.what for event in found.events} == {"starts", "up", "leaves", "off"}


# Power


def joules(system, clocks):
    """The joules above idling of the step that an engine of the oracle is at."""
    draws, watts = Draws(system.machine, clocks), system.machine.device.power.tdp - idle_w(system.machine)

    def of(engine):
        decoding, pieces = engine.step
        clock, log = engine.clock, Log()
        count = len(decoding)
        context = sum(job.tokens + 1 for job in decoding) / count if count else 0.0
        parts = [(tokens, job.read) for job, tokens in pieces]
        ending = sum(1 for job, tokens in pieces if job.read + tokens >= job.target)
        width, part = (float(-(-count // clock.lanes)), 1.0)
        if pieces:
            _, _, width, part = clock.mixed(count, context, parts, ending)
        chosen = clock.chosen(count, ending)
        row = (0.0, engine.step_s, 1.0, count, 0.0, context, width, chosen, 0.0, 0.0, engine.level, 1.0, 0.0, 0.0, 0.0)
        log.write(row, parts, part)
        return float(draws.worth_s(actions(log))[0]) * watts

    return of


@pytest.mark.parametrize(("part", "low"), [(0.75, None), (0.9, 2), (0.6, 2)])
def test_a_budget_of_power_and_the_clocks_that_keep_it(part, low):
    requests = load(25.0, 900, "uniform:100:2500", "uniform:1:200", seed=4).with_urgent(0.5)
    plan, idle = rp.Plan(tp=1, dp=4), idle_w(rp.find_machine("h100-sxm"))
    assert idle is not None
    free = simulate_requests(bare("4xh100-sxm", plan, budget=PowerBudget(1e5, low=low)), requests)
    budget = PowerBudget(part * free.energy_j / free.span_s / 0.8, low=low)
    system = bare("4xh100-sxm", plan, budget=budget)
    clocks = simulate_requests(system, requests).replicas[0].clocks
    rule = {
        "watts": budget.watts, "low": 4 if low is None else low, "thresholds": (budget.first, budget.second),
        "hysteresis": budget.hysteresis, "every_s": budget.every_s, "delay_s": budget.delay_s,
        "idle_w": idle,
    }  # fmt: skip
    found, jobs, engines = both(system, requests, power=rule, draws=joules(system, clocks))
    assert len(found.events) > 4
    close(
        found, jobs, 0.06, (10, 50, 90)
    )  # a look that just passes a threshold moves two seconds of one to another clock
    watts = sum(engine.joules for engine in engines) / column(jobs, "done").max() + 4 * idle
    assert found.energy_j / found.span_s == pytest.approx(watts, rel=0.03)


# All together


def drawn(number):
    """A deployment of features drawn by chance, requests for it, and how the oracle is told of them."""
    chance = random.Random(number)
    readers, blocks, rate = chance.choice([0, 0, 1, 2]), chance.choice([None, 450]), chance.choice([20.0, 60.0])
    tiers, speculates = chance.random() < 0.4, chance.random() < 0.3
    prefix = tiers or chance.random() < 0.5
    routing = chance.choice(["round_robin", "least_loaded", "prefix_aware"] + ["power_of_two"] * (not speculates))
    rules = {
        "admits": chance.choice(["grow", "grow", "full"]), "chunked": chance.random() < 0.5,
        "token_budget": chance.choice([512, 4096]), "prefix_cache": prefix, "max_sequences": 16,
    }  # fmt: skip
    parts = {
        "failures": chance.choice([None, rp.Failures(8.0, 2.0)]),
        "adapters": None if readers else chance.choice([None, rp.Adapters(9, slots=3, share=0.8)]),
        "tiers": rp.CacheTiers(3e8, 1e12) if tiers else None,
        "speculation": Speculation(2, (0.0, 0.0, 1.0)) if speculates else None,
    }
    requests = documents(200, rate, number) if prefix else load(rate, 200, "uniform:16:1500", "uniform:1:120", number)
    if speculates:  # answers of whole passes
        requests = replace(requests, output=1 + 3 * (1 + requests.output // 3))
    requests = requests.with_urgent(chance.choice([0.0, 0.3]))
    plan = rp.Plan(tp=1, dp=4)
    system = bare("4xh100-sxm", plan, blocks=blocks, routing=routing, prefill_replicas=readers, **rules, **parts)
    how = {"prefix": prefix, "chunked": rules["chunked"], "whole": rules["admits"] == "full", "readers": readers}
    cache = system.cache(float(np.mean(requests.prompt + requests.output)))
    how["transfer"] = (*transfer(system, cache), system.model.main.depth)
    if speculates:
        how |= {"ahead": 2, "passed": lambda: 3}
    if tiers:
        how["tiers"] = ways(system, cache, requests.id_tokens)
    if system.adapters is not None:
        how |= {"adapters": system.adapters.drawn(len(requests), 0), "slots": (3, system.adapter_load_s)}
    return system, requests, how


@pytest.mark.parametrize("number", range(30))
def test_features_together(number):
    """What each does alone it does beside the others: nobody waits, is read or is lost otherwise than in the oracle."""
    system, requests, how = drawn(number)
    events = simulate_requests(system, requests).events
    found, jobs, _ = both(system, requests, events=events, **how)
    close(found, jobs, 0.01, (10, 50, 90))
