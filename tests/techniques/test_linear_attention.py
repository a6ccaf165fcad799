"""Attention linear in length: constant state, crossover with the context, what the extra kernels cost (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError


def decode(context: float, *apply: str, model: str = "llama-2-7b") -> rp.Estimate:
    return rp.estimate(model, on="h200", task=rp.Decode(batch=16, context=context), apply=apply)


def test_the_state_does_not_grow() -> None:
    """State = features × head_dim per head, beside a window (lizard, based)."""
    found = [decode(c, "linear-attention-hybrid:layers=1,features=256,window=64").memory for c in (4096, 16384)]
    assert found[0]["kv_state"] == found[1]["kv_state"] == pytest.approx(16 * 32 * 32 * 256 * 128 * 4)
    assert found[0]["kv"] == found[1]["kv"] == pytest.approx(16 * 64 * 32 * 2 * 32 * 128 * 2)


def test_the_gain_crosses_one_with_the_context() -> None:
    gains = [decode(c).time_s / decode(c, "linear-attention-hybrid:layers=1").time_s for c in (256, 2048, 8192)]
    assert gains == sorted(gains)
    assert gains[0] < 1.0 < gains[-1]


def test_attention_that_stays_keeps_its_cache() -> None:
    half = decode(16384, "linear-attention-hybrid:layers=0.5,window=0").memory["kv"]
    assert half == pytest.approx(0.5 * decode(16384).memory["kv"])


def test_a_prompt_is_linear() -> None:
    def time(prompt: float, *apply: str) -> float:
        task = rp.Prefill(batch=1, prompt=prompt)
        return float(rp.estimate("llama-2-7b", on="h200", task=task, apply=apply).time_s)

    hybrid = "linear-attention-hybrid:layers=1,window=0"
    assert time(131072, hybrid) / time(65536, hybrid) == pytest.approx(2.0, rel=0.03)
    assert time(131072) / time(65536) > 2.4


def test_state_space_models_hold_longer_sequences() -> None:
    """Four times the context in 24 GB (ssm-hybrid-characterization): the state is constant."""

    def state(context: float) -> float:
        return float(decode(context, "state-space-layers:layers=1", model="llama-3.2-1b").memory["kv"])

    assert state(1024) == state(131072) < decode(1024, model="llama-3.2-1b").memory["kv"] * 10


def test_short_prompts_favour_attention() -> None:
    """Transformers are up to 1.8 times as fast at short contexts, state-space models at long ones."""

    def gain(prompt: float) -> float:
        task = rp.Prefill(batch=1, prompt=prompt)
        times = [
            rp.estimate("llama-3.2-1b", on="rtx-4090", task=task, apply=a).time_s
            for a in ([], ["state-space-layers:layers=1"])
        ]
        return float(times[0] / times[1])

    assert gain(1024) < 1.0 < gain(57344)


def test_operations_of_linear_attention() -> None:
    """4·N²·d pairs' operations become 4·N·d² (inline-attention)."""
    task = rp.Forward(batch=1, image_px=896)
    before, after = (
        rp.estimate("vit_large_patch16_224", on="h200", task=task, apply=a) for a in ([], ["linear-attention"])
    )
    softmax = sum(c.flop for c in before.cost.components if c.kind == "attention")
    linear = sum(c.flop for c in after.cost.components if c.label.endswith((".keys_values", ".queries")))
    assert softmax / linear == pytest.approx(56**2 / 64, rel=0.01)


def test_operations_through_agents() -> None:
    """8·N·n·d in place of 4·N²·d (agent-attention)."""
    task = rp.Forward(batch=1, image_px=896)

    def flop(*apply: str) -> float:
        parts = rp.estimate("vit_large_patch16_224", on="h200", task=task, apply=apply).cost.components
        return float(sum(c.flop for c in parts if c.kind == "attention"))

    assert flop() / flop("agent-attention:agents=49") == pytest.approx(56**2 / 98, rel=0.01)


def test_low_rank_attention_pays_from_some_hundred_tokens() -> None:
    """Factor the weights below 512 tokens, the attention above (greenformers)."""

    def gain(seq: float, options: str = "rank=128") -> float:
        task = rp.Forward(batch=16, seq=seq)
        times = [
            rp.estimate("bert-large", on="h100-sxm", task=task, apply=a).time_s
            for a in ([], [f"low-rank-attention:{options}"])
        ]
        return float(times[0] / times[1])

    assert gain(256) < 1.0 < gain(4096) < gain(16384)
    assert gain(4096, "rank=128,sampled=true") > 1.0


def test_causal_models_have_their_own_technique() -> None:
    with pytest.raises(RidgepointError, match="both ways"):
        rp.estimate("llama-2-7b", on="h200", task="forward", apply=["linear-attention"])
