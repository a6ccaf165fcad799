"""Fleets: cheapest within goals, confirmed request by request (Mélange; design §10)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.serving.fleet import plan_serve
from ridgepoint.serving.launch import emit
from ridgepoint.serving.offers import Space, buckets_of, replicated
from ridgepoint.serving.outcome import Slo
from ridgepoint.serving.simulate import simulate_requests

DEVICES = ("a10", "l4", "a100-sxm-80gb", "h100-sxm")
GOALS = Slo(0.5, 0.04)


@pytest.fixture(scope="module")
def load():
    return rp.poisson_requests(6.0, 1500, "lognormal:800", "lognormal:200", seed=2)


@pytest.fixture(scope="module")
def found(load):
    return plan_serve("llama-3.1-8b", requests=load, devices=DEVICES, slo=GOALS)


def test_no_single_type_is_cheaper_and_the_simulation_confirms_it(found):
    """Mélange's headline: a mix is never dearer than the best single type."""
    assert found.fleet.verified.attainment >= 0.9
    for single in found.singles:
        if single.fleet is not None:
            assert found.fleet.usd_per_hour <= single.fleet.usd_per_hour + 1e-9
    shares = np.sum([member.buckets for member in found.fleet.members], axis=0)
    assert shares == pytest.approx(np.ones(len(found.buckets)))


def test_buckets_divide_the_requests(load):
    buckets, group = buckets_of(load)
    assert sum(b.share for b in buckets) == pytest.approx(1.0)
    work = sum(b.share * b.prompt for b in buckets)
    assert work == pytest.approx(load.prompt.mean(), rel=0.01)
    assert len(np.unique(group)) == len(buckets)


def test_harder_goals_and_more_requests_never_cost_less(found, load):
    costs = [fleet.usd_per_hour for _, fleet in found.front if fleet is not None]
    assert all(later <= 1.013 * sooner for sooner, later in pairwise(costs))  # within the program's gap
    double = plan_serve("llama-3.1-8b", requests=load.at_rate(12.0), devices=DEVICES, slo=GOALS)
    assert double.fleet.usd_per_hour >= found.fleet.usd_per_hour


def test_limits_and_spares_are_kept(load):
    few = plan_serve("llama-3.1-8b", requests=load, devices=("a10", "h100-sxm"), slo=GOALS, limits={"h100-sxm": 0})
    assert {member.offer.device for member in few.fleet.members} == {"a10"}
    usual = plan_serve("llama-3.1-8b", requests=load, devices=("h100-sxm",), slo=GOALS)
    spare = plan_serve("llama-3.1-8b", requests=load, devices=("h100-sxm",), slo=GOALS, spare=1)
    assert spare.fleet.members[0].count == usual.fleet.members[0].count + 1


def test_fewer_replicas_of_the_chosen_kind_do_not_keep_the_goals():
    """The plan does not overspend much: half of the replicas fail in the simulator."""
    heavy = rp.poisson_requests(120.0, 6000, "lognormal:1k", "lognormal:200", seed=4)
    found = plan_serve("llama-3.1-8b", requests=heavy, devices=("h100-sxm",), slo=GOALS)
    member = max(found.fleet.members, key=lambda m: m.count)
    assert member.count >= 2
    half = simulate_requests(replicated(member.offer, member.count // 2), heavy, GOALS)
    assert half.attainment < 0.9


def test_goals_that_nothing_keeps_say_what_binds(load):
    with pytest.raises(rp.RidgepointError) as refused:
        plan_serve("llama-3.1-8b", requests=load, devices=("l4",), slo=Slo(0.5, 0.001))
    assert refused.value.kind == "no_plan"
    assert "a further token takes" in refused.value.message
    with pytest.raises(rp.RidgepointError, match=r"too few devices: the goals take \d+ × h100-sxm"):
        plan_serve(
            "llama-3.1-8b", requests=load.at_rate(200.0), devices=("h100-sxm",), slo=GOALS, limits={"h100-sxm": 1}
        )
    with pytest.raises(rp.RidgepointError, match="leave no memory"):
        plan_serve("llama-3.1-405b", requests=load, devices=("l4",), slo=GOALS)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"slo": Slo()}, "no_goal"),
        ({"attainment": 1.5}, "bad_goal"),
        ({"devices": ("h100-smx",)}, "unknown_machine"),
        ({"requests": rp.client_requests(3, 10, "10", "10")}, "bad_workload"),
    ],
    ids=["goal", "part", "device", "clients"],
)
def test_what_is_wrong_is_said(load, changes, kind):
    with pytest.raises(rp.RidgepointError) as refused:
        plan_serve("llama-3.1-8b", **({"requests": load, "devices": ("l4",), "slo": GOALS} | changes))
    assert refused.value.kind == kind


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("vllm", ("vllm serve meta-llama/Llama-3.1-8B", "--tensor-parallel-size", "--max-num-batched-tokens 8192")),
        ("sglang", ("python -m sglang.launch_server --model-path", "--tp-size", "--chunked-prefill-size 8192")),
        ("trtllm", ("trtllm-serve", "--tp_size", "--max_num_tokens 8192", "--kv_cache_free_gpu_memory_fraction")),
        ("kubernetes", ("kind: Deployment", "nvidia.com/gpu:", "kind: Service", '- "--max-model-len"')),
    ],
)
def test_a_plan_becomes_commands_with_the_engines_own_words(found, target, words):
    text = emit(found, target)
    for word in words:
        assert word in text


