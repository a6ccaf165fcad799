"""Prefixes that fall to host memory and disks and are fetched from there (design §10)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.serving.tiers import Below, Way, ways
from tests.serving.systems import bare, read


def test_below_is_a_stack_of_least_recently_used_lists():
    """Against lists that are searched from one end: were the order or the overflow wrong, other blocks would be left."""

    @settings(max_examples=60)
    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=80), st.integers(1, 4), st.integers(1, 5))
    def check(moves, first, second):
        below = Below((Way("host", first, 0.0, 0.0), Way("storage", second, 0.0, 0.0)), 1)
        tiers: list[list[int]] = [[], []]  # oldest first
        for spills, name in moves:
            if spills:
                below.spill(name)
                falling: int | None = name
                for tier, size in zip(tiers, (first, second), strict=True):
                    if falling in tier:
                        tier.remove(falling)
                    tier.append(falling)  # type: ignore[arg-type]
                    falling = tier.pop(0) if len(tier) > size else None
                    if falling is None:
                        break
            elif below.leading([name]):
                below.fetch([name], 0.0)
                tier = tiers[0] if name in tiers[0] else tiers[1]
                tier.remove(name)
                tier.append(name)
            for other in range(13):
                assert below.leading([other]) == int(other in tiers[0] or other in tiers[1])

    check()


def test_one_fetch_takes_its_bytes_over_the_link():
    """A second turn whose history was evicted waits for the transfer and reads only what is new."""
    system = bare(blocks=80, tiers=rp.CacheTiers(host_bytes=1e11))
    ids = np.array([*range(15), *range(100, 117), *range(15)])
    turns = rp.Requests(
        np.array([0.0, 10.0, 20.0]),
        np.array([960, 1100, 1010]),
        np.array([8, 8, 8]),
        ids,
        np.array([0, 15, 32, 47]),
        64,
    )
    found = simulate_requests(system, turns)
    assert found.columns["fetched_tokens"].tolist() == [0, 0, 832]
    assert found.columns["cached_tokens"].tolist() == [0, 0, 960]  # two blocks of 64 were still on the device
    assert read(found) == 960 + 1100 + 50
    (way,) = ways(system, found.cache, 64)
    link = system.machine.link("host")
    assert link is not None
    assert way.token_s == pytest.approx(found.cache.token_bytes / link[1].bandwidth, rel=0.3)
    alone = simulate_requests(bare(), rp.Requests(np.zeros(1), np.array([1010]), np.array([8])))
    waited = 832 * way.token_s + way.start_s
    assert waited < found.ttft_s[2] < waited + alone.ttft_s[0]
    assert found.ttft_s[2] >= waited


def test_a_tier_keeps_what_the_device_cannot_and_never_invents_a_hit():
    turns = rp.session_requests(0.5, 300, "300", "80", turns=6, think_s=20.0)
    runs = {
        name: simulate_requests(bare(blocks=blocks, tiers=tiers), turns)
        for name, blocks, tiers in (
            ("large", None, None), ("small", 1200, None), ("host", 1200, rp.CacheTiers(1e12)),
            ("disk", 1200, rp.CacheTiers(0.0, 1e12)), ("both", 1200, rp.CacheTiers(2e8, 1e12)),
        )
    }  # fmt: skip
    hits = {name: int(found.columns["cached_tokens"].sum()) for name, found in runs.items()}
    assert hits["small"] < 0.8 * hits["host"]
    assert hits["host"] == pytest.approx(hits["large"], rel=0.01)
    assert hits["both"] == pytest.approx(hits["host"], rel=0.01)
    for name in ("host", "disk", "both"):
        found = runs[name]
        assert not found.put_back
        assert read(found) + found.columns["cached_tokens"].sum() == turns.prompt.sum()
        assert sum(found.fetched.values()) == found.columns["fetched_tokens"].sum() > 0
        assert all(replica.blocks.used == 0 for replica in found.replicas)
    assert runs["both"].fetched["host"] > 0 < runs["both"].fetched["storage"]
    p50 = {name: found.summary("ttft_s").p50 for name, found in runs.items()}  # type: ignore[union-attr]
    assert p50["large"] <= p50["host"] < p50["disk"]


@pytest.mark.parametrize(
    ("machine", "tiers", "kind"),
    [
        ("h100-sxm", {"host_bytes": 1e15}, "bad_tiers"),
        ("h100-sxm", {"storage_bytes": 1e15}, "bad_tiers"),
        ("h100-sxm", {"host_bytes": -1.0}, "bad_tiers"),
    ],
)
def test_more_than_the_machine_has_is_refused(machine, tiers, kind):
    turns = rp.session_requests(1.0, 5, "300", "20", turns=2, think_s=1.0)
    with pytest.raises(rp.RidgepointError) as refused:
        rp.simulate("llama-3.1-8b", on=machine, requests=turns, tiers=rp.CacheTiers(**tiers))
    assert refused.value.kind == kind
