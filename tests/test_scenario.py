"""Scenarios: four immutable values; names are looked up, sweeps broadcast (design §1)."""

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario, scenario
from ridgepoint.tasks import Decode, Forward, Generate, Train


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("lama-3.1-8b", "h100-sxm"), "unknown_model"),
        (("llama-3.1-8b", "h100-smx"), "unknown_machine"),
        (("llama-3.1-8b", "h100-sxm", "decoding"), "unknown_task"),
    ],
)
def test_unknown_names_are_refused_with_what_is_known(arguments, kind):
    with pytest.raises(RidgepointError) as error:
        scenario(*arguments)
    assert error.value.kind == kind
    assert error.value.hint


def test_the_usual_task_is_generation_and_a_forward_pass_for_encoders():
    assert isinstance(scenario("llama-3.1-8b", "l4").task, Generate)
    assert isinstance(scenario("bert-large", "l4").task, Forward)
    assert isinstance(scenario("llama-3.1-8b", "l4", "train").task, Train)


BATCHES = Decode(batch=np.array([[1], [8]]), context=np.array([1, 2, 3]))


def test_the_shape_is_that_of_all_arrays_together():
    assert scenario("llama-3.1-8b", "l4").shape == ()
    sweep = scenario("llama-3.1-8b", "8xh100-sxm", BATCHES, Plan(tp=np.array([[[1]], [[2]]])))
    assert sweep.shape == (2, 2, 3)
    assert scenario("mixtral-8x7b", "l4", plan=Plan(expert_imbalance=np.array([1, 2]))).shape == (2,)


def test_arrays_that_do_not_broadcast_are_refused_by_name():
    with pytest.raises(RidgepointError, match=r"task\.batch 2, task\.context 3"):
        _ = scenario("llama-3.1-8b", "l4", Decode(batch=np.array([1, 2]), context=np.array([1, 2, 3]))).shape


def test_a_part_of_a_sweep_has_the_same_points():
    """A chunk that mixes up points would answer for another scenario."""
    batch, context, tp = np.array([[1.0], [8.0]]), np.array([1.0, 2.0, 3.0]), 2.0
    whole = scenario("llama-3.1-8b", "8xh100-sxm", Decode(batch=batch, context=context), Plan(tp=tp))
    part = whole.at(slice(2, 5))
    assert isinstance(part, Scenario)
    assert isinstance(part.task, Decode)
    assert np.array_equal(part.task.batch, [1.0, 8.0, 8.0])
    assert np.array_equal(part.task.context, [3.0, 1.0, 2.0])
    assert part.plan.tp == tp


def test_an_encoder_is_asked_for_no_more_tokens_than_it_takes() -> None:
    """The usual task of a model must be one that it can do: CLIP's text encoder has 77 positions, not 512."""
    assert scenario("clip-vit-large-patch14", "t4").task.sizes()["seq"] == 77
    assert scenario("bert-large", "t4").task.sizes()["seq"] == 512


def test_a_generation_that_nobody_sized_fits_the_models_context() -> None:
    """A first run without sizes must not end in a warning: GPT-2 has 1,024 positions, Whisper hears 1,500 and says 448."""
    for name, prompt in (("gpt2", 896), ("llama-3.1-8b", 1024), ("whisper-large-v3", 1500), ("t5-large", 1024)):
        est = rp.estimate(name, on="h100-sxm")
        assert est.scenario.task.sizes() == {"batch": 1, "prompt": prompt, "output": 128}
        assert not est.warnings


@pytest.mark.parametrize(
    ("model", "on", "task", "plan", "named"),
    [
        (3, "l4", None, None, "model is 3"),
        ("gpt2", None, None, None, "on is None"),
        ("gpt2", "l4", rp.Decode, None, "task is <class"),
        ("gpt2", "l4", None, {"tp": 2}, "plan is {'tp': 2}"),
    ],
)
def test_what_is_of_another_kind_is_refused_in_a_sentence(
    model: object, on: object, task: object, plan: object, named: str
) -> None:
    """design §10: errors say what is wrong; a traceback from inside does not."""
    with pytest.raises(RidgepointError, match=named):
        scenario(model, on, task, plan)  # type: ignore[arg-type]
    with pytest.raises(RidgepointError, match=r"decode\.batch is"):
        rp.Decode(batch=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", [rp.Forward(batch=1, image_px=448), rp.Train(batch=8, image_px=224)])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen2.5-vl-7b"])
def test_a_model_of_tokens_takes_no_image(model, task):
    """The side of an image was taken and left out: the answer was that of 512 tokens of text."""
    with pytest.raises(RidgepointError, match="takes no --image-px"):
        rp.estimate(model, on="h100-sxm", task=task)
