"""Embedding and head that tensor parallelism leaves whole (TPI-LLM's first device; DeepSpeed's automatic sharding)."""

from __future__ import annotations

from typing import Any

import pytest

import ridgepoint as rp


def run(**plan: Any) -> rp.Estimate:
    task = rp.Decode(batch=1, context=512)
    return rp.estimate("llama-3-8b", on="8xh100-sxm", task=task, plan=rp.Plan(tp=8, **plan))


def test_a_whole_table_weighs_what_all_its_parts_do():
    table = 128256 * 4096 * 2.0
    more = float(run(whole_tables=True).memory["weights"]) - float(run().memory["weights"])
    assert more == pytest.approx(2.0 * table * 7.0 / 8.0, rel=1e-6)


def test_its_logits_are_not_gathered_and_cost_a_whole_product():
    def labels(est: rp.Estimate) -> dict[str, float]:
        return {c.label: float(c.flop) for c in est.cost.components}

    divided, whole = labels(run()), labels(run(whole_tables=True))
    assert "head.gather" in divided
    assert "head.gather" not in whole
    assert whole["head.logits"] == pytest.approx(8.0 * divided["head.logits"])


def test_on_one_device_nothing_changes():
    one, other = (
        float(rp.estimate("llama-3-8b", on="h100-sxm", task=rp.Decode(), plan=rp.Plan(whole_tables=w)).time_s)
        for w in (False, True)
    )
    assert one == other
