"""What the training fields of a plan change, and nothing else: trainable parts, states, exchanges, offload, schedules."""

from typing import Any

import numpy as np
import pytest

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.models.catalog import find_model
from ridgepoint.models.parameters import total_parameters
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.build import build
from ridgepoint.work import Pipeline, walk
from tests.models.parts import CLUSTER, built, components, flop

MODEL, STEP = "llama-3.1-8b", Train(batch=16, seq=256)
PARAMETERS = total_parameters(find_model(MODEL))


def entries(**plan: Any) -> dict[str, Any]:
    return dict(built(MODEL, STEP, **plan).ledger.entries)


def time(**plan: Any) -> float:
    return float(evaluate(built(MODEL, STEP, **plan).work, CLUSTER).time_s)


def test_zero_memory_is_that_of_its_paper():
    """2 + 2 + 12 bytes per parameter: Rajbhandari et al. 2020, figure 1, with fp32 gradients where they are added in full."""
    n = 8.0
    whole = entries()
    assert whole["weights"] == pytest.approx(2 * PARAMETERS, rel=1e-3)
    assert whole["optimizer"] == pytest.approx(12 * PARAMETERS, rel=1e-3)
    for stage, weights, gradients, states in ((1, 1, 2.0, n), (2, 1, n, n), (3, n, n, n)):
        found = entries(dp=8, zero_stage=stage)
        assert found["weights"] == pytest.approx(2 * PARAMETERS / weights, rel=1e-3)
        width = 4 if stage < 2 else 2
        assert found["gradients"] == pytest.approx(width * PARAMETERS / (gradients if stage >= 2 else 1), rel=1e-3)
        assert found["optimizer"] == pytest.approx(12 * PARAMETERS / states, rel=1e-3)


def test_an_array_of_stages_equals_its_points():
    stages = np.array([0.0, 1.0, 2.0, 3.0])
    sweep = built(MODEL, STEP, dp=8, zero_stage=stages)
    seconds = np.broadcast_to(evaluate(sweep.work, CLUSTER).time_s, 4)
    for i, stage in enumerate(stages):
        one = built(MODEL, STEP, dp=8, zero_stage=float(stage))
        assert evaluate(one.work, CLUSTER).time_s == pytest.approx(seconds[i])
        assert np.broadcast_to(sweep.ledger.total_bytes, 4)[i] == pytest.approx(one.ledger.total_bytes)


@pytest.mark.parametrize(
    ("optimizer", "width"), [("adam", 12), ("adam8bit", 6), ("lion", 8), ("sgd", 8), ("adafactor", 4), ("none", 0)]
)
def test_optimizers_keep_their_states(optimizer, width):
    found = entries(optimizer=optimizer)["optimizer"]
    assert found == pytest.approx(width * PARAMETERS, rel=1e-3)
    if width:
        without = entries(optimizer=optimizer, master_weights=False)["optimizer"]
        assert found - without == pytest.approx(4 * PARAMETERS, rel=1e-3)


def test_low_rank_moments_shrink_with_the_rank():
    """GaLore: r/h of the moments and a projector; never more than full moments, and products that project."""
    low = entries(optimizer_rank=128)["optimizer"]
    assert low == pytest.approx(PARAMETERS * (4 + 128 / 4096 * (8 + 2)), rel=1e-3)
    assert entries(optimizer_rank=10**6)["optimizer"] <= entries()["optimizer"] * (1 + 1e-9)
    assert any(op.startswith("optimizer.project") for op in components(built(MODEL, STEP, optimizer_rank=128).device))


def test_lora_trains_adapters_only():
    """r·(k + n) per projection; the frozen weights have neither gradients nor states, and no product makes their gradient."""
    rank, hidden, width, keys = 16, 4096, 14336, 1024
    attention = (hidden + hidden + 2 * keys) + (hidden + hidden)
    feed = (hidden + 2 * width) + (width + hidden)
    adapters = 32 * rank * (attention + feed)
    found = entries(trainable="lora", lora_rank=rank)
    assert found["adapters"] == pytest.approx(2 * adapters)
    assert found["optimizer"] == pytest.approx(12 * adapters)
    full, lora = built(MODEL, STEP).device, built(MODEL, STEP, trainable="lora", lora_rank=rank).device
    assert flop(lora, "gemm") == pytest.approx(flop(full, "gemm") * 2 / 3, rel=0.02)
    kept = [label for label in components(lora) if label.endswith(".grad_weight")]
    assert kept
    assert all(".lora_" in label for label in kept)


