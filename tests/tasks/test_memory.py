"""The ledger of a task on its fullest device (design §3, peers §4)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.models.parameters import total_parameters
from ridgepoint.plan import Plan
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Train
from ridgepoint.tasks.activations import in_flight
from ridgepoint.tasks.build import build
from ridgepoint.tasks.layout import Layout, complete, execution
from ridgepoint.tasks.memory import end_ledgers, usable_fraction
from ridgepoint.training.schedule import simulate
from tests.models.parts import built

COUNT = total_parameters(find_model("gpt2-xl"))


def entries(name, task, **plan):
    return built(name, task, **plan).ledger.entries


def test_serving_keeps_weights_and_the_whole_context():
    found = entries("llama-3.1-8b", Decode(batch=4, context=1000))
    assert found["weights"] == pytest.approx(2 * total_parameters(find_model("llama-3.1-8b")), rel=2e-3)
    assert found["kv"] == 4000 * 131072
    assert entries("llama-3.1-8b", Prefill(batch=4, prompt=1000))["kv"] == 4000 * 131072
    last = entries("llama-3.1-8b", Generate(batch=4, prompt=1000, output=25))["kv"]
    assert last == 4 * 1024 * 131072  # the token made last is never read


def test_an_encoder_decoder_caches_its_own_tokens_and_its_encoders():
    layer = 24 * 2 * 16 * 64 * 2
    assert entries("t5-large", Prefill(batch=1, prompt=512))["kv"] == layer * (1 + 512)
    assert entries("t5-large", Generate(batch=1, prompt=512, output=10))["kv"] == layer * (10 + 512)


def test_a_padded_input_is_kept_whole_whatever_was_said_yet():
    """Whisper hears 30 s, which are 1,500 positions: 246 MB of keys and values in large-v3 from the first token on."""
    token = 32 * 2 * 1280 * 2
    for context in (1, 448):
        assert entries("whisper-large-v3", Decode(batch=2, context=context))["kv"] == 2 * token * (context + 1500)
    assert entries("t5-large", Decode(batch=1, context=64))["kv"] == 24 * 2 * 16 * 64 * 2 * (64 + 64)


def test_a_forward_pass_keeps_no_cache():
    assert "kv" not in entries("llama-3.1-8b", Forward(batch=4, seq=1000))


# Rajbhandari et al. 2020: 2 + 2 + 12 bytes per parameter; Megatron-LM keeps gradients in fp32 without ZeRO-2
@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    [(0, 2, 4, 12), (1, 2, 4, 12 / 8), (2, 2, 2 / 8, 12 / 8), (3, 2 / 8, 2 / 8, 12 / 8)],
)
def test_zero_shards_what_its_stage_says(stage, weights, gradients, optimizer):
    found = entries("gpt2-xl", Train(batch=8, seq=128), dp=8, zero_stage=stage)
    wanted = {"weights": weights, "gradients": gradients, "optimizer": optimizer}
    assert {n: found[n] / COUNT for n in wanted} == pytest.approx(wanted, rel=3e-3)


@pytest.mark.parametrize(("optimizer", "width"), [("adam", 12), ("adam8bit", 6), ("sgd", 8), ("none", 0)])
def test_optimizer_states(optimizer, width):
    assert entries("gpt2-xl", Train(batch=1, seq=128), optimizer=optimizer)["optimizer"] == pytest.approx(
        width * COUNT, rel=3e-3
    )


def test_weights_in_fp32_are_their_own_master_copy():
    found = entries("gpt2-xl", Train(batch=1, seq=128), weights="fp32")
    assert found["weights"] + found["optimizer"] == pytest.approx((4 + 8) * COUNT, rel=3e-3)


def test_ranks_that_hold_the_same_weights_share_their_states():
    """Context-parallel ranks and replicas alike; experts among those that hold the same ones."""
    whole = entries("gpt2-xl", Train(batch=8, seq=128))["optimizer"]
    assert entries("gpt2-xl", Train(batch=8, seq=128), dp=4, cp=2, zero_stage=1)["optimizer"] == pytest.approx(
        whole / 8
    )
    count = total_parameters(find_model("qwen3-30b-a3b"))
    for plan in ({"dp": 8, "ep": 8}, {"dp": 8}, {"dp": 4, "tp": 2, "ep": 8}):
        found = entries("qwen3-30b-a3b", Train(batch=8, seq=128), zero_stage=1, **plan)["optimizer"]
        assert found * 8 == pytest.approx(12 * count, rel=0.02), plan


# Korthikanti et al. 2022, table 2
def test_recomputation_keeps_what_it_says():
    def activations(**plan):
        return entries("gpt2-xl", Train(batch=1, seq=1024), **plan)["activations"]

    tokens, hidden, heads, layers = 1024, 1600, 25, 48
    fused = tokens * layers * (32 * hidden + 4 * heads)
    assert activations() == fused
    plain = tokens * layers * (32 * hidden + 4 * heads * tokens)
    assert activations(fused_attention=False) == pytest.approx(plain, rel=1e-9)
    assert activations(fused_attention=False, recompute="selective") == pytest.approx(tokens * layers * 32 * hidden)
    one_layer = fused / layers
    assert activations(recompute="full") == tokens * layers * 2 * hidden
    model, machine, task = find_model("gpt2-xl"), find_machine("8xh100-sxm"), Train(batch=4, seq=1024)
    plan = Plan(recompute="full", pp=4, dp=1)
    layout = complete(model, machine, plan, True)
    run, _ = execution(model, plan, layout, True)
    first, last = end_ledgers(model, machine, run, layout, task, plan)
    assert first["activations"] == pytest.approx(4 * tokens * layers / 4 * 2 * hidden + one_layer)
    assert last["activations"] == pytest.approx(tokens * layers / 4 * 2 * hidden)
    whole = entries("gpt2-xl", Train(batch=1, seq=1024), recompute="full")
    assert whole["logits"] > one_layer  # a layer runs again where the logits were
    assert activations(tp=5) < activations() / 4.9  # sequence parallelism shards all of it


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(["gpipe", "1f1b", "interleaved"]), st.integers(2, 4))
def test_micro_batches_in_flight_are_those_of_the_simulated_schedule(stages, groups, schedule, chunks):
    count = stages * groups
    plan = Plan(schedule=schedule, chunks=chunks)
    found = in_flight(Layout(1.0, float(stages), 1.0, 1.0, 1.0), plan, float(count))
    if stages == 1:
        assert found == 1
        return
    times = [1.0] * stages, [2.0] * stages
    line = simulate(*times, microbatches=count, schedule=schedule, chunks=chunks)
    assert found == pytest.approx(max(line.peak_in_flight(s) for s in range(stages)))


def test_stages_hold_the_activations_of_all_micro_batches_in_flight():
    one, four = (entries("gpt2-xl", Train(batch=8, seq=128), pp=n)["activations"] for n in (1, 4))
    assert four == pytest.approx(one / 4 * 4)
    assert entries("gpt2-xl", Train(batch=8, seq=128), pp=1, schedule="gpipe")["activations"] == one
    assert entries("gpt2-xl", Train(batch=8, seq=128), pp=4, schedule="gpipe")["activations"] == pytest.approx(2 * one)


def test_activations_of_a_prefill_are_those_of_the_tokens_an_engine_lets_through():
    small, large = (entries("llama-3.1-8b", Prefill(batch=b, prompt=8192))["activations"] for b in (1, 1000))
    assert large == small
    assert entries("llama-3.1-8b", Decode(batch=1, context=8192))["activations"] < small / 100


# peers §4: memory that an engine reserves
def test_what_may_be_used_is_not_the_capacity():
    h100 = find_machine("h100-sxm")
    for task, fraction in ((Decode(), 0.9), (Train(), 0.95)):
        ledger = build(find_model("gpt2"), h100, task, Plan()).ledger
        assert ledger.capacity_bytes == 80e9
        assert ledger.usable_bytes == pytest.approx(fraction * 80e9)
        assert ledger.entries["runtime"] > 0
    assert usable_fraction(Plan(memory_fraction=0.8), training=True) == 0.8


def test_ledgers_of_sweeps():
    batch, pp = np.array([[1.0], [64.0]]), np.array([1.0, 2.0, 4.0])
    together = entries("llama-3.1-8b", Decode(batch=batch, context=4096), pp=pp)
    for i in range(2):
        for j in range(3):
            alone = entries("llama-3.1-8b", Decode(batch=float(batch[i, 0]), context=4096), pp=float(pp[j]))
            for name, size in alone.items():
                assert np.broadcast_to(together[name], (2, 3))[i, j] == pytest.approx(size, rel=1e-12)


def test_a_gate_of_two_eager_kernels_keeps_what_lies_between_them():
    """SiLU keeps its input, the product both of its factors (autograd): a third value beside the two of a fused gate."""
    model, machine = find_model("llama-2-7b"), find_machine("h100-sxm")

    def kept(compiled):
        plan = Plan(micro_batch=1, compiled=compiled, fused_norms=True, optimizer="none")
        return build(model, machine, Train(batch=1, seq=1024), plan).ledger.entries["activations"]

    assert kept(False) - kept(True) == pytest.approx(32 * 1024 * 11008 * 2)


def test_gradients_follow_offloaded_states_from_stage_2_on():
    """Ren et al. 2021 train 13 B parameters on one V100 of 32 GB: 16-bit weights stay, everything else is the host's."""
    model, machine = find_model("llama-2-13b"), find_machine("v100-sxm-32gb")

    def kept(stage):
        plan = Plan(zero_stage=stage, offload_optimizer="host", micro_batch=1, recompute="full", gradients="16bit")
        return build(model, machine, Train(batch=8, seq=1024), plan).ledger

    one, two = kept(1), kept(2)
    assert two.entries["gradients"] == 0.0
    assert one.entries["gradients"] == pytest.approx(2 * total_parameters(model), rel=1e-3)
    assert two.kept_in("host") - one.kept_in("host") == pytest.approx(one.entries["gradients"])
    assert two.total_bytes < 32e9 < one.total_bytes
