"""What the host does for every kernel (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp


def run(task, *apply, model="resnet50", machine="h100-sxm", plan=None):
    return rp.estimate(model, on=machine, task=task, plan=plan, apply=apply)


def test_graphs_help_small_batches_and_not_large_ones():
    """skip-tklqt: max(host, device); once the device is the slower one the host does not show."""
    for batch, low, high in ((1, 1.2, 5.0), (512, 1.0, 1.01)):
        gain = run(rp.Forward(batch=batch)).time_s / run(rp.Forward(batch=batch), "graph-capture").time_s
        assert low <= gain <= high


def test_captured_steps_and_hostless_machines_refuse():
    with pytest.raises(rp.RidgepointError, match="already"):
        run(rp.Decode(), "graph-capture", model="llama-3.1-8b")
    with pytest.raises(rp.RidgepointError, match="no host"):
        run(rp.Forward(), "graph-capture", machine="epyc-9654")


def test_a_small_network_alone_is_bound_by_its_host():
    """Launching one by one against one graph: the host's share vanishes (multimodal-gen-characterization)."""
    eager, graph = (run(rp.Forward(batch=1), *a) for a in ((), ("graph-capture",)))
    assert eager.bottleneck == "host"
    assert "host" not in graph.shares or graph.shares["host"] < 0.05


def test_dispatch_helps_until_the_device_is_the_slower_one():
    """time = max(kernels · dispatch, device): ever leaner runtimes end at the device."""
    task = rp.Forward(batch=1)
    times = [run(task, f"lean-dispatch:dispatch={s}").time_s for s in (3e-6, 1e-7, 1e-8)]
    assert run(task).time_s > times[0] >= times[1] == pytest.approx(times[2])
    assert times[1] == pytest.approx(run(task, "graph-capture").time_s, rel=0.05)
    with pytest.raises(rp.RidgepointError, match="already"):
        run(task, "lean-dispatch:dispatch=1")


def test_decoding_on_the_device_frees_the_host_and_costs_the_device():
    """beyond-inference: with few cores the host's decoding binds; the device does it in passing, for a price."""
    task = rp.Forward(batch=256)
    samples = run(task)
    host = run(task, "input-pipeline:workers=4,cached=1")
    device = run(task, "preprocessing-on-device:cached=1")
    assert host.bottleneck == "host"
    assert host.samples_per_s < device.samples_per_s < samples.samples_per_s


def test_storage_binds_where_nothing_is_cached():
    task = rp.Forward(batch=256)
    cold, warm = (run(task, f"preprocessing-on-device:stored=5e6,cached={c}") for c in (0, 1))
    assert cold.time_s > warm.time_s