def test_experts_are_emitted_with_data_parallel_attention():
    load = rp.poisson_requests(1.0, 200, "1k", "200")
    found = plan_serve(
        "deepseek-v3", requests=load, devices=("h200-sxm",), slo=Slo(5.0, 0.2), space=Space(rp.Plan(kv="fp8"))
    )
    assert "--kv-cache-dtype fp8" in emit(found, "vllm")
    layout = found.fleet.members[0].offer.layout
    assert ("--enable-expert-parallel" in emit(found, "vllm")) == (layout["ep"] > 1)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("vllm", ('"kv_role":"kv_producer"', '"kv_role":"kv_consumer"', "NixlConnector", "prefill replica")),
        ("sglang", ("--disaggregation-mode prefill", "--disaggregation-mode decode", "sglang_router.launch_router")),
        ("trtllm", ("cache_transceiver_config: {backend: DEFAULT}", "--extra_llm_api_options options.yaml", "<<'EOF'")),
        ("kubernetes", ("-x1-prefill", "-x1-decode", '"--kv-transfer-config"')),
    ],
)
def test_pools_that_read_prompts_apart_are_emitted_with_their_roles(target, words):
    """Long prompts, short answers and a tight time per token: reading apart is cheaper, and both pools are started."""
    heavy = rp.poisson_requests(40.0, 600, "6k", "64", seed=1)
    space = Space(formats=("fp8+kv8",))
    found = plan_serve("llama-3.1-8b", requests=heavy, devices=("h100-sxm",), slo=Slo(1.0, 0.012), space=space)
    layout = found.fleet.members[0].offer.layout
    assert layout["prefill"] > layout["decode"] >= 1
    text = emit(found, target)
    for word in words:
        assert word in text


def test_pipelines_are_emitted_and_a_plan_may_ask_for_them(load):
    found = plan_serve("llama-3.1-8b", requests=load, devices=("l4",), slo=Slo(3.0, 0.1), space=Space(rp.Plan(pp=2.0)))
    assert found.fleet.members[0].offer.layout["pp"] == 2
    assert "--pipeline-parallel-size 2" in emit(found, "vllm")
    assert "--pp_size 2" in emit(found, "trtllm")


def test_a_manifest_says_which_checkpoint_it_needs(load):
    found = plan_serve("llama-3.1-8b", requests=load, devices=("l4",), slo=GOALS, space=Space(formats=("int4",)))
    assert "# int4 weights: serve a checkpoint that is stored so" in emit(found, "vllm")
    assert "# int4 weights: serve a checkpoint that is stored so" in emit(found, "kubernetes")


def test_narrower_formats_are_chosen_where_they_are_offered(load):
    heavy = load.at_rate(60.0)
    wide = plan_serve("llama-3.1-8b", requests=heavy, devices=("h100-sxm",), slo=GOALS)
    narrow = plan_serve(
        "llama-3.1-8b", requests=heavy, devices=("h100-sxm",), slo=GOALS, space=Space(formats=("given", "fp8+kv8"))
    )
    assert narrow.fleet.usd_per_hour < wide.fleet.usd_per_hour
    assert narrow.fleet.members[0].offer.formats["weights"] == "fp8"
    assert "--quantization fp8 --kv-cache-dtype fp8" in emit(narrow, "vllm")


def test_fewer_replicas_than_needed_are_no_spares():
    """A negative number would take away replicas that the goals need."""
    with pytest.raises(rp.RidgepointError, match="spare replicas"):
        rp.plan_serve("llama-3.1-8b", requests=rp.poisson_requests(5.0, 100, "1k", "100"), devices=("h100-sxm",),
                      slo=rp.Slo(ttft_s=1.0), spare=-1)  # fmt: skip
