"""Failures, scaling, power budgets, mixed pools, shared devices: what befalls replicas during a run (design §10)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.cost.energy import capped
from ridgepoint.serving.budget import Governor, PowerBudget
from ridgepoint.serving.power import Draws
from ridgepoint.serving.scaling import Scaling
from ridgepoint.serving.scheduling import Scheduling, Speculation
from ridgepoint.serving.series import series, shares_over_time
from ridgepoint.serving.sharing import partitioned
from ridgepoint.serving.simulate import simulate_requests
from tests.serving.systems import bare, decoded, load, read


def conserved(found: rp.Outcome) -> None:
    requests, served = found.requests, found.completed
    assert int(served.sum()) + found.failed == len(requests)
    columns = {name: column[served] for name, column in found.columns.items()}
    assert np.all(columns["arrived_s"] <= columns["began_s"])
    assert np.all(columns["first_s"] <= columns["done_s"])
    assert all(replica.load == 0 and replica.blocks.used == 0 for replica in found.replicas)
    assert sum(found.usage.critical_s.values()) == pytest.approx(sum(a.seconds for a in found.actions), rel=1e-9)
    for done in found.actions:
        log = done.log
        assert np.all(log["used"] <= found.cache.blocks)
        assert np.all(log["start_s"][1:] >= (log["start_s"] + log["seconds"])[:-1] - 1e-9)  # one action at a time
    over_time = series(found)
    width = np.diff(np.concatenate([[found.columns["arrived_s"][0]], over_time["end_s"]]))
    assert float(np.sum(over_time["power_w"] * width)) == pytest.approx(found.energy_j, rel=0.02)
    table = shares_over_time(found)
    assert np.allclose(sum(values for name, values in table.items() if name != "end_s"), 1.0)


@settings(max_examples=20)
@given(
    failures=st.sampled_from([None, rp.Failures(20.0, 3.0), rp.Failures(3.0, 1.0)]),
    scaling=st.sampled_from([None, rp.Scaling(4.0, start_s=1.0, every_s=1.0, patience_s=3.0)]),
    pools=st.sampled_from([(0, 0), (1, 0), (1, 1), (2, 1)]),
    shared=st.sampled_from([None, 0.3, 0.6]),
    budget=st.sampled_from([None, PowerBudget(1500.0), PowerBudget(900.0, low=2)]),
    adapters=st.sampled_from([None, rp.Adapters(20, slots=3)]),
    blocks=st.sampled_from([None, 300]),
    speculation=st.sampled_from([None, Speculation.geometric(3, 0.6)]),
    engine=st.sampled_from(["vllm", "sglang", "trtllm"]),
    seed=st.integers(0, 3),
)
def test_whatever_happens_requests_and_room_are_conserved(
    failures, scaling, pools, shared, budget, adapters, blocks, speculation, engine, seed
):
    """Every request is answered, all room is given back, all seconds and joules have a cause."""
    if pools[0]:
        scaling = shared = None
    if shared is not None:
        budget = None
    system = bare(
        "4xh100-sxm", blocks=blocks, failures=failures, scaling=scaling, prefill_replicas=pools[0], mixed_replicas=pools[1],
        sharing=shared, budget=budget, adapters=adapters, speculation=speculation, engine=engine, max_sequences=32,
    )  # fmt: skip
    conserved(simulate_requests(system, load(25.0, 120, "uniform:16:1500", "uniform:1:200", seed), seed=seed))


# Failures


def test_devices_fail_as_often_as_said_and_requests_begin_again():
    """The count is Poisson's; without requests on it a failure only keeps a replica away."""
    requests = rp.poisson_requests(8.0, 4000, "300", "lognormal:60", seed=2)
    found = simulate_requests(bare("4xh100-sxm", failures=rp.Failures(25.0, 2.0)), requests)
    conserved(found)
    failed = sum(event.what == "failed" for event in found.events)
    expected = 4 * found.span_s / 27.0
    assert failed == pytest.approx(expected, abs=4.0 * expected**0.5)
    assert 0 < found.columns["restarted"].sum() < len(requests)
    assert decoded(found) < (requests.output - 1).sum()  # a token whose step was lost comes from the next reading
    free = simulate_requests(bare("4xh100-sxm"), requests)
    assert found.summary("latency_s").mean > free.summary("latency_s").mean  # type: ignore[union-attr]
    assert np.all(free.columns["restarted"] == 0)


