"""One optimizer step: micro-batches, stages, gradients, ZeRO (design §1)."""

from typing import Any

import numpy as np
import pytest

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.rules import BOUND
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.models.networks.catalog import find_network
from ridgepoint.models.parameters import parameters, total_parameters
from ridgepoint.ops import Collective
from ridgepoint.plan import Plan
from ridgepoint.tasks import Forward, Train
from ridgepoint.tasks.build import build
from ridgepoint.tasks.layout import Layout
from ridgepoint.tasks.training import micro_batch
from ridgepoint.tasks.updates import Trained
from ridgepoint.work import Overlap, Pipeline, ops, walk
from tests.models.parts import CLUSTER, built, components, flop

STEP = Train(batch=16, seq=256)
LONG = Train(batch=16, seq=4096)
"""Passes that take longer than what replicas exchange."""
PARAMETERS = total_parameters(find_model("llama-3.1-8b"))


@pytest.mark.parametrize(
    ("batch", "dp", "micro", "size", "count"),
    [(16, 1, None, 1, 16), (16, 4, 2, 2, 2), (16, 4, 8, 4, 1), (10, 4, 2, 2, 2)],
)
def test_micro_batches_of_the_busiest_replica(batch, dp, micro, size, count):
    plan = Plan(micro_batch=micro) if micro else Plan()
    assert micro_batch(Train(batch=batch), plan, Layout(1.0, 1.0, float(dp), 1.0, 1.0)) == (size, count)


def test_a_step_is_all_its_micro_batches():
    one, whole = built("llama-3.1-8b", Forward(batch=1, seq=256)).device, built("llama-3.1-8b", STEP).device
    assert flop(whole, "gemm") == pytest.approx(16 * 3 * flop(one, "gemm"))
    for plan in ({"dp": 4}, {"micro_batch": 4}, {"tp": 4}, {"cp": 4}, {"pp": 4}):
        parts = next(iter(plan.values())) if "micro_batch" not in plan else 1
        found = flop(built("llama-3.1-8b", STEP, **plan).device, "gemm")
        assert found == pytest.approx(flop(whole, "gemm") / parts, rel=1e-6), plan


@pytest.mark.parametrize("name", ["bert-large", "t5-large", "gpt2-xl"])
def test_stages_share_encoders_too(name):
    """The mean work of a device: an encoder on the first stage alone would leave the others idle."""
    one, four = (built(name, STEP, pp=n).device for n in (1, 4))
    assert flop(four, "gemm") == pytest.approx(flop(one, "gemm") / 4, rel=1e-6)
    (pipeline,) = (n for n in walk(four) if isinstance(n, Pipeline))
    first, middle, last = (flop(stage.forward, "gemm") for stage in pipeline.stages)
    assert first == middle <= last


def test_the_optimizer_reads_and_writes_its_states_once():
    """Adam: fp32 master weights, two moments; gradients read, 16-bit weights written."""
    step = components(built("llama-3.1-8b", STEP).device)["optimizer"]
    assert step.bytes == pytest.approx(PARAMETERS * ((12 + 4) + (12 + 2)), rel=2e-3)
    shard = components(built("llama-3.1-8b", STEP, dp=8, zero_stage=1).device)["optimizer"]
    assert shard.bytes == pytest.approx(step.bytes / 8)
    assert "optimizer" not in components(built("llama-3.1-8b", STEP, optimizer="none").device)


def collectives(**plan: Any) -> dict[str, Any]:
    found = walk(built("llama-3.1-8b", STEP, **plan).device)
    return {n.label: n for n in found if n.label.startswith("data_parallel")}


def test_gradients_are_added_over_all_copies_of_a_weight():
    """Context-parallel ranks hold the same weights as data-parallel replicas do."""
    for plan, ranks, stride in (({"dp": 8}, 8, 1), ({"dp": 4, "tp": 8}, 4, 8), ({"dp": 4, "cp": 2, "tp": 2}, 8, 2)):
        op = collectives(**plan)["data_parallel.gradients"]
        assert (op.operation, op.ranks, op.stride) == ("all_reduce", ranks, stride)
        assert op.bytes == pytest.approx(4 * PARAMETERS / plan.get("tp", 1), rel=0.01)


