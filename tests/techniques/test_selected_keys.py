"""Keys that are kept and not read: where that pays, what the choice costs (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError


def decode(context: float, *apply: str) -> rp.Estimate:
    return rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=16, context=context), apply=apply)


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