def test_a_failure_repeats_what_was_lost_and_no_more():
    """One replica, one long request: after the failure its prompt and the tokens made are read, the rest is decoded."""
    one = rp.Requests(np.zeros(1), np.array([1000]), np.array([400]))
    system = bare(failures=rp.Failures(2.0, 5.0))
    seed = next(s for s in range(50) if simulate_requests(system, one, seed=s).columns["restarted"][0] == 1)
    found = simulate_requests(system, one, seed=seed)
    at = next(event.time_s for event in found.events if event.what == "failed")
    whole = decoded(found) + 1  # each reading makes one token
    assert whole == 399
    plain = simulate_requests(bare(), one)
    again = read(found) - 1000
    assert 1000 <= again <= 1400
    assert found.latency_s[0] == pytest.approx(plain.latency_s[0] + 5.0 + plain.ttft_s[0] * again / 1000.0, abs=0.06)
    assert at < found.latency_s[0]


@pytest.mark.parametrize("options", [{"failures": rp.Failures(2.0, 1.0)}, {"blocks": 120}])
def test_whole_prompts_are_read_again_with_what_was_made(options):
    """Then a step has more tokens than any prompt, which tables of step times must reach."""
    system = bare("2xh100-sxm", rp.Plan(tp=1, dp=2), chunked=False, token_budget=256, max_sequences=24, **options)
    found = simulate_requests(system, load(20.0, 60, "uniform:200:400", "uniform:600:900"))
    assert read(found) > found.requests.prompt.sum()
    conserved(found)


def test_replicas_that_fail_before_anything_ends_are_said_to_be_hopeless():
    """Else the simulation would never end."""
    with pytest.raises(rp.RidgepointError, match="never ends") as refused:
        simulate_requests(bare("2xh100-sxm", failures=rp.Failures(0.01, 5.0)), load(10.0, 50))
    assert refused.value.kind == "bad_failures"


# Scaling


def test_replicas_follow_the_load_within_bounds():
    day = rp.poisson_requests(12.0, 6000, "500", "lognormal:150", arrivals="diurnal:0.95:250s", seed=3)
    rule = rp.Scaling(20.0, start_s=5.0, every_s=5.0, patience_s=20.0)
    found = simulate_requests(bare("4xh100-sxm", scaling=rule), day)
    conserved(found)
    on = series(found)["replicas_on"]
    assert on.min() < 1.5 < 2.5 < on.max() <= 4.0
    fixed = simulate_requests(bare("4xh100-sxm"), day)
    assert sum(found.on_s) < 0.85 * sum(fixed.on_s)
    assert found.cost_usd < 0.85 * fixed.cost_usd  # type: ignore[operator]
    assert found.energy_j < fixed.energy_j  # type: ignore[operator]
    assert {event.what for event in found.events} == {"starts", "up", "leaves", "off"}


def test_a_replica_serves_only_after_its_start():
    rush = load(200.0, 800)
    for delay in (2.0, 20.0):
        found = simulate_requests(bare("2xh100-sxm", scaling=rp.Scaling(5.0, start_s=delay, every_s=1.0)), rush)
        starts = {e.what: e.time_s for e in found.events if e.replica == 1}
        assert starts["up"] - starts["starts"] == pytest.approx(delay)
        second = found.columns["began_s"][found.columns["replica"] == 1]
        assert not len(second) or second.min() >= starts["up"]


# Power


def test_a_budget_is_kept_by_slower_clocks():
    requests = load(60.0, 3000, "lognormal:1500", "lognormal:150")
    free = simulate_requests(bare("4xh100-sxm"), requests)
    watts = 0.8 * free.energy_j / free.span_s  # type: ignore[operator]
    found = simulate_requests(bare("4xh100-sxm", budget=PowerBudget(watts)), requests)
    conserved(found)
    middle = slice(10, 50)
    assert float(np.mean(series(found)["power_w"][middle])) < 1.03 * watts
    assert float(np.mean(series(free)["power_w"][middle])) > watts
    assert found.summary("latency_s").p50 > free.summary("latency_s").p50  # type: ignore[union-attr]
    ample = simulate_requests(bare("4xh100-sxm", budget=PowerBudget(4 * 700.0 / 0.79)), requests)
    assert not ample.events
    assert ample.summary("latency_s").p50 == pytest.approx(free.summary("latency_s").p50, rel=0.02)  # type: ignore[union-attr]


