"""Smaller models: what falls and what stays (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import SelfAttention
from ridgepoint.models.parameters import total_parameters
from ridgepoint.scenario import scenario
from ridgepoint.tasks import Task
from ridgepoint.techniques.pruning import fewer_heads
from ridgepoint.techniques.registry import applied

TABLES = 2 * (2 * 32000 + 64) * 4096
ONE, LONG = rp.Decode(batch=1, context=4096), rp.Prefill(batch=1, prompt=4096)


def run(task: Task, *apply: str, model: str = "llama-2-7b", machine: str = "h100-sxm") -> rp.Estimate:
    return rp.estimate(model, on=machine, task=task, apply=apply)


@pytest.mark.parametrize("task", [ONE, LONG])
def test_pruned_heads_and_neurons_help_every_phase(task: Task) -> None:
    before, after = run(task), run(task, "structured-pruning:heads=0.5,neurons=0.5")
    assert 1.3 < before.time_s / after.time_s < 2.0
    assert after.memory["kv"] == pytest.approx(0.5 * before.memory["kv"])


def test_llama_nas_gains_no_more_than_its_bytes() -> None:
    """1.5 times fewer weights give 1.3 times the tokens (llama-nas): the rest of a step stays."""
    pruned = run(ONE, "structured-pruning:heads=1,neurons=0.5")
    bytes_ratio = run(ONE).memory["weights"] / pruned.memory["weights"]
    assert 1.3 < bytes_ratio < 1.6
    assert 1.0 < run(ONE).time_s / pruned.time_s < bytes_ratio


def test_heads_leave_in_groups_that_the_devices_divide() -> None:
    given = scenario("llama-3.1-70b", "8xh100-sxm", "decode")
    pruned = applied(given, ["structured-pruning:heads=0.6,neurons=1"])
    mixer = pruned.model.main.layers[0][0].mixer  # type: ignore[union-attr]
    assert isinstance(mixer, SelfAttention)
    assert (mixer.heads, mixer.kv_heads) == (64, 8), "8 devices need 8 key-value heads"
    assert fewer_heads(SelfAttention(32, 1, 64), 0.5) == SelfAttention(16, 1, 64)


def test_dropping_attention_keeps_its_feed_and_loses_its_cache() -> None:
    before, after = run(ONE), run(ONE, "depth-pruning:layers=1,attention_dropped=0.5")
    assert after.memory["kv"] == pytest.approx(0.5 * before.memory["kv"])
    assert after.memory["weights"] > 0.75 * before.memory["weights"]


def test_depth_scales_time_at_any_batch() -> None:
    for batch in (1, 64):
        task = rp.Decode(batch=batch, context=2048)
        assert 1.7 < run(task).time_s / run(task, "depth-pruning:layers=0.5").time_s < 2.0


def test_a_vocabulary_matters_to_small_models_and_longer_texts_cost_it() -> None:
    small, texts = run(ONE, "vocabulary-pruning", model="llama-3.2-1b"), "vocabulary-pruning:kept=0.25,fertility=1.5"
    before = run(ONE, model="llama-3.2-1b")
    assert small.time_s < before.time_s < run(ONE, texts, model="llama-3.2-1b").time_s
    assert before.memory["weights"] - small.memory["weights"] == pytest.approx(0.75 * 2 * 128256 * 2048, rel=0.01)


def test_a_student_is_that_model() -> None:
    student = run(ONE, "distilled-student:model=llama-3.2-1b", model="llama-3.1-8b")
    assert student.time_s == run(ONE, model="llama-3.2-1b").time_s


@pytest.mark.parametrize(
    ("student", "why"),
    [
        ("llama-3.1-70b", "no smaller"),
        ("resnet50", "another kind"),
        ("bert-base", "does not do"),
        ("no-such", "unknown"),
    ],
)
def test_what_cannot_stand_in_is_refused(student: str, why: str) -> None:
    with pytest.raises(RidgepointError, match=why):
        run(ONE, f"distilled-student:model={student}", model="llama-3.1-8b")


def test_shared_weights_save_memory_and_no_time() -> None:
    before, after = run(ONE), run(ONE, "layer-weight-sharing:uses=4")
    assert after.time_s == before.time_s
    assert after.memory["weights"] == pytest.approx(before.memory["weights"] * 0.25 + 0.75 * TABLES)


def test_parameters_of_a_pruned_model_add_up() -> None:
    """Half the neurons of every layer are half the feed-forward parameters."""
    given = scenario("llama-2-7b", "h100-sxm", ONE)
    pruned = applied(given, ["structured-pruning:heads=1,neurons=0.5"]).model
    feed = 32 * 3 * 4096 * 11008
    assert total_parameters(given.model) - total_parameters(pruned) == feed / 2  # type: ignore[arg-type]