@pytest.mark.parametrize(
    ("stage", "operation", "width", "gathers"),
    [
        (0, "all_reduce", 4, 0),
        (1, "reduce_scatter", 4, 1),
        (2, "reduce_scatter", 2, 1),
        (3, "reduce_scatter", 2, 2 * 2),
    ],
)
def test_zero_exchanges_what_its_stage_says(stage, operation, width, gathers):
    work = built("llama-3.1-8b", STEP, dp=8, zero_stage=stage).device
    op = collectives(dp=8, zero_stage=stage)["data_parallel.gradients"]
    assert op.operation == operation
    assert op.bytes == pytest.approx(width * PARAMETERS, rel=2e-3)
    parts = components(work)
    assert parts["data_parallel.parameters"].count == gathers if gathers else "data_parallel.parameters" not in parts


def test_experts_have_fewer_copies_than_the_rest():
    """64 experts over 8 replicas: each expert is held once, so its gradient travels nowhere (Lepikhin et al. 2020)."""
    model = "qwen3-30b-a3b"
    routed = parameters(find_model(model))["layers.experts"]
    found = {n.label: n for n in walk(built(model, STEP, dp=8, ep=8).device) if n.label.startswith("data_parallel")}
    dense: Any = found["data_parallel.gradients"]
    experts: Any = found["data_parallel.gradients.experts"]
    assert experts.ranks == 1
    assert experts.bytes == pytest.approx(4 * routed / 8)
    assert dense.ranks == 8
    assert dense.bytes == pytest.approx(4 * (total_parameters(find_model(model)) - routed), rel=0.01)


def test_shards_of_all_devices_make_the_whole_once():
    """Optimizer states of experts would otherwise be counted less than once over the machine."""
    for dp, tp, ep in ((8, 1, 8), (8, 1, 1), (4, 2, 8), (4, 2, 2)):
        layout = Layout(float(tp), 1.0, float(dp), float(ep), 1.0)
        mine = Trained(100.0 / tp, 6400.0 / max(ep, tp)).sharded(layout)
        assert mine * dp * tp == pytest.approx(6500.0), (dp, tp, ep)


def test_overlapping_the_gradients_never_takes_longer():
    for plan in ({"dp": 8}, {"dp": 8, "pp": 2}):
        beside, after = (built("llama-3.1-8b", STEP, overlap_gradients=o, **plan).work for o in (True, False))
        assert evaluate(beside, CLUSTER).time_s <= evaluate(after, CLUSTER).time_s


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_gathers_beside_nothing_add_the_whole_of_their_time(stage):
    """What is not beside the passes lies between them: the step is longer by what the links take, no less."""
    plan: dict[str, Any] = {"dp": 8, "zero_stage": stage, "communication_share": 0.0}
    beside, after = (built("llama-3.1-8b", LONG, overlap_parameters=o, **plan).work for o in (True, False))
    (gather,) = (op for op in ops(after) if op.label == "data_parallel.parameters")
    passes = 4 if stage == 3 else 1  # two micro-batches, forward and backward
    alone = passes * evaluate(gather, CLUSTER).time_s
    assert evaluate(after, CLUSTER).time_s == pytest.approx(evaluate(beside, CLUSTER).time_s + alone, rel=0.02)


def test_gradients_of_early_micro_batches_are_exposed_with_the_last_ones():
    """ZeRO-2 reduces every micro-batch's gradients; without overlap none of these exchanges is hidden."""
    plan: dict[str, Any] = {"dp": 8, "zero_stage": 2, "communication_share": 0.0}
    beside, after = (built("llama-3.1-8b", LONG, overlap_gradients=o, **plan).work for o in (True, False))
    each = next(op for op in ops(after) if op.label == "data_parallel.gradients")
    alone = 2 * evaluate(each, CLUSTER).time_s
    assert evaluate(after, CLUSTER).time_s == pytest.approx(evaluate(beside, CLUSTER).time_s + alone, rel=0.02)