def test_a_budget_that_no_clock_keeps_is_said():
    """Figures at a power that the devices exceed are those of another budget."""
    requests = load(60.0, 1500, "lognormal:1500", "lognormal:150")
    found = simulate_requests(bare("4xh100-sxm", budget=PowerBudget(500.0)), requests)
    assert found.energy_j is not None
    assert found.energy_j > 500.0 * found.span_s
    assert any(warning.startswith("over budget") for warning in found.warnings)
    kept = simulate_requests(bare("4xh100-sxm", budget=PowerBudget(2000.0)), requests)
    assert not any(warning.startswith("over budget") for warning in kept.warnings)


def test_oversubscribed_servers_of_low_priority_slow_down_first():
    """POLCA: requests of high priority hardly notice what caps those of low priority."""
    requests = load(50.0, 2500, "lognormal:1500", "lognormal:150").with_urgent(0.5)
    free = simulate_requests(bare("4xh100-sxm", budget=PowerBudget(1e5, low=2)), requests)
    drawn = float(np.mean(series(free)["power_w"][10:50]))
    found = simulate_requests(bare("4xh100-sxm", budget=PowerBudget(drawn / 0.82, low=2)), requests)
    assert {event.replica for event in found.events} >= {2, 3}
    assert requests.priority is not None
    urgent = requests.priority == 1
    assert set(found.columns["replica"][urgent].tolist()) == {0, 1}

    def slower(which: np.ndarray) -> float:
        return float(np.mean(found.latency_s[which]) / np.mean(free.latency_s[which]))

    assert slower(~urgent) > slower(urgent)
    assert slower(urgent) < 1.05


@pytest.mark.parametrize("routing", ["round_robin", "power_of_two", "prefix_aware"])
@pytest.mark.parametrize("prefill", [0, 1])
def test_priorities_choose_among_replicas_whatever_the_router_and_the_pools(routing, prefill):
    """Of 4 replicas the last 2 are of low priority; with pools these decode, and one of the others does."""
    requests = load(20.0, 300).with_urgent(0.5)
    system = bare("4xh100-sxm", budget=PowerBudget(1e5, low=2), routing=routing, prefill_replicas=prefill)
    found = simulate_requests(system, requests)
    assert requests.priority is not None
    urgent = requests.priority == 1
    assert set(found.columns["replica"][urgent].tolist()) == set(range(prefill, 2))
    assert set(found.columns["replica"][~urgent].tolist()) == {2, 3}


def test_what_does_nothing_for_a_load_is_said():
    system = bare("2xh100-sxm", tiers=rp.CacheTiers(1e11), routing="prefix_aware")
    said = simulate_requests(system, load(5.0, 50)).warnings
    assert sum("no request names a prefix" in line for line in said) == 2
    turns = rp.session_requests(1.0, 50, "300", "60", turns=3, think_s=1.0)
    assert not any("no request names" in line for line in simulate_requests(system, turns).warnings)


@given(st.lists(st.floats(0.0, 2000.0), max_size=40))
def test_a_governor_stays_within_its_band(watts):
    row = Governor(PowerBudget(1000.0))
    for w in watts:
        before, state = row.state, row.look(w)
        above = sum(w > limit for limit in (800.0, 890.0, 1000.0))
        assert state >= above
        assert state <= max(above, before)


def test_energy_at_full_load_is_the_cap():
    """P − idle goes with the clock to 2.4, and ``capped`` gives the clock: together full load draws the cap, no more."""
    requests = load(100.0, 1500, "2000", "2")
    found = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=requests, power_cap_w=400.0)
    free = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=requests)
    machine = found.deployment.machine
    assert found.deployment.frequency == pytest.approx(1.0 / capped(machine, 700.0, 400.0)[1])
    assert max(series(found)["power_w"]) <= 400.0
    assert max(series(free)["power_w"]) > 550.0
    done = found.actions[0]
    assert np.all(Draws(machine, found.replicas[0].clocks).worth_s(done) <= done.log["seconds"] * (1.0 + 1e-9))


# Pools


def test_a_mixed_pool_takes_what_overflows():
    """Splitwise: with too few prompt machines a mixed pool shortens the queue for the first token; without need it idles."""
    burst = load(45.0, 1200, "lognormal:2k:0.5", "100")
    apart = simulate_requests(bare("4xh100-sxm", prefill_replicas=1), burst)
    mixed = simulate_requests(bare("4xh100-sxm", prefill_replicas=1, mixed_replicas=1), burst)
    assert mixed.summary("ttft_s").p90 < 0.8 * apart.summary("ttft_s").p90  # type: ignore[union-attr]
    calm = simulate_requests(bare("4xh100-sxm", prefill_replicas=1, mixed_replicas=1), load(2.0, 100))
    assert not np.any(calm.columns["replica"] == 1)


