"""Caches behind the device's memory: links bind, memory is freed, near memory reads inside (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels import transfer
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Transfer
from ridgepoint.techniques.kv_tiers import with_tier


def decode(
    context: float, *apply: str, batch: float = 1, model: str = "llama-2-7b", machine: str = "rtx-4090"
) -> rp.Estimate:
    return rp.estimate(model, on=machine, task=rp.Decode(batch=batch, context=context), apply=apply)


def test_a_cache_in_host_memory_is_read_over_the_link() -> None:
    """7.8 s per hundred tokens: t = KV/PCIe (triforce's baseline: 60 GB over PCIe 4)."""
    away = decode(120000, "kv-offload")
    link = find_machine("rtx-4090").link("host")
    assert link is not None
    assert away.bottleneck == link[0]
    kv = decode(120000).memory["kv"]
    assert kv / float(link[1].bandwidth) < away.time_s < 1.6 * kv / float(link[1].bandwidth)


def test_moving_the_cache_out_makes_it_fit() -> None:
    assert not decode(32768).memory.fits
    away = decode(32768, "kv-offload").memory
    assert away.fits
    assert away["kv"] == 0.0
    assert away["kv_buffer"] == pytest.approx(decode(32768).memory["kv"] * 2 / 32)


def test_time_falls_with_what_stays() -> None:
    times = [decode(8192, f"kv-offload:resident={r}").time_s for r in (0.0, 0.5, 1.0)]
    assert times == sorted(times, reverse=True)


def test_reading_less_fetches_less() -> None:
    assert decode(32768, "page-selection", "kv-offload").time_s < 0.2 * decode(32768, "kv-offload").time_s


def test_storage_is_slower_than_the_host_and_waiting_slower_than_overlap() -> None:
    host, storage, apart = (
        decode(8192, f"kv-offload:{o}").time_s for o in ("tier=host", "tier=storage", "overlapped=false")
    )
    assert host < storage
    assert host < apart


def test_attention_inside_drives_scales_with_their_bandwidth() -> None:
    """Up to 11 times FlexGen's storage offload for 13 B on an A6000 (instinfer): internal over link bandwidth."""

    def tpot(apply: str) -> float:
        found = decode(8192, apply, batch=32, model="llama-2-13b", machine="a6000")
        return float(found.time_s)

    slow, fast = (tpot(f"near-memory-attention:bandwidth={b}") for b in (10, 40))
    assert 2.0 < slow / fast < 4.0
    assert fast < tpot("kv-offload:tier=storage")


def test_a_cache_that_does_not_fit_there_either_is_refused() -> None:
    with pytest.raises(RidgepointError, match="does not fit into 10 GB"):
        decode(32768, "near-memory-attention:capacity=10")


def test_a_tier_that_computes_hands_nothing_to_the_device() -> None:
    machine = with_tier(find_machine("rtx-4090"), "near", "near memory", 1e10, 1e12)
    op = Transfer(bytes=1e9, tier="near", direction="inside")
    assert settle(transfer.bound(op, machine)).time_s == pytest.approx(0.1)
    assert transfer.read_bytes(op) == transfer.write_bytes(op) == 0.0


def test_unknown_directions_are_refused() -> None:
    with pytest.raises(RidgepointError, match="unknown transfer direction"):
        transfer.bound(Transfer(bytes=1.0, direction="up"), find_machine("rtx-4090"))
