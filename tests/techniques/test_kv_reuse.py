"""Keys and values that are there already: what is left to compute, fetch, rotate (design §6)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.errors import RidgepointError


def prefill(
    prompt: float, *apply: str, model: str = "llama-3.1-8b", batch: float = 1, machine: str = "h100-sxm"
) -> rp.Estimate:
    return rp.estimate(model, on=machine, task=rp.Prefill(batch=batch, prompt=prompt), apply=apply)


def flop(found: rp.Estimate) -> float:
    return float(sum(found.cost.flop.values()))


@settings(max_examples=10)
@given(st.sampled_from([1024, 4096]), st.sampled_from([0.25, 0.5, 0.75]))
def test_two_halves_of_a_prompt_are_the_whole(prompt: int, known: float) -> None:
    """Reading the first part, then the rest behind it, does the operations of reading all (but one output)."""
    whole, rest = flop(prefill(prompt)), flop(prefill(prompt, f"prefix-reuse:known={known}"))
    assert flop(prefill(prompt * known)) + rest == pytest.approx(whole, rel=2e-3)


def test_latent_caches_are_expanded_whole() -> None:
    """A prefill with latents expands keys for the known part too: less is saved."""
    before, after = (prefill(8192, *a, model="deepseek-v2-lite") for a in ((), ("prefix-reuse:known=0.75",)))

    def expanded(found: rp.Estimate) -> float:
        return float(sum(c.flop for c in found.cost.components if c.label.endswith("key_value_up")))

    assert expanded(after) == pytest.approx(expanded(before))


def test_further_tokens_are_as_before() -> None:
    task = rp.Generate(batch=1, prompt=8192, output=32)
    before, after = (rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=a) for a in ([], ["prefix-reuse"]))
    assert after.tpot_s == pytest.approx(before.tpot_s)
    assert after.memory["kv"] == before.memory["kv"]


def test_a_context_switch_costs_its_transfer() -> None:
    """Switch = KV/PCIe (long-context-peak-analysis)."""
    times = [prefill(65536, f"prefix-reuse:known=0.999,place={p}").time_s for p in ("device", "host", "storage")]
    assert times == sorted(times)
    assert times[2] > 2 * times[0]


def test_candidates_share_their_context() -> None:
    """C·(L_ctx + L_resp) tokens become L_ctx + C·L_resp (uni-encoder)."""
    before = prefill(512, batch=16)
    after = prefill(512, "prefix-reuse:known=0.75,sharers=16", batch=16)
    tokens = (0.75 + 16 * 0.25) / 16
    assert flop(after) / flop(before) == pytest.approx(tokens, rel=0.03)
    assert after.memory["kv"] / before.memory["kv"] == pytest.approx(tokens)


def test_an_edit_saves_most_of_a_prompt() -> None:
    """At least 85 % of the computation goes (positional-integrity-encoding)."""
    for model in ("deepseek-coder-1.3b", "deepseek-coder-6.7b", "deepseek-coder-33b"):
        before, after = (
            prefill(8192, *a, model=model, machine="h200") for a in ((), ("position-corrected-reuse:edited=0.05",))
        )
        assert after.time_s < 0.15 * before.time_s, model
        assert any(c.label == "prefix.rotate" for c in after.cost.components)


def test_moving_all_keys_costs_more_than_moving_none() -> None:
    none, all_ = (prefill(8192, f"position-corrected-reuse:moved={m}").time_s for m in (0, 1))
    assert none < all_


def test_learned_positions_cannot_be_corrected() -> None:
    with pytest.raises(RidgepointError, match="not rotary"):
        prefill(1024, "position-corrected-reuse", model="gpt2-xl")


def test_common_keys_are_read_once() -> None:
    def decode(*apply: str) -> rp.Estimate:
        return rp.estimate("llama-2-7b", on="h200", task=rp.Decode(batch=16, context=8192), apply=apply)

    shared = decode("shared-prefix-attention:sequences=16,shared=0.9")
    assert shared.memory["kv"] / decode().memory["kv"] == pytest.approx(0.1 + 0.9 / 16)
    assert shared.time_s < decode().time_s
    more = decode("shared-prefix-attention:sequences=1000,shared=0.9")
    assert more.memory["kv"] == shared.memory["kv"], "a group is no larger than the batch"


def test_a_predicted_cache_costs_the_small_model_and_its_maps() -> None:
    """2·N_small·T + maps + one token in place of 2·N_large·T (kv-prediction)."""
    before, helped = prefill(4096), prefill(4096, "kv-prediction:model=llama-3.2-1b")
    maps = 4096 * 32 * 2 * 2 * 1024 * 512
    assert flop(helped) == pytest.approx(flop(prefill(4096, model="llama-3.2-1b")) + maps, rel=0.02)
    assert flop(before) / flop(helped) > 4
    assert helped.memory["predictor_maps"] == 32 * 2 * 1024 * 512 * 2


def test_a_model_without_a_cache_predicts_none() -> None:
    with pytest.raises(RidgepointError, match="no cache to predict from"):
        prefill(1024, "kv-prediction:model=mamba-2.8b")


def test_a_predicted_latent_is_as_wide_as_the_latent() -> None:
    """Attention of the larger model may have been turned into a latent: the maps lead to that (pairs compose, design §6)."""
    both = prefill(4096, "kv-prediction:model=llama-3.2-1b", "latent-kv")
    kept = prefill(4096, "latent-kv").memory["kv"] / 4096
    assert both.memory["predictor_maps"] == pytest.approx(kept * 512 * 2 / 2, rel=0.01)
