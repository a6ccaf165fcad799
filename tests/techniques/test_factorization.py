"""Factored matrices: weights by formula, the rank where nothing is saved, the cost of small blocks (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.techniques.factorization import FORMS, low_rank_share

LONG = rp.Prefill(batch=1, prompt=4096)
LAYER = {"attention": [(3 * 4096, 4096), (4096, 4096)], "feed": [(2 * 11008, 4096), (4096, 11008)]}
TABLES = 2 * 32000 * 4096 + 64 * 4096


def weights(*apply: str) -> float:
    return float(rp.estimate("llama-2-7b", on="h100-sxm", task=LONG, apply=apply).memory["weights"]) / 2.0


def matrices() -> list[tuple[float, float]]:
    return [(float(n), float(k)) for part in LAYER.values() for n, k in part]


@pytest.mark.parametrize("share", [0.125, 0.25, 0.5])
def test_low_rank_weights_are_those_of_the_formula(share: float) -> None:
    expected = 32 * sum(min(n, k) * share * (n + k) for n, k in matrices())
    assert weights(f"low-rank-weights:rank={share}") == pytest.approx(expected + TABLES, rel=1e-6)


def test_a_square_matrix_saves_below_half_its_rank() -> None:
    """r < nk/(n + k) (unified-lowrank-ctr)."""
    assert low_rank_share(1000.0, 1000.0, 499.0) < 1.0 < low_rank_share(1000.0, 1000.0, 501.0)


def test_structured_weights_are_those_of_the_formulas() -> None:
    btt = 32 * sum(2.0 * (k * n**0.5 + n * k**0.5) for n, k in matrices())
    monarch = 32 * sum(min(n, k) * (n + k) / 8.0 for n, k in matrices())
    diagonal = 32 * sum(n * k / 8.0 for n, k in matrices())
    assert weights("structured-matrices:form=btt,rank=2") == pytest.approx(btt + TABLES, rel=1e-6)
    assert weights("structured-matrices:form=monarch,blocks=8") == pytest.approx(monarch + TABLES, rel=1e-6)
    assert weights("structured-matrices:form=block-diagonal,blocks=8") == pytest.approx(diagonal + TABLES, rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_operations_fall_more_than_time(form: str) -> None:
    """Small blocks run below the rate of large products (btt-compute-better-spent)."""
    before, after = (
        rp.estimate("llama-2-7b", on="h100-sxm", task=LONG, apply=a) for a in ([], [f"structured-matrices:form={form}"])
    )
    operations = sum(before.cost.flop.values()) / sum(after.cost.flop.values())
    assert before.time_s / after.time_s < operations


def test_a_permutation_of_its_own_costs() -> None:
    apart, fused = (
        rp.estimate(
            "llama-2-7b", on="h100-sxm", task=LONG, apply=[f"structured-matrices:form=monarch,fused={flag}"]
        ).time_s
        for flag in ("false", "true")
    )
    assert apart > fused