# Shared devices


def test_a_shared_device_without_company_is_the_device():
    """A half that is alone has all multiprocessors: one request at a time takes as long as without sharing."""
    lone = rp.Requests(np.arange(0.0, 500.0, 100.0), np.full(5, 1500), np.full(5, 60))
    plain, shared = simulate_requests(bare(), lone), simulate_requests(bare(sharing=0.5), lone)
    assert np.allclose(plain.latency_s, shared.latency_s, rtol=1e-9)


def test_sharing_protects_the_time_between_tokens_at_the_price_of_first_ones():
    """Nexus: prompts no longer lie between tokens; each half is slower than the device."""
    requests = load(12.0, 500, "lognormal:1500:0.5", "150")
    plain, shared = simulate_requests(bare(), requests), simulate_requests(bare(sharing=0.4), requests)
    conserved(shared)
    assert shared.token_gap_s["p99"] < 0.7 * plain.token_gap_s["p99"]  # type: ignore[index]
    assert shared.summary("ttft_s").p50 > plain.summary("ttft_s").p50  # type: ignore[union-attr]
    reading, decoding = ((r.clocks[1], r.clocks[0]) for r in (shared.replicas[0], shared.halves[1]))
    assert reading[0].mixed(0, 0.0, [(4096, 0)], 1)[0] > 1.5 * reading[1].mixed(0, 0.0, [(4096, 0)], 1)[0]
    assert decoding[0].decode(64, 2000.0)[0] > decoding[1].decode(64, 2000.0)[0]


def test_a_partition_is_a_smaller_device():
    machine = rp.find_machine("h100-sxm")
    half = partitioned(machine, 0.5)
    assert half.arithmetic("bf16").flop_per_s == pytest.approx(machine.arithmetic("bf16").flop_per_s / 2.0)
    assert half.memory_bytes_per_s == machine.memory_bytes_per_s


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"sharing": 1.0}, "bad_sharing"),
        ({"sharing": 0.5, "prefill_replicas": 1}, "bad_sharing"),
        ({"mixed_replicas": 1}, "bad_plan"),
        ({"prefill_replicas": 1, "mixed_replicas": 3}, "bad_plan"),
        ({"scaling": rp.Scaling(5.0, least=9)}, "bad_scaling"),
        ({"scaling": rp.Scaling(5.0), "prefill_replicas": 1}, "bad_scaling"),
        ({"budget": PowerBudget(300.0)}, "bad_power_budget"),  # four devices draw 364 W when they do nothing
        ({"plan": rp.Plan(expert_imbalance=2.0)}, "bad_plan"),
        ({"tiers": rp.CacheTiers(host_bytes=1e11), "scheduling": Scheduling(prefix_cache=False)}, "bad_tiers"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(options, kind):
    with pytest.raises(rp.RidgepointError) as refused:
        rp.simulate("llama-3.1-8b", on="4xh100-sxm", requests=load(1.0, 5), **options)
    assert refused.value.kind == kind


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (rp.Failures, {"mtbf_s": 0.0}),
        (rp.Scaling, {"target": 0.0}),
        (PowerBudget, {"watts": -1.0}),
        (PowerBudget, {"watts": 100.0, "first": 0.9, "second": 0.8}),
    ],
)
def test_what_is_no_condition_is_refused(kind, values):
    with pytest.raises(rp.RidgepointError):
        kind(**values)


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ({"sharing": 0.4, "prefill_replicas": 1}, ("--sharing", "--prefill-replicas")),
        ({"sharing": 0.4, "budget": PowerBudget(2000.0)}, ("--sharing", "--power-budget")),
        ({"sharing": 0.4, "policy": "static"}, ("--sharing", "--policy static")),
        ({"scaling": Scaling(8.0), "prefill_replicas": 1}, ("--autoscale", "--prefill-replicas")),
        ({"policy": "static", "prefill_replicas": 1}, ("--policy static", "--prefill-replicas")),
    ],
)
def test_what_does_not_combine_names_both_options(more, options):
    """A user must see which of many options to leave out."""
    with pytest.raises(rp.RidgepointError) as caught:
        bare("4xh100-sxm", rp.Plan(tp=1, dp=4), **more).checked()
    assert all(option in caught.value.message for option in options)
    assert "leave out one of" in (caught.value.hint or "")
