"""Offloaded states updated in two places (design §6)."""

from __future__ import annotations

from typing import Any

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


def step(**plan: Any) -> rp.Estimate:
    full = rp.Plan(zero_stage=3, recompute="full", offload_optimizer="host", **plan)
    return rp.estimate("gpt-neox-20b", on="4xh100-sxm", task=rp.Train(batch=4, seq=512), plan=full)


def test_copies_that_block_are_converted_by_the_host_one_after_the_other():
    """PyTorch's Copy.cu: a blocking copy to another format is converted by the processor, from pageable memory. Without it
    the baseline of papers on offloading would overlap all that they set out to overlap."""
    plain, blocking = step(), step(blocking_offload=True)
    assert float(blocking.time_s) > 1.5 * float(plain.time_s)
    labels = {c.label: float(c.time_s) for c in blocking.cost.components}
    usual = {c.label: float(c.time_s) for c in plain.cost.components}
    assert labels["offload.gradients"] > 1.5 * usual["offload.gradients"], "pageable memory is slower"
    assert {"offload.gradients.conversion", "offload.weights.conversion"} <= set(labels)
    assert float(blocking.bound_s) >= float(plain.bound_s) > 0.0


def test_updating_a_part_on_the_device_converts_there():
    applied = rp.estimate(
        "gpt-neox-20b",
        on="4xh100-sxm",
        task=rp.Train(batch=4, seq=512),
        plan=rp.Plan(zero_stage=3, recompute="full", offload_optimizer="host", blocking_offload=True),
        apply=["optimizer-interleaved:share=0.5"],
    )
    assert not any(c.label.endswith("conversion") for c in applied.cost.components)
