"""Gathered weights, buckets, workspaces and channels in the ledger of a training step (design §3)."""

from typing import Any

import numpy as np
import pytest

from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.models.parameters import total_parameters
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.buffers import CHANNEL_BYTES
from ridgepoint.tasks.build import build

VOCAB, HIDDEN, LAYERS = 128256, 4096, 32
LAYER = (total_parameters(find_model("llama-3.1-8b")) - 2 * VOCAB * HIDDEN) / LAYERS


def entries(
    model: str = "llama-3.1-8b", batch: float = 64, seq: float = 4096, on: str = "8xh100-sxm", **plan: Any
) -> Any:
    found = build(find_model(model), find_machine(on), Train(batch=batch, seq=seq), Plan(**{"weights": "bf16", **plan}))
    return found.ledger.entries


def test_whole_weights_are_two_layers_and_both_tables():
    """Zhao et al. 2023: the unit in work and the one gathered ahead; the root unit stays whole; own shards are weights."""
    whole = 2.0 * (2 * VOCAB * HIDDEN + 2 * LAYER)
    assert entries(zero_stage=3)["gathered weights"] == pytest.approx(whole * 7 / 8, rel=1e-3)
    assert entries(zero_stage=3, shard_group=4)["gathered weights"] == pytest.approx(whole * 3 / 4, rel=1e-3)
    for nothing in ({"zero_stage": 2}, {"zero_stage": 3, "dp": 1.0}, {"zero_stage": 3, "offload_params": "host"}):
        assert entries(**nothing).get("gathered weights", 0.0) == 0.0


def test_a_stage_of_a_pipeline_gathers_its_own_table():
    last = entries(
        zero_stage=3, pp=2, micro_batch=8
    )  # the last: its logits are larger than a micro-batch's activations
    assert last["gathered weights"] == pytest.approx(2.0 * (VOCAB * HIDDEN + 2 * LAYER) * 3 / 4, rel=1e-3)


def test_buckets_hold_a_layers_gradients_twice_where_nothing_larger_was_there_before():
    """Short sequences have small logits: then a layer's gradients, as computed and as sent, come on top."""
    short: dict[str, Any] = {"batch": 8, "seq": 16}
    assert entries(zero_stage=3, **short)["gradient buckets"] == pytest.approx(
        4 * LAYER * 7 / 8
        + entries(**short)["workspace"]
        - entries(zero_stage=3, **short)["workspace"]
        - max(entries(**short)["logits"], 0.0),
        rel=0.02,
    )
    assert "gradient buckets" not in entries(zero_stage=1, **short)
    assert "gradient buckets" not in entries(zero_stage=3, trainable="lora", **short)


def test_what_a_layer_works_in_is_less_than_the_logits_before_it():
    """128,256 columns of logits in 16 and 32 bits are gone when the layers run backward; a stage without them needs its own."""
    assert entries()["workspace"] == 0.0
    first = entries(pp=4, tp=2)
    assert first["logits"] == 0.0
    inner = 14336 / 2
    assert first["workspace"] == 2.0 * 4096 * 3 * inner  # the activation: gradients of gate, up and their product


def test_tokens_of_other_ranks_experts_lie_in_two_buffers():
    alone, exchanged = (entries("qwen3-30b-a3b", pp=4, dp=2, micro_batch=1, ep=ep)["workspace"] for ep in (1, 2))
    assert exchanged >= alone


def test_every_group_has_its_channels():
    """NCCL's defaults: 9.6 MB a channel; 15 % of 132 multiprocessors are 20 channels."""
    one = 20 * CHANNEL_BYTES
    assert entries(dp=8)["communication"] == one
    assert entries(dp=4, tp=2)["communication"] == 2 * one
    assert "communication" not in entries(dp=1, on="h100-sxm")
    assert "communication" not in entries(dp=8, communication_share=0.0)
    assert "communication" not in entries("llama-3.2-1b", dp=4, on="4xtpu-v5e")


def test_buffers_of_a_sweep_are_those_of_its_points():
    """scalar ≡ array over stages of ZeRO and pipeline (design §2)."""
    stages = np.array([0.0, 1.0, 2.0, 3.0, 3.0])
    pps = np.array([1.0, 2.0, 1.0, 1.0, 4.0])
    both = entries(zero_stage=stages, pp=pps, dp=2.0)
    for i, (zero, pp) in enumerate(zip(stages, pps, strict=True)):
        one = entries(zero_stage=float(zero), pp=float(pp), dp=2.0)
        for name in both:
            assert float(np.broadcast_to(both[name], stages.shape)[i]) == pytest.approx(float(one.get(name, 0.0))), name
