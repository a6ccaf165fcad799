"""Kernels nearer to the peak (design §6)."""

from __future__ import annotations

import pytest
from hypothesis import given as cases
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Stream
from ridgepoint.techniques.tile_kernels import transform_sizes


def run(model, task, *apply, machine):
    return rp.estimate(model, on=machine, task=task, apply=apply)


def test_stated_fractions_help_arithmetic_and_not_reading():
    """How much depends on what the machine's own kernels reach, which fits change; a decode step reads and gains nothing."""
    for task, low, high in ((rp.Prefill(batch=1, prompt=32768), 1.02, 1.5), (rp.Decode(batch=1), 0.999, 1.01)):
        plain, tiled = (run("llama-2-7b", task, *a, machine="mi300x").time_s for a in ((), ("tile-kernels",)))
        assert low < plain / tiled < high


def test_no_kernel_passes_its_bound_or_gets_worse():
    """The physical limit stays where it is; a lower figure than the machine reaches is refused."""
    task = rp.Prefill(batch=8, prompt=2048)
    plain, best = (
        run("llama-2-7b", task, *a, machine="h100-sxm") for a in ((), ("tile-kernels:products=1,attention=1",))
    )
    assert best.bound_s == pytest.approx(plain.bound_s)
    assert best.bound_s <= best.time_s < plain.time_s
    with pytest.raises(rp.RidgepointError, match="already"):
        run("llama-2-7b", task, "tile-kernels:products=0.3,attention=0.3", machine="h100-sxm")


def test_a_stated_figure_widens_the_interval():
    task = rp.Prefill(batch=8, prompt=2048)
    plain, tiled = (run("llama-2-7b", task, *a, machine="mi300x") for a in ((), ("tile-kernels",)))
    assert tiled.interval_s[1] / tiled.time_s >= plain.interval_s[1] / plain.time_s


@pytest.mark.parametrize("machine", ["h100-sxm", "rtx-a6000", "mi300x", "m2-ultra"])
def test_full_rate_machines_gain_nothing_from_narrow_accumulators(machine):
    with pytest.raises(rp.RidgepointError, match="full rate"):
        run("llama-3.1-8b", rp.Prefill(), "narrow-accumulators", machine=machine)


def test_geforce_doubles_products_but_not_reads():
    plain, narrow = (
        run("llama-3.1-8b", rp.Prefill(batch=4, prompt=4096), *a, machine="rtx-4090").time_s
        for a in ((), ("narrow-accumulators",))
    )
    assert 1.3 < plain / narrow <= 2.0
    rate = find_machine("rtx-4090").device.engines["matrix"].rates["fp16"]
    assert rate == pytest.approx(165.2e12), "the sheet holds the rate with wide accumulators"


@cases(st.integers(1, 10**6), st.sampled_from([64.0, 1024.0, 65536.0]), st.sampled_from([1.0, 2.0, 3.0]))
def test_sizes_of_transforms_are_recovered(count, points, passes):
    """What a recorded transform says is enough to rebuild it; a wrong N would give matrices of a wrong size."""
    import math

    values = float(count) * points
    op = Stream(read_bytes=passes * 4 * values, write_bytes=0.0, flop=2.5 * values * math.log2(points), launches=passes)
    found = transform_sizes(op)
    assert found[0] == pytest.approx(values)
    assert found[1] == pytest.approx(points, rel=1e-6)


def test_products_compute_more_and_move_less_than_transforms():
    """FlashFFTConv: N · p · N^(1/p) operations on the matrix engine, fused passes; gains come from traffic and engine."""
    task = rp.Forward(batch=1)
    plain, order2, order3, apart = (
        run("fourcastnet", task, *a, machine="h100-sxm")
        for a in (
            (),
            ("fft-on-matrix-engines",),
            ("fft-on-matrix-engines:order=3",),
            ("fft-on-matrix-engines:fused=false",),
        )
    )

    def of_fft(est, field):
        return sum(getattr(c, field) for c in est.cost.components if "fft" in c.label)

    assert of_fft(order2, "flop") > of_fft(plain, "flop")
    assert of_fft(order3, "flop") < of_fft(order2, "flop")
    assert of_fft(order2, "bytes") < of_fft(plain, "bytes")
    assert order2.time_s < apart.time_s
    assert order2.time_s < plain.time_s
