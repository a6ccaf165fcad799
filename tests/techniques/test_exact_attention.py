"""Better kernels for the same attention: what moves less, what stays (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError

APART = rp.Plan(fused_attention=False)


def test_fusing_is_what_the_plan_says() -> None:
    task = rp.Prefill(batch=4, prompt=1024)
    fused = rp.estimate("gpt2-xl", on="a100-sxm-80gb", task=task, plan=APART, apply=["fused-attention"])
    assert fused.time_s == rp.estimate("gpt2-xl", on="a100-sxm-80gb", task=task).time_s


def test_fusing_twice_is_refused() -> None:
    with pytest.raises(RidgepointError, match="one fused kernel already"):
        rp.estimate("gpt2-xl", on="a100-sxm-80gb", apply=["fused-attention"])


def test_fused_training_keeps_no_scores() -> None:
    """The memory of scores grows with the square of the length (flashattention)."""
    task = rp.Train(batch=8, seq=1024)
    before, after = (
        rp.estimate("gpt2-xl", on="a100-sxm-80gb", task=task, plan=APART, apply=a).memory["activations"]
        for a in ([], ["fused-attention"])
    )
    assert before > 1.5 * after


def test_scores_no_longer_move() -> None:
    """Traffic of separate kernels over that of one grows with L/d (attention-io-complexity)."""

    def moved(prompt: float, *apply: str) -> float:
        task = rp.Prefill(batch=1, prompt=prompt)
        parts = rp.estimate("gpt2-xl", on="a100-sxm-80gb", task=task, plan=APART, apply=apply).cost.components
        return float(sum(c.bytes for c in parts if ".attention.attention" in c.label))

    ratios = [moved(n) / moved(n, "fused-attention") for n in (256, 512, 1024)]
    assert ratios == sorted(ratios)
    assert ratios[-1] > 15.0


def test_eight_bits_need_their_arithmetic() -> None:
    with pytest.raises(RidgepointError, match="no fp8 arithmetic"):
        rp.estimate("llama-3.1-8b", on="a100-sxm-80gb", task=rp.Prefill(prompt=8192), apply=["eight-bit-attention"])


def test_eight_bits_help_long_prompts_and_leave_decode() -> None:
    def run(prompt: float, *apply: str) -> rp.Estimate:
        task = rp.Generate(batch=1, prompt=prompt, output=8)
        return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply)

    short, long = (run(n).ttft_s / run(n, "eight-bit-attention").ttft_s for n in (2048, 131072))
    assert short < 1.05 < long < 2.0
    assert run(8192, "eight-bit-attention").tpot_s == pytest.approx(run(8192).tpot_s)


def test_a_decode_step_has_nothing_to_gain() -> None:
    with pytest.raises(RidgepointError, match="no attention over new tokens"):
        rp.estimate("llama-3.1-8b", on="h100-sxm", task="decode", apply=["eight-bit-attention"])


def test_even_shares_pay_where_whole_parts_do_not_fit() -> None:
    """Decode attention at long contexts: most with few heads (lean-attention)."""

    def attention(context: float, *apply: str) -> float:
        task = rp.Decode(batch=1, context=context)
        parts = rp.estimate("llama-3.1-8b", on="a100-sxm-80gb", task=task, apply=apply).cost.components
        return float(sum(c.critical_s for c in parts if c.kind == "attention"))

    for context in (4096, 65536):
        even, usual, whole = (
            attention(context, *a) for a in (("even-context-split",), (), ("even-context-split:how=none",))
        )
        assert even <= usual <= whole
    assert whole / even > 5.0
