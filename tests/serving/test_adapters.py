"""Many adapters of one model on a replica (design §10)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.serving.adapters import NONE, Slots
from ridgepoint.serving.sequences import Active
from ridgepoint.serving.simulate import simulate_requests
from tests.serving.systems import bare, decoded, load, read


def _one(adapter: int) -> Active:
    one = Active(0, 1, 1, [])
    one.adapter = adapter
    return one


def test_slots_keep_the_adapters_used_last_and_load_each_when_it_is_not_there():
    """Against a list: ids in order of last use, of which running ones cannot go."""
    random = np.random.default_rng(0)
    slots, there, running, loads = Slots(4, 1.0), list[int](), list[Active](), 0
    for _ in range(500):
        if running and random.random() < 0.5:
            one = running.pop(int(random.integers(len(running))))
            slots.leave(one)
            if all(other.adapter != one.adapter for other in running):
                there.append(one.adapter)
            continue
        one = _one(int(random.integers(9)))
        used = {other.adapter for other in running}
        fits = one.adapter in used or one.adapter in there or len(used) + len(there) < 4 or bool(there)
        assert slots.has_room(one) == fits
        if not fits:
            continue
        slots.enter(one)
        if one.adapter in there:
            there.remove(one.adapter)
        elif one.adapter not in used:
            loads += 1
            if len(used) + len(there) == 4:
                there.pop(0)
        running.append(one)
        assert slots.different == len({other.adapter for other in running})
    assert slots.loaded == loads > 50


def test_a_request_without_adapter_pays_nothing():
    plain = simulate_requests(bare(), load(10.0, 100))
    none = simulate_requests(bare(adapters=rp.Adapters(10, share=0.0)), load(10.0, 100))
    assert np.array_equal(plain.columns["done_s"], none.columns["done_s"])
    assert np.all(none.columns["adapter"] == NONE)


def test_one_request_pays_its_load_and_the_products_of_its_adapter():
    """TTFT and TPOT grow by the copy and by what the cost engine says of the thin products; else they were dropped."""
    one = rp.Requests(np.zeros(1), np.array([1024]), np.array([129]), adapter=np.array([3]))
    plain = simulate_requests(bare(), one)
    system = bare(adapters=rp.Adapters(10, rank=64, slots=4))
    found = simulate_requests(system, one)
    passes = system.passes

    def extra(tokens: float) -> float:
        return float(evaluate(passes.adapting(tokens, 1.0, 64), passes.machine, strict=True).time_s)

    sides = (
        (4096 + 6144) + (4096 + 4096) + (4096 + 2 * 14336) + (14336 + 4096)
    )  # q, k, v are one product, gate and up too
    assert system.adapter_bytes == pytest.approx(64 * 2 * 32 * sides)
    assert found.ttft_s[0] - plain.ttft_s[0] == pytest.approx(system.adapter_load_s + extra(1024.0), rel=0.03)
    assert found.tpot_s[0] - plain.tpot_s[0] == pytest.approx(extra(1.0), rel=0.03)
    assert found.usage.critical_s["pcie"] == pytest.approx(system.adapter_load_s)


def test_tokens_are_conserved_whatever_waits_for_a_slot():
    requests = load(30.0, 300)
    found = simulate_requests(bare("2xh100-sxm", adapters=rp.Adapters(40, slots=2, skew=0.5)), requests)
    assert int(found.completed.sum()) == 300
    assert read(found) == requests.prompt.sum()
    assert decoded(found) == (requests.output - 1).sum()
    assert all(np.all(done.log["adapters"] <= 2) for done in found.actions)
    assert all(replica.load == 0 and replica.blocks.used == 0 for replica in found.replicas)


def test_more_slots_than_adapters_load_each_once_and_popular_ones_wait_less():
    requests = load(20.0, 600)
    many = simulate_requests(bare(adapters=rp.Adapters(20, slots=20)), requests)
    few = simulate_requests(bare(adapters=rp.Adapters(20, slots=3)), requests)
    slots = many.replicas[0].slots
    assert slots is not None
    assert slots.loaded == 20
    assert few.summary("ttft_s").p90 > many.summary("ttft_s").p90  # type: ignore[union-attr]
    real = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=load(1.0, 5), adapters=rp.Adapters(8, slots=8))
    free = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=load(1.0, 5))
    taken = (free.cache.blocks - real.cache.blocks) * free.cache.block * free.cache.token_bytes
    assert taken == pytest.approx(8 * real.deployment.adapter_bytes, rel=0.01)


def test_usage_still_sums_to_the_seconds():
    found = simulate_requests(bare(adapters=rp.Adapters(20, slots=3)), load(20.0, 200))
    assert sum(found.usage.critical_s.values()) == pytest.approx(sum(a.seconds for a in found.actions), rel=1e-9)


def test_popularity_follows_zipf():
    drawn = rp.Adapters(1000, skew=1.0).drawn(200_000, 0)
    counts = np.bincount(drawn, minlength=1000)
    assert counts[0] / counts[9] == pytest.approx(10.0, rel=0.1)


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"count": 3, "rank": 0}, {"count": 3, "skew": -1.0}, {"count": 3, "share": 2.0}]
)
def test_what_is_no_set_of_adapters_is_refused(wrong):
    with pytest.raises(rp.RidgepointError):
        rp.Adapters(**wrong)