def test_attention_scores_keep_their_gradients_under_lora():
    """Keys and values are no weights: dropping their gradients would cut the chain to the layers below."""
    parts = components(built(MODEL, STEP, trainable="lora", fused_attention=False).device)
    assert "layers.attention.attention.scores.grad_weight" in parts
    assert "layers.attention.attention.values.grad_weight" in parts


def test_zeroth_order_steps_are_two_forward_passes():
    """MeZO: no gradients, no states, activations of inference (Malladi et al. 2023)."""
    step = built(MODEL, STEP, trainable="zeroth_order", dp=2)
    one = built(MODEL, STEP, dp=2).device
    assert flop(step.device, "gemm") == pytest.approx(flop(one, "gemm") * 2 / 3)
    assert not {"gradients", "optimizer", "logits"} & set(step.ledger.entries)
    assert components(step.device)["data_parallel.gradients"].bytes < 100


def test_frozen_layers_have_no_backward_pass():
    half = built(MODEL, STEP, trained_layers=0.5)
    whole = built(MODEL, STEP)
    forward, back = flop(whole.device, "gemm") / 3, flop(whole.device, "gemm") * 2 / 3
    head = 16 * 256 * 2 * 128256 * 4096
    assert flop(half.device, "gemm") == pytest.approx(forward + 2 * head + (back - 2 * head) / 2)
    assert half.ledger["activations"] == pytest.approx(whole.ledger["activations"] / 2)


def test_compressed_and_rare_exchanges_carry_less():
    plain = components(built(MODEL, STEP, dp=8).device)["data_parallel.gradients"].bytes
    few = components(built(MODEL, STEP, dp=8, gradient_bytes=0.125).device)["data_parallel.gradients"].bytes
    rare = components(built(MODEL, STEP, dp=8, exchange_period=10).device)["data_parallel.gradients"].bytes
    assert few == pytest.approx(plain * 0.125 / 4)
    assert rare == pytest.approx(plain / 10)
    assert entries(dp=8, outer_bytes=8.0)["outer optimizer"] == pytest.approx(8 * PARAMETERS, rel=1e-3)


def test_offloaded_bytes_are_booked_where_they_are():
    """8 devices of a node share 2 TB: 405 B parameters' states, gradients and weights do not fit there."""
    step = built(MODEL, STEP, dp=8, zero_stage=3, offload_optimizer="host", offload_params="host")
    assert step.ledger.kept_in("host") == pytest.approx((12 + 2 + 2) * PARAMETERS / 8, rel=1e-3)
    assert step.ledger.rooms["host"] == pytest.approx(0.8 * 2e12 / 8)
    assert not built("llama-3.1-405b", STEP, dp=8, zero_stage=3, offload_optimizer="host").ledger.fits


@pytest.mark.parametrize("tier", ["host", "nvme"])
def test_offload_moves_what_it_says(tier):
    """The states' home is the tier; the device keeps less, the step takes longer on links that are really there."""
    whole, here = built(MODEL, STEP), built(MODEL, STEP, offload_optimizer=tier)
    assert "optimizer" not in here.ledger.entries
    assert here.ledger.total_bytes < whole.ledger.total_bytes
    parts = components(here.device)
    assert parts["offload.gradients"].bytes == pytest.approx(4 * PARAMETERS, rel=1e-3)
    assert parts["offload.weights"].bytes == pytest.approx(2 * PARAMETERS, rel=1e-3)
    assert ("offload.states_in" in parts) == (tier == "nvme")
    assert time(offload_optimizer=tier) > time()


def test_offloaded_activations_go_out_and_come_back():
    kept = entries(micro_batch=4)["activations"]
    parts = components(built(MODEL, STEP, micro_batch=4, offload_activations="host").device)
    assert parts["offload.activations_out"].bytes == pytest.approx(4 * kept)
    assert parts["offload.activations_in"].bytes == pytest.approx(4 * kept)
    assert entries(micro_batch=4, offload_activations="host")["activations"] == pytest.approx(kept * 2 / 32)


