"""Prefill, decode, generation and forward passes as work (design §1, issue 2)."""

from typing import Any

import numpy as np
import pytest

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.rules import BOUND
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.models.parameters import active_parameters, parameters
from ridgepoint.ops import Host, Scan
from ridgepoint.plan import Plan
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Task
from ridgepoint.tasks.build import build
from ridgepoint.tasks.inference import decode_work, kernel_count
from ridgepoint.tasks.layout import complete, execution
from ridgepoint.work import Overlap, Pipeline, Repeat, Seq, walk
from tests.models.parts import CLUSTER, built, components, flop

LLAMA = find_model("llama-3.1-8b")


def seconds(model: str, task: Task, on: str = "h100-sxm", mode: str = BOUND, **plan) -> float:
    machine = find_machine(on)
    work = build(find_model(model), machine, task, Plan(**plan)).device
    return float(evaluate(work, machine, mode=mode).time_s)


# issue 2: the roofline of a decode step at batch 1 equals weight-plus-KV bytes over bandwidth in bound mode
@pytest.mark.parametrize("machine", ["h100-sxm", "mi300x", "l4", "xeon-8480plus"])
@pytest.mark.parametrize(
    ("name", "context", "per_token"),
    [("llama-3.1-8b", 8192, 131072), ("mistral-7b-v0.3", 4096, 131072), ("qwen3-8b", 8192, 147456)],
)
def test_a_decode_step_at_batch_1_is_weights_and_cache_over_bandwidth(machine, name, context, per_token):
    model, sheet = find_model(name), find_machine(machine)
    weights = 2 * (active_parameters(model, True) - parameters(model)["embedding"])  # of the table one row is read
    wanted = (weights + context * per_token) / sheet.memory_bytes_per_s
    assert seconds(name, Decode(batch=1, context=context), machine) == pytest.approx(wanted, rel=0.01)


def test_the_floors_of_the_competition():
    """Peers §2b: 14.9 ms and 9.6 ms at batch 16 and context 2,048 on an A100-80G; a peer that takes GB/s for GiB/s is below."""
    a100 = "a100-sxm-80gb"
    assert seconds("llama-2-7b", Decode(batch=16, context=2048), a100) == pytest.approx(14.9e-3, rel=0.01)
    assert seconds("llama-3-8b", Decode(batch=16, context=2048), a100) == pytest.approx(9.6e-3, rel=0.01)


# design §1: generate = prefill, then decode steps over the growing context
@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite", "t5-large", "qwen3.5-27b"])
@pytest.mark.parametrize("mode", ["bound", "expected"])
def test_generation_is_the_sum_of_its_steps(name, mode):
    h100, output = find_machine("h100-sxm"), 65
    model = find_model(name)
    whole = build(model, h100, Generate(batch=4, prompt=500, output=output), Plan(dp=1))
    layout = complete(model, h100, Plan(dp=1), training=False)
    run, _ = execution(model, Plan(dp=1), layout, training=False)
    encoder = model.encoder is not None
    first = 2.0 if encoder else 501.0
    steps = [decode_work(model, run, layout, 4.0, first + i, 500.0 if encoder else 0.0) for i in range(output - 1)]
    start = build(model, h100, Prefill(batch=4, prompt=500), Plan(dp=1)).device
    wanted = sum(float(evaluate(work, h100, mode=mode).time_s) for work in [start, *steps])
    assert evaluate(whole.device, h100, mode=mode).time_s == pytest.approx(wanted, rel=1e-3)


def test_one_token_of_output_is_a_prefill():
    one, prefill = (
        built("llama-3.1-8b", Generate(batch=2, prompt=64, output=1)),
        built("llama-3.1-8b", Prefill(batch=2, prompt=64)),
    )
    assert flop(one.device, "gemm", "attention") == flop(prefill.device, "gemm", "attention")
    assert one.tokens == 2


def test_the_flops_of_a_prefill_jump_at_no_block_boundary():
    """Llama 4 attends inside blocks of 8192: one token more adds one pair per block layer, not a whole block."""
    pairs: list[Any] = [
        components(built("llama-4-scout", Prefill(batch=1, prompt=n)).device)["layers.attention.attention"].flop
        for n in (8191, 8192, 8193, 8194)
    ]
    each = 4 * 40 * 128
    assert np.array_equal(np.diff(pairs) / each, [36 * 8192 + 12 * 8192, 36 * 1 + 12 * 8193, 36 * 2 + 12 * 8194])


# Replicas, stages and ranks
def test_replicas_split_the_batch_and_the_busiest_counts():
    full, half, odd = (built("llama-3.1-8b", Prefill(batch=b, prompt=64), dp=dp) for b, dp in ((8, 1), (8, 2), (3, 2)))
    assert flop(half.device, "gemm") == flop(full.device, "gemm") / 2
    assert flop(odd.device, "gemm") == flop(full.device, "gemm") / 4
    assert full.tokens == half.tokens == 8 * 64


@pytest.mark.parametrize("name", ["llama-3.1-8b", "t5-large", "bert-large"])
@pytest.mark.parametrize(
    "task", [Prefill(batch=1, prompt=256), Forward(batch=1, seq=256), Decode(batch=1, context=256)]
)
def test_stages_never_speed_up_a_single_sequence(name, task):
    """One sequence visits all stages in turn; more devices must not make it faster than its work allows."""
    if name == "bert-large" and not isinstance(task, Forward):
        return
    one, four = (seconds(name, task, "8xh100-sxm", tp=1, dp=1, pp=n) for n in (1, 4))
    assert four >= one * (1 - 1e-9)


