"""What an estimate warns of (design §3, §4, §10)."""

from typing import Any

import numpy as np
import pytest

import ridgepoint as rp


def warnings(model: str, on: str, task: object, **plan: object) -> str:
    est = rp.estimate(model, on=on, task=task, plan=rp.Plan(**plan))  # type: ignore[arg-type]
    return "\n".join(est.warnings)


def test_what_fits_and_was_measured_is_not_warned_of() -> None:
    """A warning on a plain scenario would teach people to ignore warnings."""
    assert warnings("llama-3.1-8b", "h100-sxm", rp.Decode(batch=1, context=1024)) == ""


def test_a_batch_that_does_not_fit_says_which_would() -> None:
    """design §3: `fits` and the largest batch that fits; a bare 'no' sends people away."""
    task = rp.Decode(batch=500, context=8192)
    est = rp.estimate("llama-3.1-8b", on="h100-sxm", task=task)
    assert not est.memory.fits
    assert f"the largest batch that fits is {est.max_batch}" in "\n".join(est.warnings)
    assert rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=est.max_batch, context=8192)).memory.fits


def test_weights_that_do_not_fit_name_the_degree_that_would() -> None:
    """The advice must be true: with that degree the weights fit."""
    said = warnings("llama-3.1-70b", "h100-sxm", rp.Decode(batch=1, context=1024))
    assert "tp × pp of at least 2" in said
    assert rp.estimate("llama-3.1-70b", on="2xh100-sxm", task=rp.Decode(batch=1, context=1024)).memory.fits


def test_a_latent_cache_that_every_rank_copies_is_named() -> None:
    """Tensor parallelism does not divide a latent cache; the layout that does is part of the advice, and it helps."""
    task = rp.Decode(batch=256, context=8192)
    assert "--tp 1 --dp 8 --ep 8" in warnings("deepseek-v3", "8xh200-sxm", task)
    assert rp.estimate("deepseek-v3", on="8xh200-sxm", task=task, plan=rp.Plan(tp=1, dp=8, ep=8)).memory.fits


def test_a_context_beyond_the_model_is_named() -> None:
    """A model asked for more than it was made for gives a figure that nobody can use."""
    assert "exceed the 1,024" in warnings("gpt2", "t4", rp.Decode(batch=1, context=4096))


def test_idle_replicas_are_named() -> None:
    """A batch smaller than the replicas pays for devices that do nothing."""
    assert "4 of them stay idle" in warnings("gpt2", "8xh100-sxm", rp.Train(batch=4, seq=512), dp=8)


def test_machines_that_nobody_measured_say_so() -> None:
    """design §4: a default is wider than a fit, and the reader is told why."""
    measured = rp.estimate("llama-2-7b", on="a100-sxm-80gb", task=rp.Decode(batch=1, context=1024))
    guessed = rp.estimate("llama-2-7b", on="mi300x", task=rp.Decode(batch=1, context=1024))
    assert any("nobody measured mi300x" in w for w in guessed.warnings)
    width = [e.interval_s[1] / e.time_s for e in (measured, guessed)]
    assert width[0] < width[1]


def test_a_tier_without_room_is_named() -> None:
    """The device's own memory has room then: a warning about it would send people to the wrong remedy."""
    task = rp.Train(batch=8, seq=1024)
    plan = {"offload_optimizer": "host", "offload_params": "host", "zero_stage": 3, "recompute": "full"}
    said = warnings("llama-3.1-70b", "8xv100-sxm-32gb", task, **plan)
    assert "the host's memory would hold" in said
    assert "may be used per device" not in said


def test_the_input_of_an_encoder_is_no_context_of_the_decoder() -> None:
    """Whisper's decoder was made for 448 tokens; what its encoder hears does not count against them."""
    assert "context" not in warnings("whisper-large-v3", "l4", rp.Generate(prompt=1500, output=128))
    assert "449 tokens of context exceed the 448" in warnings(
        "whisper-large-v3", "l4", rp.Generate(prompt=1, output=449)
    )


def test_a_network_that_does_not_fit_is_told_nothing_that_it_cannot_do() -> None:
    """A diffusion model cannot be cut by --tp or --pp, and has no context to shorten."""
    said = warnings("flux.1-dev", "rtx-4090", rp.Sample())
    assert "does not fit" in said
    assert "weights" in said
    assert "tp" not in said
    assert "context" not in said


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"lora_rank": 8}, "--lora-rank has no effect: no adapters are trained (add --trainable lora)"),
        ({"chunks": 2}, "--chunks has no effect: there is one pipeline stage"),
        ({"pp": 2, "chunks": 2}, "--chunks has no effect: the schedule is not interleaved"),
        ({"pp": 2, "schedule": "interleaved"}, "--schedule has no effect: with one chunk per stage it is 1f1b"),
        ({"schedule": "zero_bubble"}, "--schedule has no effect"),
        ({"stages": "balanced"}, "--stages has no effect"),
        ({"vocab_parallel": True}, "--vocab-parallel has no effect"),
        ({"context_exchange": "ring"}, "--context-exchange has no effect"),
        ({"padding": "padded"}, "--padding has no effect"),
        ({"recomputed_layers": 0.5}, "--recomputed-layers has no effect"),
        ({"dp": 1, "exchange_period": 10}, "--exchange-period has no effect"),
        ({"recompute": "selective"}, "--recompute has no effect: fused attention keeps no scores"),
    ],
)
def test_settings_that_change_nothing_are_named(plan: dict[str, Any], says: str) -> None:
    """A setting that is left out in silence answers another question than the one asked: its figures are those without it."""
    task = rp.Train(batch=16, seq=512)
    with_it = rp.estimate("gpt2", on="2xh100-sxm", task=task, plan=rp.Plan(**plan))
    assert says in "\n".join(with_it.warnings)
    others = {name: value for name, value in plan.items() if not says.startswith(f"--{name.replace('_', '-')} ")}
    without = rp.estimate("gpt2", on="2xh100-sxm", task=task, plan=rp.Plan(**others))
    assert with_it.time_s == pytest.approx(without.time_s)
    assert with_it.memory.total_bytes == pytest.approx(without.memory.total_bytes)


def test_settings_that_change_something_somewhere_are_not_warned_of() -> None:
    """In a sweep one point with several stages is enough."""
    task = rp.Train(batch=16, seq=512)
    swept = {"pp": np.array([1.0, 2.0]), "schedule": "interleaved", "chunks": 2}
    for plan in (swept, {"trainable": "lora", "lora_rank": 8}, {"lengths": "256", "padding": "padded"}):
        assert "has no effect" not in warnings("gpt2", "2xh100-sxm", task, **plan)


def test_a_batch_that_micro_batches_do_not_divide_is_named() -> None:
    """Two replicas with micro-batches of 3 run 12 sequences for a batch of 10; the figures per token are those of 10."""
    step: dict[str, Any] = {"dp": 2, "micro_batch": 3}
    said = warnings("gpt2", "2xh100-sxm", rp.Train(batch=10, seq=512), **step)
    assert "one of 12 sequences, not 10" in said
    assert "sequences, not" not in warnings("gpt2", "2xh100-sxm", rp.Train(batch=12, seq=512), **step)
    uneven, even = (
        rp.estimate("gpt2", on="2xh100-sxm", task=rp.Train(batch=n, seq=512), plan=rp.Plan(**step)) for n in (10, 12)
    )
    assert uneven.time_s == pytest.approx(even.time_s)
    swept = rp.Train(batch=np.array([10.0, 12.0]), seq=512)
    assert "one of 12 sequences, not 10" in warnings("gpt2", "2xh100-sxm", swept, **step)
