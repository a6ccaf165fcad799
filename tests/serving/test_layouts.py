"""What a search for serving layouts tries (issue 10: tp, pp, ep, dp attention, formats, disaggregated ratios)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.serving.layouts import Choice, choices, formats

DENSE, EXPERTS = find_model("llama-3.1-8b"), find_model("deepseek-v3")


def degrees(found: Iterable[Choice]) -> set[tuple[Any, ...]]:
    return {(c.plan.tp, c.plan.pp, c.plan.dp, c.plan.ep) for c in found if not c.readers}


def test_every_choice_fills_its_devices_and_none_exceeds_the_node():
    for model in (DENSE, EXPERTS):
        for choice in choices(model, rp.Plan(), 8):
            spread = [float(degree or 1.0) for degree in (choice.plan.tp, choice.plan.pp, choice.plan.dp)]
            assert np.prod(spread) == (choice.group if choice.readers else choice.devices)
            assert choice.group <= 8


def test_dense_models_get_pipelines_and_experts_get_data_parallel_attention():
    assert {(4.0, 2.0, 1.0, 1.0), (2.0, 4.0, 1.0, 1.0), (8.0, 1.0, 1.0, 1.0)} <= degrees(choices(DENSE, rp.Plan(), 8))
    assert all(ep == 1.0 for *_, ep in degrees(choices(DENSE, rp.Plan(), 8)))
    assert {(1.0, 1.0, 8.0, 8.0), (2.0, 1.0, 4.0, 8.0), (8.0, 1.0, 1.0, 8.0)} <= degrees(choices(EXPERTS, rp.Plan(), 8))


def test_stages_divide_the_layers_evenly():
    """61 layers of DeepSeek-V3 are no whole parts of 2 or 4 stages."""
    assert {pp for _, pp, *_ in degrees(choices(EXPERTS, rp.Plan(), 8))} == {1.0}


def test_pools_come_in_ratios_and_can_be_left_out():
    found = {(c.readers, c.decoders) for c in choices(DENSE, rp.Plan(), 4) if c.devices == 1}
    assert found == {(0, 1), (1, 1), (1, 2), (2, 1), (1, 3), (3, 1)}
    assert all(not c.readers for c in choices(DENSE, rp.Plan(), 8, splits=False))


def test_what_the_plan_says_is_kept():
    assert {c.plan.tp for c in choices(DENSE, rp.Plan(tp=2.0), 8)} == {2.0}
    assert {c.plan.pp for c in choices(DENSE, rp.Plan(pp=2.0), 8)} == {2.0}


def test_formats_are_those_that_a_machine_computes_in():
    """An A100 has no 8-bit floating point: weights alone are narrow there."""
    hopper, ampere = (formats(rp.Plan(), ("fp8", "fp8+kv8"), find_machine(m)) for m in ("h100-sxm", "a100-sxm-80gb"))
    assert [(p.weights, p.acts, p.kv) for p in hopper] == [("fp8", "fp8", None), ("fp8", "fp8", "fp8")]
    assert [(p.weights, p.acts) for p in ampere] == [("fp8", "bf16"), ("fp8", "bf16")]
    assert formats(rp.Plan(kv="fp8"), ("given", "given"), find_machine("h100-sxm")) == [rp.Plan(kv="fp8")]
    with pytest.raises(rp.RidgepointError, match="unknown choice of formats 'fp9'") as refused:
        formats(rp.Plan(), ("fp9",), find_machine("h100-sxm"))
    assert "fp8" in refused.value.hint
