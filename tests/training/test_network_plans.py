"""`plan train` of networks: vision, diffusion (design §10); every layout is the estimate of it."""

from typing import Any

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.models.catalog import find_model
from ridgepoint.models.networks.catalog import find_network
from ridgepoint.training.layouts import model_flop
from ridgepoint.training.planner import plan_train

ASKED: dict[str, Any] = {"on": "8xh100-sxm", "batch": 256}


@pytest.fixture(scope="module")
def found():
    return plan_train("dit-xl-2", **ASKED, tokens=1e9, top=50)


def test_no_other_layout_is_faster(found):
    """By trying some of the space through the estimate itself."""
    for stage in (0, 1, 3):
        for size in (1, 4, 32):
            for rule in ("none", "full"):
                plan = rp.Plan(dp=8, zero_stage=stage, micro_batch=size, recompute=rule)
                est = rp.estimate("dit-xl-2", on="8xh100-sxm", task=rp.Train(batch=256), plan=plan)
                assert not est.memory.fits or est.time_s >= found.best.step_time_s * (1 - 1e-9)


def test_the_document_speaks_of_samples(found):
    document = found.to_dict()
    first = document["layouts"][0]
    assert first["samples_per_s"] == pytest.approx(256 / first["step_time_s"])
    assert "tokens_per_s" not in first
    assert document["critical_batch"] is None
    assert "seq" not in document["task"]
    assert first["run"]["steps"] == pytest.approx(1e9 / 256)
    assert 0.0 < first["mfu"] < 1.0


def test_model_flop_is_three_times_the_published_multiply_adds_twice():
    """ResNet-50: 4.09 G multiply-adds at 224 pixels (He et al. 2016; torchvision)."""
    net = find_network("resnet50")
    assert net is not None
    assert model_flop(net, rp.Train(batch=1)) == pytest.approx(3 * 2 * 4.09e9, rel=0.02)


def test_larger_inputs_are_slower():
    small, large = (
        plan_train("vit-large", **ASKED, inputs={"image_px": px}, top=1).best.step_time_s for px in (224.0, 448.0)
    )
    assert large > 3.5 * small


def test_less_memory_is_kept_to_and_none_is_refused_with_what_would_help(found):
    tight = plan_train("dit-xl-2", **ASKED, max_memory=6e9)
    assert tight.best.memory_bytes <= 6e9
    assert tight.best.step_time_s >= found.best.step_time_s
    with pytest.raises(RidgepointError) as error:
        plan_train("dit-xl-2", **ASKED, max_memory=1.5e9, zero_stage=0)
    assert error.value.kind == "does_not_fit"
    assert "leanest" in error.value.message


@pytest.mark.parametrize("objective", ["cost", "energy"])
def test_fewer_devices_may_be_cheaper(objective):
    few = plan_train("resnet50", **ASKED, objective=objective, top=1).best
    all_ = plan_train("resnet50", **ASKED, top=1).best
    assert few.estimate.energy_j <= all_.estimate.energy_j * (1 + 1e-9)
    assert few.step_time_s * few.estimate.devices <= all_.step_time_s * all_.estimate.devices * (1 + 1e-2)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"tp": 2}, "cannot be cut"),
        ({"batch": 255}, "--global-batch 248 or 256"),
        ({"micro_batch": 3}, "nearest: 1, 2, 4"),
        ({"schedule": "gpipe"}, "--schedule"),
        ({"scaling": True}, "--scaling"),
        ({"inputs": {"foo": 3.0}}, "image_px"),
        ({"wings": 1}, "no field"),
    ],
)
def test_bad_input_is_refused(more, says):
    with pytest.raises(RidgepointError) as error:
        plan_train("vit-large", **{**ASKED, **more})
    assert says in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize(("trainable", "passes"), [("full", 3), ("lora", 2), ("zeroth_order", 2)])
def test_utilization_counts_what_is_trained(trainable, passes):
    """Frozen weights have no gradients, and zeroth-order steps no backward pass: their utilization is no higher for it."""
    model, task = find_model("llama-3.2-1b"), rp.Train(batch=8, seq=2048)
    assert model_flop(model, task, trainable) == pytest.approx(passes / 3 * model_flop(model, task))
    best = plan_train(model, on="h100-sxm", batch=8, seq=2048, trainable=trainable, top=1).best
    assert best.mfu < 0.8
