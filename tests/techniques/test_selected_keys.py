"""Keys that are kept and not read, pairs that are not computed: where that pays, what the choice costs (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.techniques.selected_keys import visited_tiles


def decode(context: float, *apply: str) -> rp.Estimate:
    return rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=16, context=context), apply=apply)


def prefill(prompt: float, *apply: str, machine: str = "h100-sxm") -> rp.Estimate:
    return rp.estimate("llama-3.1-8b", on=machine, task=rp.Prefill(batch=1, prompt=prompt), apply=apply)


def test_selection_reads_less_and_keeps_everything() -> None:
    before, after = decode(32768), decode(32768, "page-selection:page=64")
    assert after.time_s < before.time_s
    assert after.memory["kv"] == pytest.approx(before.memory["kv"] * (1 + 2 / 128))


def test_within_the_budget_dense_attention_is_used() -> None:
    with pytest.raises(RidgepointError, match="within the budget"):
        decode(2048, "page-selection:budget=2048")


def test_the_selector_grows_with_the_context_and_shrinks_with_the_page() -> None:
    def selecting(context: float, page: float) -> float:
        parts = decode(context, f"page-selection:page={page}").cost.components
        return float(sum(c.critical_s for c in parts if "select" in c.label))

    assert selecting(65536, 16) > selecting(32768, 16) > selecting(32768, 128)
    shared = decode(32768, "page-selection:reused=8")
    assert shared.time_s < decode(32768, "page-selection").time_s


def test_recycled_steps_lie_between_full_and_selected_ones() -> None:
    """Mean keys read are (L + (S − 1)K)/S (recycled-attention)."""
    full, sparse = decode(32768).time_s, decode(32768, "recycled-attention:stride=1000000").time_s
    for stride in (2, 8, 32):
        mean = decode(32768, f"recycled-attention:stride={stride}").time_s
        assert mean > (full + (stride - 1) * sparse) / stride * 0.999
        assert mean < full + full / stride


def test_sparse_prompts_gain_with_their_length_only() -> None:
    gains = [prefill(n).time_s / prefill(n, "block-sparse-prefill").time_s for n in (4096, 16384, 65536, 131072)]
    assert gains == sorted(gains)
    assert gains[0] < 1.05


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


def test_causal_attention_has_no_neighbourhood() -> None:
    with pytest.raises(RidgepointError, match="does not apply"):
        rp.estimate("llama-3.1-8b", on="h100-sxm", task="forward", apply=["neighborhood-attention"])
