"""Offloaded states updated in two places (design §6)."""

from __future__ import annotations

import ridgepoint as rp


def run(share: float, on: str = "4xh100-sxm") -> float:
    task, plan = rp.Train(batch=4, seq=512), rp.Plan(zero_stage=3, recompute="full", offload_optimizer="host")
    found = rp.estimate("gpt-neox-20b", on=on, task=task, plan=plan, apply=[f"optimizer-interleaved:share={share}"])
    return float(found.time_s)


def test_the_best_share_lies_between():
    """All on the processor waits for the host's memory, all on the device for the link."""
    middle = min(run(s) for s in (0.2, 0.3, 0.4))
    assert middle < run(0.0)
    assert middle < run(1.0)


def test_a_faster_link_moves_more_to_the_device():
    def gain(on: str) -> float:
        return run(0.0, on) / run(1.0, on)

    assert gain("4xh100-sxm@host=400G") > gain("4xh100-sxm")