def test_offloaded_weights_are_fetched_for_every_pass():
    parts = components(built(MODEL, STEP, dp=8, zero_stage=3, offload_params="host").device)
    assert parts["offload.parameters"].bytes == pytest.approx(2 * 2 * 2 * PARAMETERS / 8, rel=1e-3)
    assert entries(offload_params="host")["weights"] < entries()["weights"] / 10


def test_zero_bubble_divides_the_backward_pass_and_nothing_else():
    plain, split = (built(MODEL, STEP, pp=4, schedule=name).device for name in ("1f1b", "zero_bubble"))
    assert flop(plain, "gemm") == pytest.approx(flop(split, "gemm"))
    (pipeline,) = (node for node in walk(split) if isinstance(node, Pipeline))
    middle = pipeline.stages[1]
    assert middle.weight_gradient is not None
    assert flop(middle.weight_gradient, "gemm") == pytest.approx(flop(middle.forward, "gemm"))
    assert time(pp=4, schedule="zero_bubble") < time(pp=4)


def test_a_divided_vocabulary_takes_the_head_off_the_last_stage():
    """Every stage then does the same work: Yeung et al. 2024."""
    (pipeline,) = (
        node for node in walk(built(MODEL, STEP, pp=4, vocab_parallel=True).device) if isinstance(node, Pipeline)
    )
    work = [flop(stage.forward, "gemm") for stage in pipeline.stages]
    assert work == pytest.approx([work[0]] * 3)
    whole = built(MODEL, STEP, pp=4)
    assert flop(whole.device, "gemm") == pytest.approx(
        flop(built(MODEL, STEP, pp=4, vocab_parallel=True).device, "gemm")
    )
    assert entries(pp=4, vocab_parallel=True)["weights"] < whole.ledger["weights"]


@pytest.mark.parametrize("how", ["ring", "all_to_all"])
def test_context_exchanges_do_the_same_arithmetic(how):
    gathered, other = (
        built(MODEL, Train(batch=4, seq=8192), cp=4, context_exchange=name).device for name in ("all_gather", how)
    )
    assert flop(gathered, "attention") == pytest.approx(flop(other, "attention"), rel=1e-3)
    one = components(other)["layers.attention.context_exchange"]
    keys = 8192 / 4 * 2 * 8 * 128 * 2
    if how == "ring":  # keys and values of 8 heads to the next rank three times, read and written
        assert one.bytes == pytest.approx(32 * 4 * 3 * keys * 2)
    assert one.bytes > 0


def test_heads_limit_the_exchange_of_heads():
    with pytest.raises(Exception, match="tp × cp = 16"):
        built("gpt2", STEP, cp=16, context_exchange="all_to_all")


def test_recomputing_half_of_the_layers_is_half_of_the_cost():
    none, half, full = (built(MODEL, STEP, recompute="full", recomputed_layers=part) for part in (0.0, 0.5, 1.0))
    low, middle, high = (flop(step.device, "gemm") for step in (none, half, full))
    assert middle == pytest.approx((low + high) / 2)
    assert none.ledger["activations"] == pytest.approx(entries()["activations"])
    assert full.ledger["activations"] < half.ledger["activations"] < none.ledger["activations"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("offload_optimizer", "disk"),
        ("trainable", "some"),
        ("trained_layers", 1.5),
        ("gradient_bytes", -1.0),
        ("lora_rank", 0),
        ("context_exchange", "star"),
        ("exchange_period", 0.5),
    ],
)
def test_bad_values_name_the_valid_ones(field, value):
    with pytest.raises(Exception, match=field):
        Plan(**{field: value})


def test_networks_refuse_what_is_not_modelled_for_them():
    from ridgepoint.models.networks.catalog import find_network

    net = find_network("resnet50")
    assert net is not None
    with pytest.raises(Exception, match="not modelled"):
        build(net, CLUSTER, Train(batch=8), Plan(trainable="lora"))
