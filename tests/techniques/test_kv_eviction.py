"""Fewer cached tokens: long contexts gain, short ones do not, choosing costs (design §6)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.techniques.kv_eviction import kept_tokens


def decode(context: float, *apply: str, batch: float = 4, model: str = "llama-2-7b") -> rp.Estimate:
    task = rp.Decode(batch=batch, context=context)
    return rp.estimate(model, on="h200", task=task, apply=apply)


@given(st.floats(1, 1e6), st.floats(1, 1e5), st.floats(0, 1))
def test_a_policy_keeps_no_more_than_there_is(length: float, budget: float, kept: float) -> None:
    held = kept_tokens(length, budget, kept)
    assert min(budget, length) - 1e-6 <= held <= length


def test_eviction_helps_long_contexts_and_nothing_at_short() -> None:
    gains = [decode(c).time_s / decode(c, "token-eviction:budget=1024").time_s for c in (2048, 8192, 32768)]
    assert gains == sorted(gains)
    assert gains[-1] > 3.0
    with pytest.raises(RidgepointError, match="no longer than what is kept"):
        decode(1024, "token-eviction:budget=1024")


def test_an_eighth_of_the_cache_is_an_eighth_of_its_bytes() -> None:
    """A fixed-size cache of 1/8 of the context (tova)."""
    assert decode(32768, "token-eviction:budget=4096").memory["kv"] == pytest.approx(decode(32768).memory["kv"] / 8)


def test_zeromerge_keeps_a_twentieth() -> None:
    """Throughput ratio = (weights + KV)/(weights + 0.05 KV), less what choosing costs (zeromerge)."""
    before, after = decode(40000, batch=2), decode(40000, "kv-merging:budget=1,kept=0.05", batch=2)
    weights, kv = before.memory["weights"], before.memory["kv"]
    assert after.memory["kv"] == pytest.approx(0.05 * kv, rel=1e-3)
    assert 1.3 < before.time_s / after.time_s < (weights + kv) / (weights + 0.05 * kv)


def test_a_lag_costs_memory_and_saves_choices() -> None:
    """The cache holds up to the budget and the window (lazyeviction)."""
    each, lagging = (decode(32768, f"token-eviction:budget=4096,every={n}") for n in (1, 1024))
    assert lagging.memory["kv"] == pytest.approx(each.memory["kv"] * (4096 + 1023) / 4096)
    chosen = [sum(c.critical_s for c in e.cost.components if "select" in c.label) for e in (each, lagging)]
    assert chosen[0] > 100 * chosen[1]


def test_the_choice_after_a_prompt_is_paid_there() -> None:
    task = rp.Prefill(batch=1, prompt=16384)
    before, after = (rp.estimate("llama-2-7b", on="h200", task=task, apply=a) for a in ([], ["token-eviction"]))
    assert before.time_s < after.time_s < 1.1 * before.time_s
    assert after.memory["kv"] == pytest.approx(before.memory["kv"] / 16)


def test_once_after_the_prompt_grows_with_what_is_generated() -> None:
    """Kept = budget after the prefill plus generated tokens (sage-kv)."""
    task = rp.Generate(batch=1, prompt=16384, output=2049)
    once = rp.estimate("llama-2-7b", on="h200", task=task, apply=["token-eviction:budget=1024,every=0"])
    whole = rp.estimate("llama-2-7b", on="h200", task=task)
    assert once.memory["kv"] / whole.memory["kv"] == pytest.approx((1024 + 2048) / (16384 + 2048))


def test_a_state_for_the_evicted_is_constant() -> None:
    """LESS: a low-rank state per head, whatever the context (less-kv)."""
    states = [decode(c, "token-eviction:rank=8").memory["kv_state"] for c in (8192, 32768)]
    assert states[0] == states[1] == pytest.approx(4 * 32 * 32 * 8 * 129 * 4)
    assert decode(8192, "token-eviction:rank=8").time_s > decode(8192, "token-eviction").time_s


def test_heads_with_windows_save_by_the_formula() -> None:
    """KV kept = r + (1 − r)(window + sinks + 1)/n (razorattention)."""
    ratio = (
        decode(32768, "streaming-heads:full=0.15,window=4096,sinks=4,extra=1").memory["kv"] / decode(32768).memory["kv"]
    )
    assert ratio == pytest.approx(0.15 + 0.85 * 4101 / 32768)


def test_windows_in_the_prefill_save_pairs() -> None:
    task = rp.Prefill(batch=1, prompt=65536)
    times = [
        float(rp.estimate("llama-3.1-8b", on="h200", task=task, apply=a).time_s)
        for a in ([], ["streaming-heads:full=0.5"], ["streaming-heads:full=0.5,prefill=true"])
    ]
    assert times[2] < times[1] == pytest.approx(times[0])


def test_latent_caches_can_be_evicted() -> None:
    before, after = (decode(32768, *a, model="deepseek-v2-lite") for a in ((), ("token-eviction",)))
    assert after.memory["kv"] < before.memory["kv"] / 16


def test_budgets_sweep() -> None:
    given_ = rp.Decode(batch=4, context=np.array([4096.0, 32768.0]))
    found = rp.estimate("llama-2-7b", on="h200", task=given_, apply=["token-eviction"])
    assert found.time_s == pytest.approx([decode(c, "token-eviction").time_s for c in (4096, 32768)])