def test_hybrid_sharding_moves_shards_between_groups():
    """Zhao et al. 2023: gathers stay in the group; between g groups each rank reduces its own 1/s of the gradients."""
    work = built("llama-3.1-8b", LONG, dp=16, zero_stage=3, shard_group=8).work
    moved = {
        (op.operation, op.ranks, op.stride, round(float(op.bytes / PARAMETERS), 2))
        for op in ops(work)
        if isinstance(op, Collective) and op.ranks > 1
    }
    assert moved == {("all_gather", 8, 1, 2.0), ("reduce_scatter", 8, 1, 2.0), ("all_reduce", 2, 8, 0.25)}


def test_a_group_of_all_copies_is_no_group_and_a_small_one_keeps_more():
    plan: dict[str, Any] = {"dp": 16, "zero_stage": 3}
    whole, all_, few = (built("llama-3.1-8b", LONG, shard_group=g, **plan) for g in (None, 16, 4))
    assert evaluate(all_.work, CLUSTER).time_s == pytest.approx(evaluate(whole.work, CLUSTER).time_s)
    assert all_.ledger.entries == whole.ledger.entries
    assert few.ledger["optimizer"] == pytest.approx(4 * whole.ledger["optimizer"])
    assert few.ledger["weights"] == pytest.approx(4 * whole.ledger["weights"])


def test_experts_share_states_with_the_copies_that_they_have():
    """8 replicas hold one set of experts; of 32 replicas in shard groups of 16, two copies share an expert's states."""
    layout = Layout(1.0, 1.0, 32.0, 8.0, 1.0, shards=16.0)
    assert Trained(160.0, 20.0).sharded(layout) == 160.0 / 16 + 20.0 / 2
    small = Layout(1.0, 1.0, 32.0, 8.0, 1.0, shards=4.0)
    assert Trained(160.0, 20.0).sharded(small) == 160.0 / 4 + 20.0


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"dp": 16, "zero_stage": 3, "shard_group": 5}, "does not divide the 16 copies"),
        ({"dp": 16, "shard_group": 8}, "nothing is shared"),
    ],
)
def test_shard_groups_that_mean_nothing_are_refused(plan, words):
    with pytest.raises(RidgepointError, match=words):
        built("llama-3.1-8b", LONG, **plan)


def test_the_order_of_ranks_says_which_group_is_near():
    """8 stages of 8 replicas on nodes of 8: either the copies of a stage share a node, or the stages of a replica do."""

    def strides(**plan: Any) -> dict[str, Any]:
        work = built("llama-3.1-8b", LONG, pp=8, dp=8, zero_stage=1, **plan).work
        return {op.label: op.stride for op in ops(work) if isinstance(op, Collective) and op.ranks > 1}

    assert strides() == {"pipeline.send": 8, "data_parallel.gradients": 1, "data_parallel.parameters": 1}
    inside = strides(rank_order="tp-pp-dp")
    assert inside == {"pipeline.send": 1, "data_parallel.gradients": 8, "data_parallel.parameters": 8}
    with pytest.raises(RidgepointError, match="not modelled for context"):
        strides(rank_order="tp-pp-dp", cp=2)


def test_a_head_on_all_stages_sends_as_far_as_the_stages_are_apart():
    """With replicas in between, the next stage is dp devices away."""
    work = built("llama-3.1-8b", LONG, pp=4, dp=8, vocab_parallel=True).work
    sent = [op for op in ops(work) if isinstance(op, Collective) and op.label in ("head.broadcast", "pipeline.send")]
    assert {op.stride for op in sent} == {8}


