"""The cache in few bits: bytes by format, gain where its traffic binds (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError


def decode(context: float, *apply: str, batch: float = 16) -> rp.Estimate:
    return rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=batch, context=context), apply=apply)


@pytest.mark.parametrize(("name", "bits"), [("fp8", 8), ("int4", 4.125), ("int2", 2.125)])
def test_bytes_are_those_of_the_format(name: str, bits: float) -> None:
    assert decode(8192, f"kv-quantization:format={name}").memory["kv"] == decode(8192).memory["kv"] * bits / 16


def test_long_contexts_gain_and_short_ones_do_not() -> None:
    gains = [decode(c).time_s / decode(c, "kv-quantization:format=int4").time_s for c in (128, 4096, 32768)]
    assert gains == sorted(gains)
    assert gains[0] < 1.05
    assert 1.5 < gains[-1] < 16 / 4.125


def test_a_mixture_lies_between_its_formats() -> None:
    high, low = (decode(32768, f"kv-quantization:format={f}") for f in ("int8", "int2"))
    mixed = decode(32768, "mixed-precision-kv:high=int8,low=int2,important=0.4")
    assert mixed.memory["kv"] == pytest.approx(0.4 * high.memory["kv"] + 0.6 * low.memory["kv"])
    assert low.time_s < mixed.time_s < high.time_s * 1.02


def test_ranking_tokens_costs_a_prompt_little() -> None:
    task = rp.Prefill(batch=1, prompt=16384)
    before, after = (
        rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=a).time_s
        for a in (["kv-quantization:format=int8"], ["mixed-precision-kv"])
    )
    assert before < after < 1.05 * before


def test_what_is_narrow_already_is_refused() -> None:
    with pytest.raises(RidgepointError, match="kept in int4 already"):
        rp.estimate("llama-3.1-8b", on="h100-sxm", plan=rp.Plan(kv="int4"), apply=["mixed-precision-kv"])


def test_why_it_does_not_apply_is_said_in_words() -> None:
    """A reason that names classes of the program tells a user nothing."""
    with pytest.raises(RidgepointError, match=r"mamba2-2\.7b has no softmax attention or latent attention"):
        rp.estimate("mamba2-2.7b", on="h100-sxm", task=rp.Decode(), apply=("kv-quantization",))
