"""Requests through deployments: against queueing theory, and what must be conserved (design §10); SimPy: test_oracle.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.serving.handover import transfer
from ridgepoint.serving.scheduling import Speculation
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.serving.workload import Requests
from tests.serving.systems import bare, decoded, load, read


def test_waiting_for_a_server_of_constant_time_is_pollaczek_khinchine():
    """M/D/1: one request at a time, one output token: W = ρ·D / (2·(1 − ρ))."""
    system = bare(max_sequences=1)
    alone = simulate_requests(system, Requests(np.zeros(1), np.array([1024]), np.array([1])))
    service = float(alone.latency_s[0])
    for utilization in (0.3, 0.7):
        requests = rp.poisson_requests(utilization / service, 40_000, "1024", "1", seed=3)
        found = simulate_requests(system, requests)
        waited = found.columns["began_s"] - found.columns["arrived_s"]
        expected = utilization * service / (2.0 * (1.0 - utilization))
        assert waited.mean() == pytest.approx(expected, rel=0.06)
        assert found.utilization[0] == pytest.approx(utilization, rel=0.03)


@settings(max_examples=25)
@given(
    engine=st.sampled_from(["vllm", "sglang", "trtllm"]),
    policy=st.sampled_from(["mixed", "prefill_first", "static"]),
    chunked=st.booleans(),
    blocks=st.sampled_from([None, 150, 400]),
    rate=st.sampled_from([2.0, 20.0, 200.0]),
    most=st.sampled_from([2, 32]),
    speculation=st.sampled_from([None, Speculation.geometric(3, 0.6)]),
    prefill=st.sampled_from([0, 1]),
    routing=st.sampled_from(["round_robin", "least_loaded", "power_of_two", "prefix_aware"]),
    seed=st.integers(0, 3),
)
def test_requests_and_tokens_are_conserved(
    engine, policy, chunked, blocks, rate, most, speculation, prefill, routing, seed
):
    """Every request is answered or refused, every token read and made once, and all room is given back."""
    if policy == "static" and prefill:
        prefill = 0
    system = bare(
        "2xh100-sxm", blocks=blocks, engine=engine, policy=policy, max_sequences=most, static_batch=most,
        speculation=speculation, prefill_replicas=prefill, routing=routing, chunked=chunked,
    )  # fmt: skip
    requests = load(rate, 60, "uniform:16:1500", "uniform:1:200", seed)
    found = simulate_requests(system, requests, seed=seed)
    assert int(found.completed.sum()) + found.failed == len(requests)
    assert found.failed == 0 or blocks == 150
    for replica in found.replicas:
        assert replica.blocks.used == 0
        assert not replica.waiting
        assert replica.load == 0
    served = found.completed
    columns = {name: column[served] for name, column in found.columns.items()}
    assert np.all(columns["arrived_s"] <= columns["began_s"])
    assert np.all(columns["began_s"] < columns["first_s"])
    assert np.all(columns["first_s"] <= columns["done_s"])
    assert sum(found.usage.critical_s.values()) == pytest.approx(sum(a.seconds for a in found.actions), rel=1e-9)
    assert all(np.all(a.log["used"] <= found.cache.blocks) for a in found.actions)
    if not found.put_back and policy != "static":
        assert read(found) == requests.prompt[served].sum()
        assert chunked or sum(len(a.reads["tokens"]) for a in found.actions) == served.sum()
        if speculation is None:
            assert decoded(found) == (requests.output[served] - 1).sum()


def test_littles_law_holds_for_decoding_sequences():
    """∫ sequences dt over all actions = Σ seconds that requests decode."""
    found = simulate_requests(bare(), load(25.0, 1500))
    inside = sum(float(np.dot(a.log["sequences"] + a.log["stalled"], a.log["seconds"])) for a in found.actions)
    assert inside == pytest.approx(float((found.columns["done_s"] - found.columns["first_s"]).sum()), rel=1e-9)


def test_equal_seeds_give_equal_results():
    system = bare("4xh100-sxm", routing="power_of_two", speculation=Speculation.geometric(3, 0.7))
    runs = [simulate_requests(system, load(40.0, 300), seed=s) for s in (5, 5, 6)]
    assert np.array_equal(runs[0].columns["done_s"], runs[1].columns["done_s"])
    assert not np.array_equal(runs[0].columns["done_s"], runs[2].columns["done_s"])


def test_one_request_takes_its_prefill_and_its_decode_steps():
    """The simulator and the estimate of the same passes agree, host times of the engine aside."""
    found = rp.simulate(
        "llama-3.1-8b", on="h100-sxm", requests=Requests(np.zeros(1), np.array([2048]), np.array([257]))
    )
    engine = found.deployment.software
    first = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Prefill(batch=1, prompt=2048)).time_s
    step = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=1, context=2048 + 128)).time_s
    host = engine.step_s + engine.sequence_s
    assert found.ttft_s[0] == pytest.approx(engine.request_s + first + host + engine.lag * (step + host), rel=0.01)
    assert found.tpot_s[0] == pytest.approx(step + host, rel=0.01)


def test_more_than_it_can_serve_is_reported_and_ends():
    """A queue that grows is said with its growth; the simulation does not run for ever."""
    found = simulate_requests(bare(max_sequences=16), load(200.0, 3000))
    assert found.queue.overloaded
    served = len(found.requests) / found.span_s
    assert found.queue.growth_per_s == pytest.approx(found.requests.rate - served, rel=0.15)
    assert "overloaded" in found.warnings[0]
    assert not simulate_requests(bare(), load(10.0, 1000)).queue.overloaded


def test_requests_beyond_the_cache_or_the_queue_are_refused_and_counted():
    long = Requests(np.zeros(2), np.array([100, 4000]), np.array([10, 2000]))
    found = simulate_requests(bare(blocks=100), long)
    assert found.failed == 1
    assert "longer than the cache" in found.warnings[0]
    full = simulate_requests(bare(max_sequences=4, max_waiting=5), load(500.0, 200))
    assert full.failed > 0
    assert any("too many waited" in line for line in full.warnings)


def test_a_shared_prefix_is_read_once_and_evicted_when_room_is_needed():
    turns = rp.session_requests(2.0, 200, "200", "100", turns=5, think_s=2.0, shared=256)
    known = simulate_requests(bare(), turns)
    without = simulate_requests(bare(prefix_cache=False), turns)
    small = simulate_requests(bare(blocks=250), turns)
    assert read(known) < 0.6 * read(without)
    assert read(without) == turns.prompt.sum()
    assert read(known) + known.columns["cached_tokens"].sum() == turns.prompt.sum()
    assert known.columns["cached_tokens"].sum() > small.columns["cached_tokens"].sum()
    assert known.summary("ttft_s").p50 < without.summary("ttft_s").p50  # type: ignore[union-attr]


def test_routing_by_prefix_keeps_conversations_on_their_replica():
    turns = rp.session_requests(4.0, 400, "400", "100", turns=6, think_s=2.0)
    hits = {
        rule: simulate_requests(bare("4xh100-sxm", routing=rule), turns).columns["cached_tokens"].sum()
        for rule in ("round_robin", "prefix_aware")
    }
    assert hits["prefix_aware"] > 1.5 * hits["round_robin"]


def test_prompts_first_shortens_first_tokens_and_stalls_decoding():
    """Why mixed batches exist (Sarathi-Serve): stalls of running sequences become shorter, first tokens later."""
    requests = load(25.0, 800, "lognormal:1500:0.5", "150")
    mixed = simulate_requests(bare(token_budget=512, max_sequences=256), requests)
    apart = simulate_requests(bare(policy="prefill_first", max_sequences=256), requests)
    assert mixed.token_gap_s["p99"] < apart.token_gap_s["p99"]  # type: ignore[index]
    assert mixed.summary("ttft_s").p50 > apart.summary("ttft_s").p50  # type: ignore[union-attr]


def test_continuous_batching_beats_a_static_batch():
    """Orca's finding: a batch that waits for its longest member wastes the others' places."""
    requests = load(1000.0, 600, "200", "lognormal:100:1")
    continuous = simulate_requests(bare(max_sequences=32), requests)
    static = simulate_requests(bare(policy="static", static_batch=32, max_sequences=32), requests)
    assert continuous.tokens_per_s > 1.5 * static.tokens_per_s


def test_closed_clients_never_have_more_than_their_number_under_way():
    found = simulate_requests(bare(), rp.client_requests(8, 200, "300", "lognormal:60"))
    events = np.concatenate([
        np.stack([found.columns["arrived_s"], np.ones(200)], 1), np.stack([found.columns["done_s"], -np.ones(200)], 1),
    ])  # fmt: skip
    order = np.lexsort((events[:, 1], events[:, 0]))
    assert np.cumsum(events[order, 1]).max() == 8


def test_disaggregation_protects_decoding_from_prompts():
    """Splitwise, DistServe: where prompts are read elsewhere, no prompt lies between two tokens of a sequence."""
    requests = load(20.0, 600, "lognormal:2k:0.5", "200")
    together = simulate_requests(bare("4xh100-sxm"), requests)
    apart = simulate_requests(bare("4xh100-sxm", prefill_replicas=2), requests)
    assert int(apart.completed.sum()) == 600
    assert apart.token_gap_s["p99"] < 0.5 * together.token_gap_s["p99"]  # type: ignore[index]
    per_token, _ = transfer(apart.deployment, apart.cache)
    link = apart.deployment.machine.link("node")
    assert link is not None
    assert per_token > apart.cache.token_bytes / link[1].bandwidth


def test_speculation_helps_small_batches_more_than_large_ones():
    """Leviathan et al. 2023: it trades arithmetic for passes, which pays while memory binds."""

    def gain(rate: float, count: int) -> float:
        requests = load(rate, count, "300", "200")
        plain = simulate_requests(bare(), requests).summary("tpot_s")
        faster = simulate_requests(bare(speculation=Speculation.geometric(4, 0.7)), requests).summary("tpot_s")
        assert plain is not None
        assert faster is not None
        return plain.p50 / faster.p50

    alone, loaded = gain(0.5, 60), gain(60.0, 1500)
    assert 1.8 < alone < Speculation.geometric(4, 0.7).tokens_per_step
    assert loaded < alone


def test_a_power_cap_slows_and_saves():
    requests = load(10.0, 300)
    free = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=requests)
    capped = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=requests, power_cap_w=400.0)
    assert capped.summary("tpot_s").p50 > free.summary("tpot_s").p50  # type: ignore[union-attr]
    assert capped.energy_j / capped.span_s <= 400.0  # type: ignore[operator]


def test_priorities_are_served_first():
    requests = load(150.0, 800)
    ranked = Requests(requests.arrival_s, requests.prompt, requests.output, priority=np.arange(800) % 2)
    found = simulate_requests(bare(max_sequences=8), ranked)
    urgent = np.arange(800) % 2 == 1
    assert found.ttft_s[urgent].mean() < 0.5 * found.ttft_s[~urgent].mean()


@pytest.mark.parametrize(
    ("model", "options", "kind"),
    [
        ("llama-3.1-405b", {}, "does_not_fit"),
        ("t5-3b", {}, "bad_task"),
        ("resnet50", {}, "bad_task"),
        ("llama-3.1-8b", {"engine": "vlm"}, "unknown_engine"),
        ("llama-3.1-8b", {"routing": "best"}, "unknown_routing"),
        ("llama-3.1-8b", {"prefill_replicas": 1}, "bad_plan"),
        ("llama-3.1-8b", {"power_cap_w": 10.0}, "bad_power_cap"),
    ],
)
def test_what_is_wrong_is_said(model, options, kind):
    with pytest.raises(rp.RidgepointError) as refused:
        rp.simulate(model, on="h100-sxm", requests=load(1.0, 5), **options)
    assert refused.value.kind == kind


def test_acceptance_that_is_no_distribution_is_refused():
    with pytest.raises(rp.RidgepointError, match="probabilities"):
        Speculation(2, (0.5, 0.5))


@pytest.mark.parametrize(("model", "shares"), [("gpt-oss-20b", True), ("mamba2-2.7b", False)])
def test_windows_share_prefixes_and_recurrent_states_do_not(model, shares):
    turns = rp.session_requests(1.0, 60, "300", "60", turns=5, think_s=1.0)
    found = rp.simulate(model, on="h100-sxm", requests=turns)
    assert int(found.completed.sum()) == 60
    assert bool(found.columns["cached_tokens"].sum() > 0) == shares
    assert any("recurrent states" in line for line in found.warnings) != shares
    assert all(replica.blocks.used == 0 for replica in found.replicas)