def test_stages_are_filled_sequence_by_sequence():
    """With many sequences p stages approach a p-th of the time; the bubble is (p − 1)/m."""
    one = seconds("llama-3.1-8b", Prefill(batch=1, prompt=2048), "8xh100-sxm", tp=1, dp=1)
    piped = seconds("llama-3.1-8b", Prefill(batch=64, prompt=2048), "8xh100-sxm", tp=1, dp=1, pp=4)
    assert piped == pytest.approx(64 * one / 4 * (1 + 3 / 64), rel=0.03)


def test_a_decode_step_through_stages_is_one_trip_of_a_share_of_the_batch():
    trip = built("llama-3.1-8b", Decode(batch=32, context=1024), pp=4).device
    share = built("llama-3.1-8b", Decode(batch=8, context=1024)).device
    assert flop(trip, "gemm") == flop(share, "gemm")
    assert components(trip)["pipeline.send"].count == 4


def test_the_host_launches_what_one_device_runs():
    """A pipeline's launches are those of all its micro-batches, not of one."""
    one, piped = (built("llama-3.1-8b", Forward(batch=8, seq=64), pp=n).device for n in (1, 4))
    assert kernel_count(piped) == pytest.approx(8 / 4 * kernel_count(one), rel=0.15)
    assert any(isinstance(node, Pipeline) for node in walk(piped))


def test_a_captured_graph_is_launched_once():
    eager, graph = (built("llama-3.1-8b", Decode(batch=1, context=64), graph_capture=g).work for g in (False, True))
    (dispatch,) = (n for n in walk(eager) if isinstance(n, Host))
    (launch,) = (n for n in walk(graph) if isinstance(n, Host))
    assert dispatch.launches > 200
    assert launch.launches == 0
    assert isinstance(eager, Overlap)


def test_kernels_are_counted_down_the_tree():
    host = Host(launches=5.0)
    layer = built("llama-3.1-8b", Decode(batch=1, context=64)).device
    assert kernel_count(host) == 0
    assert kernel_count(Seq(layer, Repeat(2.0, layer))) == 3 * kernel_count(layer)


def test_encoders_generate_nothing():
    for task in (Prefill(), Decode(), Generate()):
        with pytest.raises(RidgepointError, match="no decoder"):
            built("bert-large", task)


def test_one_rank_communicates_with_nobody():
    for name in ("llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "nemotron-3-nano", "t5-large"):
        for task in (Prefill(batch=2, prompt=64), Decode(batch=2, context=64), Forward(batch=2, seq=64)):
            assert not any(c.kind == "collective" for c in components(built(name, task).device).values())


SWEEPS = {
    "tp": np.array([1.0, 2.0, 4.0, 8.0]),
    "pp": np.array([1.0, 2.0, 3.0, 8.0]),
    "cp": np.array([1.0, 2.0, 4.0, 8.0]),
    "dp": np.array([1.0, 2.0, 4.0, 16.0]),
    "ep": np.array([1.0, 2.0, 4.0, 8.0]),
}


# design §2: scalar ≡ array, for every degree alone and for all together
@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v2-lite", "nemotron-3-nano", "t5-large"])
@pytest.mark.parametrize("degree", [*SWEEPS, "all"])
@pytest.mark.parametrize("task", [Prefill(batch=6, prompt=128), Decode(batch=6, context=999), Forward(batch=6, seq=64)])
def test_sweeps_over_degrees_equal_their_points(name, degree, task):
    model = find_model(name)
    if degree == "ep" and name in ("llama-3.1-8b", "t5-large"):
        return
    sweep: dict[str, Any] = {"tp": np.array([1, 2, 4, 2]), "pp": np.array([1, 2, 1, 4]), "cp": np.array([1, 1, 2, 2])}
    plan: dict[str, Any] = (
        sweep if degree == "all" else {"tp": 1.0, "dp": 16.0 if degree == "ep" else 1.0, degree: SWEEPS[degree]}
    )
    plan = {"dp": 2.0, **plan}
    together = build(model, CLUSTER, task, Plan(**plan))
    time, bound = evaluate(together.work, CLUSTER).time_s, evaluate(together.device, CLUSTER, mode=BOUND).time_s
    for i in range(4):
        point: dict[str, Any] = {n: float(v[i]) if isinstance(v, np.ndarray) else v for n, v in plan.items()}
        alone = build(model, CLUSTER, task, Plan(**point))
        assert np.broadcast_to(time, 4)[i] == pytest.approx(evaluate(alone.work, CLUSTER).time_s, rel=1e-9)
        assert np.broadcast_to(bound, 4)[i] == pytest.approx(
            evaluate(alone.device, CLUSTER, mode=BOUND).time_s, rel=1e-9
        )
        found = np.broadcast_to(together.ledger.total_bytes, 4)[i]
        assert found == pytest.approx(alone.ledger.total_bytes, rel=1e-9)


def test_chunked_scans_are_several_kernels_and_their_steps_one():
    """mamba_ssm's chunked forward pass launches five kernels, which the host of eager code waits for as for any other."""
    work = {seq: Scan(batch=1.0, seq=seq, heads=8.0, head_dim=64.0, state_dim=128.0) for seq in (1.0, 512.0)}
    assert kernel_count(work[512.0]) == 5 * kernel_count(work[1.0]) == 5
