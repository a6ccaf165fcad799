"""Techniques act in one order, however they are written (design §6)."""

from __future__ import annotations

from itertools import combinations

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.scenario import Scenario, scenario
from ridgepoint.techniques.order import STAGES, stage
from ridgepoint.techniques.registry import applied, techniques
from ridgepoint.techniques.technique import conflict

SCENARIOS = {
    "decode": scenario("llama-3.1-70b", "h100-sxm", rp.Decode(batch=8, context=4096)),
    "generate": scenario("mixtral-8x7b", "2xh100-sxm", rp.Generate(batch=4, prompt=2048, output=128), rp.Plan(tp=2)),
    "sample": scenario("sdxl", "rtx-4090", rp.Sample(batch=1)),
    "forward": scenario("vit_large_patch16_224", "a100-sxm-80gb", rp.Forward(batch=64)),
    "train": scenario("llama-3.1-8b", "8xh100-sxm", rp.Train(batch=16, seq=8192), rp.Plan(dp=8, zero_stage=1)),
}


def takers(given: Scenario) -> list[str]:
    return [t.name for t in techniques().values() if not t.cannot(given, t.values({}))]


def numbers(given: Scenario, *texts: str) -> tuple[float, ...]:
    """Time, energy and the ledger; nothing where the pair is refused."""
    try:
        est = rp.Estimate(applied(given, texts))
        return (float(est.time_s), float(est.energy_j or 0.0), *map(float, est.memory.entries.values()))
    except RidgepointError:
        return ()


# design §6: `a,b` and `b,a` are one question; two answers would make one of them silently wrong
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_order_of_writing_does_not_matter(name: str) -> None:
    given = SCENARIOS[name]
    known = techniques()
    pairs = [p for p in combinations(takers(given), 2) if not conflict(known[p[0]], known[p[1]])]
    for a, b in pairs[:: max(len(pairs) // 150, 1)]:
        assert numbers(given, a, b) == numbers(given, b, a), (a, b)


# the same one after the other: advice adds to what is applied already
def test_what_is_applied_later_still_acts_where_it_belongs() -> None:
    given = SCENARIOS["decode"]
    for first, then in (("weights-on-cpu", "unstructured-sparsity"), ("kv-offload", "token-eviction")):
        step_by_step = rp.Estimate(applied(applied(given, [first]), [then]))
        assert float(step_by_step.time_s) == pytest.approx(numbers(given, first, then)[0])


def test_everything_occupied_has_a_stage() -> None:
    """A thing without a stage would act with the kernels, whatever it is."""
    everything = frozenset().union(*STAGES)
    missing = {thing for t in techniques().values() for thing in t.occupies} - everything
    assert not missing
    assert sum(map(len, STAGES)) == len(everything)
    assert all(0 <= stage(t) < len(STAGES) for t in techniques().values())


# A technique that finds nothing left to act on must not shrink the ledger alone.
def test_what_has_no_effect_together_is_refused() -> None:
    given = SCENARIOS["decode"]
    for pair in (
        ("look-up-table-products", "unstructured-sparsity"),
        ("sliding-window", "chunked-attention"),
    ):
        with pytest.raises(RidgepointError, match="both change"):
            applied(given, pair)


def test_a_place_sees_what_the_other_techniques_left() -> None:
    """Weights that are half as large take half as long to come over the link, in whatever order that is said."""
    given = SCENARIOS["decode"]
    streamed, sparse = numbers(given, "weight-streaming"), numbers(given, "weight-streaming", "n-m-sparsity")
    assert sparse[0] < 0.7 * streamed[0]


def test_a_fused_pass_writes_nothing_and_the_product_before_it_is_sent() -> None:
    given = SCENARIOS["forward"]
    fused, plain = numbers(given, "epilogue-fusion", "split-computing"), numbers(given, "split-computing")
    assert fused[0] == pytest.approx(plain[0], rel=0.05)