def test_groups_of_different_kinds_share_a_port():
    """Gradients beside the all-to-all of experts on one network: it carries both, one after the other; NVLink is free."""
    tokens = Collective(operation="all_to_all", bytes=1e9, ranks=16.0, stride=8.0)
    gradients = Collective(operation="all_reduce", bytes=1e9, ranks=16.0, stride=8.0)
    inside = Collective(operation="all_reduce", bytes=1e9, ranks=8.0)

    def time(*works: Any) -> float:
        return float(evaluate(Overlap(*works), CLUSTER).time_s)

    assert time(tokens, gradients) > 0.97 * (time(tokens) + time(gradients))
    assert time(inside, gradients) == time(gradients)


def test_networks_gather_what_they_share():
    """ZeRO-3 of a network moved nothing before its passes: its shards came for free."""
    net, machine, step = find_network("resnet50"), find_machine("8xh100-sxm"), Train(batch=256)
    assert net is not None
    plain, shared = (build(net, machine, step, Plan(zero_stage=stage)).work for stage in (0, 3))
    labels = [op.label for op in ops(shared)]
    assert "data_parallel.parameters" in labels
    assert "data_parallel.parameters" not in [op.label for op in ops(plain)]


def test_more_chunks_make_a_smaller_bubble():
    def time(**plan: Any) -> Any:
        work = built("llama-3.1-8b", Train(batch=8, seq=2048), pp=8, tp=1, **plan).device
        return evaluate(work, CLUSTER, mode=BOUND).time_s

    plain = time(schedule="1f1b")
    assert time(schedule="interleaved", chunks=4) < plain
    # Equal stages take the same time either way, but for the messages that hold up the steady phase of 1F1B.
    assert time(schedule="gpipe") == pytest.approx(plain, rel=0.005)


# design §2: scalar ≡ array
@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-30b-a3b", "t5-large", "nemotron-3-nano"])
@pytest.mark.parametrize(
    "sweep",
    [
        {"tp": [1, 2, 4, 8]},
        {"pp": [1, 2, 4, 8]},
        {"pp": [1, 2, 4, 8], "schedule": "interleaved", "chunks": 2},
        {"dp": [1, 2, 4, 16], "zero_stage": 3},
        {"cp": [1, 2, 4, 8], "recompute": "full"},
        {"micro_batch": [1, 2, 4, 8], "fused_attention": False, "recompute": "selective"},
        {"tp": [1, 2, 4, 2], "pp": [1, 2, 1, 4], "dp": [2, 1, 2, 2], "cp": [1, 1, 2, 2], "schedule": "gpipe"},
    ],
    ids=str,
)
def test_sweeps_over_plans_equal_their_points(name, sweep):
    model, fixed = find_model(name), {"tp": 1, "dp": 1}
    arrays = {n: np.array(v, dtype=float) for n, v in sweep.items() if isinstance(v, list)}
    together = build(model, CLUSTER, STEP, Plan(**{**fixed, **sweep, **arrays}))
    time = np.broadcast_to(evaluate(together.work, CLUSTER).time_s, 4)
    memory = np.broadcast_to(together.ledger.total_bytes, 4)
    for i in range(4):
        point = {**fixed, **sweep, **{n: float(v[i]) for n, v in arrays.items()}}
        alone = build(model, CLUSTER, STEP, Plan(**point))
        assert time[i] == pytest.approx(evaluate(alone.work, CLUSTER).time_s, rel=1e-9)
        assert memory[i] == pytest.approx(alone.ledger.total_bytes, rel=1e-9)


def test_experts_over_replicas_in_a_sweep():
    model, ep = find_model("qwen3-30b-a3b"), np.array([1.0, 2.0, 8.0])
    together = build(model, CLUSTER, STEP, Plan(tp=2, dp=8, ep=ep, zero_stage=1))
    for i, degree in enumerate(ep):
        alone = build(model, CLUSTER, STEP, Plan(tp=2, dp=8, ep=float(degree), zero_stage=1))
        assert np.asarray(evaluate(together.work, CLUSTER).time_s)[i] == pytest.approx(
            evaluate(alone.work, CLUSTER).time_s
        )
        assert np.asarray(together.ledger.total_bytes)[i] == pytest.approx(alone.ledger.total_bytes)
