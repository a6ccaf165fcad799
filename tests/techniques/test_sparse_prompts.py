"""Pairs that are not computed: long prompts and large images gain, the choice costs (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.techniques.sparse_prompts import visited_tiles


def prefill(prompt: float, *apply: str, machine: str = "h100-sxm") -> rp.Estimate:
    return rp.estimate("llama-3.1-8b", on=machine, task=rp.Prefill(batch=1, prompt=prompt), apply=apply)


def test_sparse_prompts_gain_with_their_length_only() -> None:
    gains = [prefill(n).time_s / prefill(n, "block-sparse-prefill").time_s for n in (4096, 16384, 65536, 131072)]
    assert gains == sorted(gains)
    assert gains[0] < 1.1


def test_all_blocks_cost_the_choice() -> None:
    assert prefill(32768, "block-sparse-prefill:visited=1").time_s > prefill(32768).time_s


def test_triangles_count_their_pairs() -> None:
    """L·(sinks + window) + last·L of L²/2 pairs in the sparse layers (trianglemix)."""

    def pairs(*apply: str) -> float:
        found = prefill(32768, *apply, machine="a100-sxm-80gb").cost.components
        return float(sum(c.flop for c in found if c.kind == "attention"))

    length, near, last = 32768.0, 1024.0 + 64.0, 128.0
    left = (length * near - near**2 / 2 + last * length) / (length**2 / 2)
    assert pairs("triangle-prefill:dense_layers=0") / pairs() == pytest.approx(left, rel=0.01)


def test_a_fixed_pattern_never_touches_decode() -> None:
    task = rp.Generate(batch=1, prompt=32768, output=64)
    before, after = (rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=a) for a in ([], ["triangle-prefill"]))
    assert after.tpot_s == pytest.approx(before.tpot_s)
    assert after.ttft_s is not None
    assert before.ttft_s is not None
    assert after.ttft_s < before.ttft_s


def test_windows_are_rounded_up_to_tiles() -> None:
    """Attainable speed-up is total over visited tiles (generalized-neighborhood-attention)."""
    assert visited_tiles(65536.0, 1000.0, 128.0) == 1152.0
    assert visited_tiles(65536.0, 1024.0, 128.0) == 1024.0


def test_neighbourhoods_gain_by_attentions_share() -> None:
    """88 % of attention's operations gone are 1.6 times the speed (ditfastattn): the rest stays."""

    def time(image_px: float, *apply: str) -> float:
        task = rp.Sample(batch=1, steps=20, image_px=image_px)
        return float(rp.estimate("dit-xl-2", on="a100-sxm-80gb", task=task, apply=apply).time_s)

    window = "neighborhood-attention:window=256"
    small, large = (time(px) / time(px, window) for px in (512, 2048))
    assert small < large
    assert time(2048, f"{window},dense_layers=0.5") > time(2048, f"{window}")
    assert time(2048, f"{window},steps_reused=0.5") < time(2048, f"{window}")
    assert time(2048, f"{window},compressed=16") > time(2048, f"{window}")
    assert time(2048, window) < time(2048, f"{window},permuted=true") < time(2048)


def test_tokens_in_the_order_of_tiles_cost_a_pass_over_each_tensor() -> None:
    """NATTEN's published profile of FLUX at 4,096 px on a B200: permuting adds about half to the kernel of a window of a
    tenth of the keys, which a technique without it would leave out.
    """
    task = rp.Sample(batch=1, steps=1, image_px=4096)
    window = "neighborhood-attention:window=6400,tile=128"
    plain, permuted = (
        {
            c.label: float(c.time_s)
            for c in rp.estimate("flux.1-dev", on="b200-sxm", task=task, apply=[name]).cost.components
        }
        for name in (window, f"{window},permuted=true")
    )
    moved = {label: t for label, t in permuted.items() if label.endswith(".permute")}
    kernels = sum(plain[label.removesuffix(".permute")] for label in moved)
    assert moved
    assert 0.1 < sum(moved.values()) / kernels < 0.8


def test_causal_attention_has_no_neighbourhood() -> None:
    with pytest.raises(RidgepointError, match="does not apply"):
        rp.estimate("llama-3.1-8b", on="h100-sxm", task="forward", apply=["neighborhood-attention"])


def test_tokens_that_choose_for_themselves_gain_less_than_blocks() -> None:
    """Each block of keys is read from the cache once per token and key head, and every token scores all blocks: the gain stays
    below the one over pairs, more so with fewer heads on a key (InfLLM-V2: 16 heads, 16 times fewer pairs, 4 times faster).
    """

    def seconds(model: str, *apply: str) -> float:
        task = rp.Prefill(batch=1, prompt=131072)
        parts = rp.estimate(model, on="h100-sxm", task=task, apply=apply).cost.components
        return sum(float(c.time_s) for c in parts if ".attention.attention" in c.label)

    tokens, blocks = ("block-sparse-prefill:visited=0.0625,block=64" + rows for rows in (",rows=1", ""))
    gains = {name: seconds(name) / seconds(name, tokens) for name in ("llama-3.1-8b", "qwen2.5-1.5b")}
    assert 0.0 < gains["llama-3.1-8b"] < seconds("llama-3.1-8b") / seconds("llama-3.1-8b", blocks)
    assert gains["llama-3.1-8b"] < 16.0
    assert max(gains.values()) < 8.0
