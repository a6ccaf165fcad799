"""What holds whatever a deployment is made of: conservation, room, Little's law, the queue of constant service (issue 10)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.serving.budget import PowerBudget
from ridgepoint.serving.scheduling import Speculation
from ridgepoint.serving.simulate import simulate_requests
from tests.serving.systems import bare, decoded, documents, load, read

PARTS = {
    "policy": st.sampled_from(["mixed", "prefill_first", "static"]),
    "admits": st.sampled_from(["grow", "ratio", "full"]),
    "chunked": st.booleans(),
    "token_budget": st.sampled_from([256, 4096]),
    "blocks": st.sampled_from([None, 300]),
    "prefix_cache": st.booleans(),
    "max_waiting": st.sampled_from([None, 6]),
    "shed_after_s": st.sampled_from([None, 0.5]),
    "routing": st.sampled_from(["round_robin", "least_loaded", "power_of_two", "prefix_aware"]),
    "speculation": st.sampled_from([None, Speculation.geometric(3, 0.6)]),
    "prefill_replicas": st.sampled_from([0, 0, 1, 2]),
    "mixed_replicas": st.sampled_from([0, 1]),
    "sharing": st.sampled_from([None, None, 0.4]),
    "tiers": st.sampled_from([None, rp.CacheTiers(3e8), rp.CacheTiers(1e8, 1e11)]),
    "adapters": st.sampled_from([None, rp.Adapters(8, slots=2, share=0.7)]),
    "failures": st.sampled_from([None, None, rp.Failures(8.0, 2.0)]),
    "scaling": st.sampled_from([None, None, rp.Scaling(4.0, start_s=1.0, every_s=1.0, patience_s=3.0)]),
    "budget": st.sampled_from([None, PowerBudget(1200.0), PowerBudget(900.0, low=2)]),
}


def refusal(system):
    """Why its parts do not go together, if they do not."""
    try:
        system.checked()
    except RidgepointError as refused:
        return refused
    return None


@settings(max_examples=60)
@given(
    parts=st.fixed_dictionaries(PARTS),
    documented=st.booleans(),
    urgent=st.booleans(),
    rate=st.sampled_from([8.0, 60.0]),
    seed=st.integers(0, 3),
)
def test_any_combination_conserves_requests_tokens_and_room(parts, documented, urgent, rate, seed):
    """Whatever is combined, it is either refused with its reason or serves every request once, within the cache."""
    requests = documents(90, rate, seed) if documented else load(rate, 90, "uniform:16:1500", "uniform:1:120", seed)
    requests = requests.with_urgent(0.3) if urgent else requests
    system = bare("4xh100-sxm", rp.Plan(tp=1, dp=4), max_sequences=24, static_batch=8, **parts)
    if (refused := refusal(system)) is not None:
        assert "leave" in refused.hint or "add" in refused.hint
        return
    found = simulate_requests(system, requests, seed=seed)
    served = found.completed
    shed = found.columns["shed"] == 1
    assert int(served.sum()) + found.failed == len(requests)
    assert not np.any(served & shed)
    for replica in found.halves:
        assert (replica.load, replica.blocks.used, len(replica.fetching)) == (0, 0, 0)
    for done in found.actions:
        log = done.log
        assert np.all(log["used"] <= found.cache.blocks)
        assert np.all(log["start_s"][1:] >= (log["start_s"] + log["seconds"])[:-1] - 1e-9)
        assert np.all(log["tokens"][log["steps"] > 1] <= 24 * 4)
    columns = {name: column[served] for name, column in found.columns.items()}
    times = [columns[name] for name in ("arrived_s", "began_s", "first_s", "done_s")]
    assert all(np.all(before <= after) for before, after in pairwise(times))
    assert sum(found.usage.critical_s.values()) == pytest.approx(sum(a.seconds for a in found.actions), rel=1e-9)
    undisturbed = not found.put_back and not found.columns["restarted"].any() and parts["policy"] != "static"
    if undisturbed:
        assert read(found) + columns["cached_tokens"].sum() == requests.prompt[served].sum()
    if undisturbed and parts["speculation"] is None:
        assert decoded(found) == (requests.output[served] - 1).sum()
    if undisturbed and not parts["prefill_replicas"] and parts["sharing"] is None:
        inside = sum(float(np.dot(a.log["sequences"] + a.log["stalled"], a.log["seconds"])) for a in found.actions)
        assert inside == pytest.approx(float((columns["done_s"] - columns["first_s"]).sum()), rel=1e-6, abs=1e-9)


ONE_BY_ONE: dict[str, dict[str, Any]] = {
    "vLLM": {},
    "SGLang": {"engine": "sglang", "policy": "prefill_first", "admits": "ratio"},
    "TensorRT-LLM": {"engine": "trtllm", "admits": "full"},
    "whole prompts": {"chunked": False},
    "static batches of one": {"policy": "static", "static_batch": 1},
    "speculation": {"speculation": Speculation.geometric(3, 0.6)},
    "a shared device": {"sharing": 0.5},
    "one adapter": {"adapters": rp.Adapters(1, slots=1)},
    "a power cap": {"power_cap_w": 400.0},
    "a power budget": {"budget": PowerBudget(1e5)},
    "replicas by load, one at least": {"scaling": rp.Scaling(1e9)},
    "lower tiers": {"tiers": rp.CacheTiers(1e11)},
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_one_server_of_constant_time_waits_as_pollaczek_and_khinchine_say(name):
    """W = ρ · D / (2 · (1 − ρ)) with each feature that leaves service constant: none may lose or double time."""
    system = bare(max_sequences=1, **ONE_BY_ONE[name])
    two = rp.Requests(np.array([0.0, 100.0]), np.array([1024, 1024]), np.array([1, 1]))
    service = float(simulate_requests(system, two).latency_s[1])  # the first may wait for an adapter
    requests = rp.poisson_requests(0.6 / service, 30_000, "1024", "1", seed=3)
    found = simulate_requests(system, requests)
    waited = found.columns["began_s"] - found.columns["arrived_s"]
    assert waited.mean() == pytest.approx(0.6 * service / (2.0 * 0.4), rel=0.05)
    assert found.ttft_s.mean() - waited.mean() == pytest.approx(service, rel=1e-3)
