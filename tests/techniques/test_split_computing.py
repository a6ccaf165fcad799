"""A network divided between a device and a server (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp

LOCAL = "jetson-nano"


def run(*apply, model="resnet152"):
    return rp.estimate(model, on=LOCAL, task=rp.Forward(batch=1), apply=apply)


def split(**values):
    return run("split-computing:" + ",".join(f"{k}={v}" for k, v in values.items()))


def test_everything_local_is_the_local_run():
    est = split(share=1)
    assert est.time_s == pytest.approx(run().time_s)
    assert est.memory["weights"] == run().memory["weights"]


def test_everything_away_is_message_and_server():
    """device head 0 + bytes/uplink + round trip + tail/server: the formula of BottleFit and SC2."""
    server = rp.estimate("resnet152", on="a100-sxm-80gb", task=rp.Forward(batch=1)).time_s
    est = split(share=0, compression=1, uplink=1e6, round_trip=0.02)
    assert est.time_s == pytest.approx(3 * 224**2 / 1e6 + 0.02 + server, rel=1e-6)
    assert est.memory["weights"] == 0.0


def test_the_best_cut_depends_on_the_network():
    """Fast networks offload early, slow ones stay local; compression moves the crossing."""
    fast, slow = ([split(share=s, uplink=u, compression=0.05).time_s for s in (0, 0.5, 1)] for u in (1e8, 1e3))
    assert fast[0] == min(fast)
    assert slow[2] == min(slow)
    assert split(share=0.3, uplink=1e5, compression=0.01).time_s < split(share=0.3, uplink=1e5, compression=1).time_s


def test_the_server_is_said():
    assert any("a100-sxm-80gb" in line for line in split().assumptions)
    with pytest.raises(rp.RidgepointError, match="unknown machine"):
        split(server="no-such-machine")
