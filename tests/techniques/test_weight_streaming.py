"""Inference with weights in host memory or storage (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.machines.catalog import find_machine
from ridgepoint.techniques.weight_streaming import balanced_share, depth, layers_bytes

ONE = rp.Decode(batch=1, context=512)


def run(*apply: str, task=ONE, model: str = "opt-30b", on: str = "desktop-rtx-4090") -> rp.Estimate:
    return rp.estimate(model, on=on, task=task, apply=apply)


def test_a_step_waits_for_the_layers_bytes():
    """59 GB over PCIe 4: more than two seconds a token, whatever the device computes."""
    found, whole = run("weight-streaming"), run()
    size = layers_bytes(whole.built, whole.scenario)
    assert found.time_s == pytest.approx(size / 25e9, rel=0.15)
    assert found.shares["pcie"] > 0.9


def test_what_is_resident_is_not_fetched():
    times = [run(f"weight-streaming:resident={r}").time_s for r in (0.0, 0.5, 1.0)]
    assert times[0] == pytest.approx(2.0 * times[1], rel=0.05)
    assert times[2] == pytest.approx(run().time_s)


def test_memory_holds_the_window_and_what_is_resident():
    two, four = (run(f"weight-streaming:window={w}") for w in (2, 4))
    whole = run()
    layer = layers_bytes(whole.built, whole.scenario) / float(depth(whole.built, whole.scenario))
    assert four.memory["weights"] - two.memory["weights"] == pytest.approx(2 * layer, rel=0.01)
    assert run("weight-streaming:window=1000").memory["weights"] == pytest.approx(run().memory["weights"])


def test_long_prompts_hide_the_link_and_overlap_takes_the_longer():
    task = rp.Prefill(batch=8, prompt=2048)
    free, beside, apart = (
        run(*a, task=task) for a in ((), ("weight-streaming",), ("weight-streaming:overlapped=false",))
    )
    assert beside.time_s == pytest.approx(free.time_s, rel=0.02)
    assert apart.time_s > beside.time_s


def test_loaders_share_the_unpacking_until_the_drive_binds():
    """Where one process unpacks 0.5 GB/s, two are twice as fast; the drive's rate ends it."""

    def at(loaders: int) -> float:
        name = f"weight-streaming:tier=storage,unpacked=5e8,loaders={loaders}"
        return float(
            run(name, model="vit_large_patch16_224", on="i9-10940x@storage=2G", task=rp.Forward(batch=1)).time_s
        )

    assert at(1) / at(2) == pytest.approx(2.0, rel=0.02)
    assert at(8) == pytest.approx(at(16), rel=0.05)


def test_networks_stream_too_and_a_processor_reads_storage():
    found = run(
        "weight-streaming:tier=storage", model="vit_large_patch16_224", on="i9-10940x", task=rp.Forward(batch=1)
    )
    assert (
        found.memory["weights"]
        < 0.2 * run(model="vit_large_patch16_224", on="i9-10940x", task=rp.Forward()).memory["weights"]
    )


def test_the_balanced_share_ends_together():
    """Neither more nor less on the processor is quicker."""
    best = balanced_share(find_machine("desktop-rtx-4090"))
    times = {s: run(f"weights-on-cpu:share={s}").time_s for s in (best - 0.15, best, best + 0.15)}
    assert min(times, key=times.__getitem__) == best
    assert run("weights-on-cpu").time_s == pytest.approx(times[best], rel=0.02)


def test_with_nothing_on_the_processor_it_is_streaming():
    assert run("weights-on-cpu:share=0").time_s == pytest.approx(run("weight-streaming").time_s, rel=0.02)
