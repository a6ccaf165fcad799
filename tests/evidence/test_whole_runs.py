"""Whole training runs, rates of single passes, and units that say more than a dimension (design §8)."""

from __future__ import annotations

import numpy as np
import pytest

from ridgepoint.evidence.run_rows import predict_runs, stand_ins_of
from ridgepoint.evidence.validate import reasons
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.models.parameters import total_parameters


@pytest.fixture
def predicted(table):
    return lambda *rows: predict_runs(table(*rows))


def train(task="train_total", metric="time_s", extra=None, **changes):
    row: dict[str, object] = {
        "machine": "a100-sxm-80gb",
        "devices": 8,
        "framework": "llm-foundry",
        "model": "mpt-1b",
        "mode": "eager",
    }
    row |= {"precision": "bf16", "prompt": 2048, "tp": 1, "dp": 8, "micro_batch": 8, "global_batch": 512}
    return row | {"task": task, "metric": metric, "extra": extra or {}} | changes


def passes(task, **changes):
    row: dict[str, object] = {
        "machine": "a100-sxm-80gb",
        "framework": "vllm",
        "model": "llama-2-7b",
        "task": task,
        "precision": "fp16",
    }
    return row | {"batch": 4, "prompt": 2048, "output": 128, "metric": "mfu"} | changes


IMAGES: dict[str, object] = {
    "machine": "v100-sxm-16gb",
    "framework": "pytorch",
    "model": "resnet50",
    "mode": "eager",
    "precision": "fp32",
}


def test_a_whole_run_is_its_steps_however_it_says_how_many(predicted):
    """20 billion tokens in batches of 512 sequences of 2,048 are 19,073.5 steps."""
    step = predicted(train("train_step")).predicted[0]
    tokens = 20e9
    steps = tokens / (512 * 2048)
    said = [{"tokens": tokens}, {"tokens_B": 20}, {"steps": steps}, {"samples": tokens / 2048}]
    assert predicted(*(train(extra=extra) for extra in said)).predicted == pytest.approx(steps * step, rel=1e-6)


def test_rates_and_energy_of_a_whole_run_are_those_of_a_step(predicted):
    metrics = ("mfu", "throughput_tok_s", "power_w", "energy_j_per_token", "energy_j_per_sample")
    whole = predicted(*(train(metric=m, extra={"steps": 10}) for m in metrics)).predicted
    assert whole == pytest.approx(predicted(*(train("train_step", metric=m) for m in metrics)).predicted)
    _, rate, watts, joules, of_sample = whole
    assert joules == pytest.approx(8 * watts / rate)
    assert of_sample == pytest.approx(2048 * joules)


def test_epochs_of_a_known_data_set_are_its_examples(predicted):
    """Three epochs of ImageNet in batches of 64 are 60,057 steps of that network."""
    row = IMAGES | {
        "task": "train_total",
        "batch": 64,
        "metric": "time_s",
        "extra": {"dataset": "imagenet", "epochs": 3},
    }
    step = row | {"task": "train_step", "metric": "time_s", "unit": "s per step", "extra": {"dataset": "imagenet"}}
    whole, one = predicted(row, step).predicted
    assert whole == pytest.approx(3 * np.ceil(1_281_167 / 64) * one)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({}, "how long the run is, is not stated"),
        ({"tokens": 300}, "less than one step"),
        ({"epochs": 2, "dataset": "mine"}, "how many steps epochs are is not known"),
    ],
)
def test_runs_of_unknown_length_are_refused(predicted, extra, reason):
    ((found, count),) = reasons(predicted(train(extra=extra)))
    assert count == 1
    assert reason in found


def test_model_flop_of_passes_are_two_per_weight_and_token(predicted):
    """MFU · peak · time of a prefill is 2·N·tokens and the pairs of 32 layers of 4,096."""
    mfu, tflops, ms = predicted(
        *(passes("prefill", metric=m) for m in ("mfu", "tflops_per_device", "latency_ms"))
    ).predicted
    tokens = 4 * 2048
    flop = tokens * (2 * total_parameters(find_model("llama-2-7b")) + 4 * 32 * 4096 * 2048)
    assert tflops * 1e12 * ms * 1e-3 == pytest.approx(flop, rel=0.04)  # a table of embeddings is looked up
    assert mfu == pytest.approx(tflops * 1e12 / find_machine("a100-sxm-80gb").arithmetic("fp16").flop_per_s)
    assert 0.2 < mfu < 1.0


def test_decoding_uses_little_of_the_arithmetic(predicted):
    decode, prefill, generate = predicted(*(passes(task) for task in ("decode", "prefill", "generate"))).predicted
    assert decode < 0.1 * prefill
    assert decode < generate < prefill


def test_networks_state_their_own_flop(predicted):
    """ResNet-50 at 224 pixels: 4.1 G multiply-adds forwards (He et al. 2016), three times as many in training."""
    row = IMAGES | {"batch": 64, "image_px": 224}
    for task, times in (("forward", 1), ("train_step", 3)):
        each = [row | {"task": task, "metric": m} for m in ("tflops_per_device", "throughput_samples_s")]
        tflops, rate = predicted(*each).predicted
        assert tflops * 1e12 / rate == pytest.approx(times * 2 * 4.1e9, rel=0.05)


def test_power_is_of_as_many_devices_as_the_unit_says(predicted):
    """A factor of eight that nobody sees is the worst kind of error."""
    serve = {
        "machine": "h100-sxm",
        "devices": 8,
        "framework": "vllm",
        "model": "llama-3.1-70b",
        "task": "serve",
        "tp": 8,
    }
    serve |= {"precision": "bf16", "prompt": 500, "output": 200, "concurrency": 32, "dp": 1, "metric": "power_w"}
    units = ("W all devices", "W", "W per device", "W system")
    every, plain, each, system = predicted(*(serve | {"unit": unit} for unit in units)).predicted
    assert every == plain == pytest.approx(8 * each)
    assert np.isnan(system)
    step = train("train_step", metric="power_w")
    one, all_of_them = predicted(step | {"unit": "W per device"}, step | {"unit": "W all devices"}).predicted
    assert all_of_them == pytest.approx(8 * one)


def test_the_peak_of_serving_is_above_its_mean_and_within_the_limit(predicted):
    serve: dict[str, object] = {
        "machine": "h100-sxm",
        "framework": "vllm",
        "model": "llama-3.1-8b",
        "task": "serve",
        "precision": "bf16",
    }
    serve |= {"prompt": 4000, "output": 200, "concurrency": 8}
    mean, peak = predicted(serve | {"metric": "power_w"}, serve | {"metric": "power_peak_w"}).predicted
    assert mean < peak <= 700.0


def test_an_epoch_of_an_unknown_data_set_is_no_step(predicted):
    ((found, _),) = reasons(predicted(train("train_step", unit="s per epoch", extra={"dataset": "mine"})))
    assert "s per epoch" in found


def test_networks_on_several_devices_and_their_stand_in(predicted):
    """Neither a step without its gradients' exchange, nor a serving engine in place of a trainer."""
    result = predicted(IMAGES | {"task": "train_step", "batch": 64, "devices": 8, "metric": "throughput_samples_s"})
    assert "several devices" in result.refused[0]
    assert stand_ins_of(predicted(train(framework="mine", mode="", extra={"steps": 5})).table) == ["nemo"]
