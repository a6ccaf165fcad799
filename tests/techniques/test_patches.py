"""Patch by patch (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.scenario import scenario
from ridgepoint.techniques.patches import cut
from ridgepoint.techniques.products import summed


def run(*apply, model="mobilenetv2_100", machine="stm32h743"):
    return rp.estimate(model, on=machine, task=rp.Forward(batch=1), apply=apply)


@pytest.mark.parametrize("model", ["resnet50", "vit_large_patch16_224", "mobilenetv2_100"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_a_cut_loses_nothing(model, share):
    """Head and tail together run every op as often as before."""
    work = scenario(model, "h100-sxm", rp.Forward()).build().phases[0].work
    head, tail = cut(work, share)
    assert summed(head, lambda _: 1.0) + summed(tail, lambda _: 1.0) == pytest.approx(summed(work, lambda _: 1.0))


def test_memory_falls_as_mcunetv2_reports():
    """Peak memory 4 to 8 times lower, when the early layers hold the peak and run in patches."""
    ratio = run().memory["activations"] / run("patch-inference:patches=4,share=0.5").memory["activations"]
    assert 4.0 < ratio < 12.0


def test_patches_recompute_borders():
    few, many = (run(f"patch-inference:share=0.5,halo={h}").time_s for h in (0.0, 0.5))
    assert run().time_s < few < many


def test_networks_without_convolutions_refuse():
    with pytest.raises(rp.RidgepointError, match="no convolutions"):
        run("patch-inference", model="lstm-ptb-medium", machine="h100-sxm")
