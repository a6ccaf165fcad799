"""`plan train`: what it finds is the best of what it searched, and its figures are those of the estimate (design §10)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.training.answer import measure
from ridgepoint.training.layouts import model_flop
from ridgepoint.training.planner import implied, plan_train
from ridgepoint.training.search import search, step_seconds
from ridgepoint.training.space import base_plan, sweeps

MODEL, MACHINE, TASK = find_model("llama-3.2-1b"), find_machine("8xa100-sxm-80gb"), Train(batch=16, seq=2048)


@pytest.fixture(scope="module")
def found():
    return plan_train(MODEL, on=MACHINE, batch=16, seq=2048, tokens=1e12)


def test_the_search_times_a_layout_as_the_estimate_does():
    """Leaving out who is responsible must not change a time: random layouts of every schedule."""
    rng = np.random.default_rng(0)
    for sweep in sweeps(MODEL, MACHINE, 16, 2048):
        for i in rng.integers(0, sweep.size, 3):
            plan = Plan(**sweep.plan(int(i)))
            alone = rp.estimate(MODEL, on=MACHINE, task=TASK, plan=plan).time_s
            assert float(step_seconds(MODEL, MACHINE, TASK, plan)) == pytest.approx(alone)


def test_the_best_layout_is_the_fastest_that_fits_of_all(found):
    """Against estimates of the whole space, one call per sweep."""
    fastest = np.inf
    for sweep in sweeps(MODEL, MACHINE, 16, 2048):
        est = rp.estimate(MODEL, on=MACHINE, task=TASK, plan=Plan(**sweep.plan(slice(None))))
        fastest = min(fastest, float(np.min(np.where(est.memory.fits, est.time_s, np.inf))))
    assert found.best.step_time_s == pytest.approx(fastest)
    assert found.searched == sum(s.size for s in sweeps(MODEL, MACHINE, 16, 2048))


def test_layouts_come_best_first_and_differ(found):
    times = [layout.step_time_s for layout in found.layouts]
    assert times == sorted(times)
    degrees = [
        tuple(layout.to_dict()[n] for n in ("tp", "pp", "dp", "ep", "cp", "schedule")) for layout in found.layouts
    ]
    assert len(set(degrees)) == len(degrees)
    assert all(layout.estimate.memory.fits for layout in found.layouts)


def test_the_document_has_the_promised_keys(found):
    document = found.to_dict()
    first = document["layouts"][0]
    for key in (
        "tp",
        "pp",
        "dp",
        "ep",
        "cp",
        "zero_stage",
        "micro_batch",
        "recompute",
        "mfu",
        "step_time_s",
        "memory_gb",
    ):
        assert key in first
    assert document["searched"] == found.searched
    assert 0.0 < first["mfu"] < 1.0
    assert first["run"]["days"] == pytest.approx(
        1e12 / (16 * 2048) * first["step_time_s"] / 86400 / document["goodput"]["fraction"]
    )


def test_model_flop_is_three_forward_passes():
    """6·N per token for the matrices, and 6·layers·width·sequence for the causal half of the pairs (8 B: Llama 3)."""
    model = find_model("llama-3.1-8b")
    matrices = 6 * (8.03e9 - 128256 * 4096)
    pairs = 6 * 32 * 4096 * 8192
    assert model_flop(model, Train(batch=1, seq=8192)) / 8192 == pytest.approx(matrices + pairs, rel=2e-3)


def test_less_memory_never_makes_a_faster_plan(found):
    tight = plan_train(MODEL, on=MACHINE, batch=16, seq=2048, max_memory=6e9)
    assert tight.best.memory_bytes <= 6e9
    assert tight.best.step_time_s >= found.best.step_time_s * (1 - 1e-9)


def test_other_objectives_are_at_least_as_good_at_theirs(found):
    def dollars(plan):
        return plan.best.step_time_s * float(plan.best.estimate.devices)

    cheap = plan_train(MODEL, on=MACHINE, batch=16, seq=2048, objective="cost")
    assert dollars(cheap) <= dollars(found) * (1 + 1e-9)
    frugal = plan_train(MODEL, on=MACHINE, batch=16, seq=2048, objective="energy")
    assert frugal.best.estimate.energy_j <= found.best.estimate.energy_j * (1 + 1e-9)


@pytest.mark.parametrize("objective", ["cost", "energy"])
def test_fewer_layouts_shown_do_not_change_the_best(objective):
    """The best one may be slow: a layout on few devices must not be left out before it is priced."""
    few, many = (plan_train(MODEL, on=MACHINE, batch=16, seq=2048, objective=objective, top=n) for n in (1, 12))
    assert measure(few.best, objective) == pytest.approx(measure(many.best, objective), rel=1e-3)


def test_failures_are_those_of_the_devices_in_use():
    """A layout on two of eight devices fails a quarter as often."""
    cheap = plan_train(MODEL, on=MACHINE, batch=16, seq=2048, objective="cost")
    assert cheap.goodput.mtbf_s == pytest.approx(3600.0 * 50_000 / float(cheap.best.estimate.devices))


def test_twice_the_rate_of_everything_is_twice_the_speed(found):
    """Time is homogeneous of degree −1 in the rates (design §3)."""
    cost = found.best.estimate.cost
    speed = dict.fromkeys({name for demand in cost.demands.values() for p in demand.phases for name in p.seconds}, 2.0)
    assert cost.timing_at(speed).time_s == pytest.approx(cost.time_s / 2)


def test_nothing_fits_says_the_smallest_change_that_would():
    with pytest.raises(RidgepointError) as error:
        plan_train("llama-3.1-70b", on="8xa100-sxm-40gb", batch=16, seq=4096)
    assert error.value.kind == "does_not_fit"
    assert "it would fit with" in error.value.hint
    assert "devices" in error.value.hint


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"objective": "glory"}, "bad_option"),
        ({"wings": 2}, "bad_plan"),
        ({"tp": 3}, "bad_plan"),
        ({"batch": 0}, "bad_size"),
    ],
)
def test_bad_input_is_refused(arguments, kind):
    given: dict[str, Any] = {"on": MACHINE, "batch": 16, "seq": 2048, **arguments}
    with pytest.raises(RidgepointError) as error:
        plan_train(MODEL, **given)
    assert error.value.kind == kind


def test_fixed_fields_reach_every_layout():
    plan = plan_train(MODEL, on=MACHINE, batch=16, seq=2048, tp=2, optimizer="adam8bit", top=3)
    assert all(layout.plan.tp == 2.0 and layout.plan.optimizer == "adam8bit" for layout in plan.layouts)


def test_progress_counts_every_layout():
    seen = []
    space = sweeps(MODEL, MACHINE, 16, 2048)
    answer = search(MODEL, MACHINE, TASK, Plan(), space, 1e12, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (answer.searched, answer.searched)
    assert answer.fitting == answer.searched
    assert replace(answer, best=()).searched == answer.searched


def more_of(**more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Without, and with."""
    return {}, more


def test_planned_recomputation_is_never_slower_than_parts_of_the_layers():
    """The search is over parts of full recomputation; the layouts that it finds are then planned op by op."""
    asked: dict[str, Any] = {
        "on": "8xa100-sxm-40gb",
        "batch": 64,
        "seq": 4096,
        "top": 3,
        "pp": 1,
        "tp": 1,
        "zero_stage": 3,
    }
    parts, planned = (plan_train("llama-3.1-8b", **asked, **more) for more in more_of(recompute="planned"))
    assert planned.best.plan.recompute == "planned"
    assert planned.best.estimate.memory.fits
    assert planned.best.step_time_s <= parts.best.step_time_s * (1 + 1e-9)


def test_a_plan_over_short_sequences_counts_data_alone():
    """Tokens per second, utilization and the length of the run are those of data; padding is no work of the model."""
    asked: dict[str, Any] = {"on": "8xa100-sxm-80gb", "batch": 64, "seq": 2048, "top": 1, "pp": 1, "tokens": 1e9}
    full, padded = (plan_train("llama-3.2-1b", **asked, **more) for more in more_of(lengths="512", padding="padded"))
    one, other = full.best.to_dict(), padded.best.to_dict()
    assert other["tokens_per_s"] == pytest.approx(one["tokens_per_s"] / 4, rel=0.01)
    assert other["mfu"] == pytest.approx(one["mfu"] / 4, rel=0.01)
    assert padded.run(padded.best)["steps"] == pytest.approx(4 * (full.run(full.best)["steps"] or 0.0))


def test_layers_of_stages_say_how_many_stages_there_are():
    """Otherwise the stages would be left out in silence wherever another number of them was faster."""
    asked: dict[str, Any] = {"on": MACHINE, "batch": 16, "seq": 2048, "top": 3}
    found = plan_train(MODEL, **asked, stages="3,5,5,3")
    assert {(layout.plan.pp, layout.plan.stages) for layout in found.layouts} == {(4.0, (3.0, 5.0, 5.0, 3.0))}
    with pytest.raises(RidgepointError, match="do not make up the 16 layers"):
        plan_train(MODEL, **asked, stages="3,5,5")
    with pytest.raises(RidgepointError, match="in pp = 2"):
        plan_train(MODEL, **asked, stages="3,5,5,3", pp=2)


def test_stages_that_do_not_fit_are_no_plan():
    """Searched with equal stages, a plan whose uneven ones need more than a device has would be a wrong answer."""
    asked: dict[str, Any] = {"on": "8xa100-sxm-40gb", "batch": 32, "seq": 4096, "tp": 2, "top": 2}
    even = plan_train("llama-3.1-8b", **asked, stages="8,8,8,8", dp=1)
    assert all(layout.estimate.memory.fits for layout in even.layouts)
    with pytest.raises(RidgepointError, match="it would fit with --stages balanced"):
        plan_train("llama-3.1-8b", **asked, stages="29,1,1,1", dp=1)


def test_packed_sequences_are_planned_without_context_parallelism():
    """Packed rows attend on one device: layouts that split them cannot be estimated, and none was asked for."""
    found = plan_train(MODEL, on=MACHINE, batch=32, seq=8192, top=5, lengths="lognormal:1k")
    assert {layout.plan.cp for layout in found.layouts} == {1.0}


@pytest.mark.parametrize("mtbf", [0.0, -1.0, float("nan")])
def test_failures_are_checked_before_anything_is_searched(mtbf):
    def told(*_: Any) -> None:
        raise AssertionError("searched first")

    with pytest.raises(RidgepointError, match="time between failures"):
        plan_train(MODEL, on=MACHINE, batch=16, seq=2048, mtbf_hours=mtbf, progress=told)


@pytest.mark.parametrize(
    "more",
    [
        {"stages": "balanced"},
        {"stages": "balanced", "recompute": "selective", "fused_attention": False},
        {"stages": "3,5,5,3"},
        {"lengths": "lognormal:512:1", "padding": "longest"},
        {"lengths": "lognormal:512:1"},
        {"shard_group": 2},
    ],
)
def test_the_search_ranks_with_what_is_asked(more):
    """Uneven stages, drawn lengths and groups that share states decide the ranking: the search gives the very time and memory
    that the estimate of the layout then has.
    """
    fixed = implied(MODEL, {"tp": 1, **more})
    base, space = base_plan(fixed), sweeps(MODEL, MACHINE, 16, 2048, fixed)
    answer = search(MODEL, MACHINE, TASK, base, space, 0.95 * MACHINE.memory_bytes, keep=60)
    for one in answer.best[::12]:
        est = rp.estimate(MODEL, on=MACHINE, task=TASK, plan=replace(base, **one.plan))
        assert est.time_s == pytest.approx(one.time_s)
        assert est.memory.total_bytes == pytest.approx(one.memory_bytes)


def test_what_gives_the_best_stages_is_looked_for_among_all_layouts():
    """Ranked by even stages first, the best layout with balanced ones can be missed: none of those tried is better."""
    asked: dict[str, Any] = {"on": MACHINE, "batch": 16, "seq": 2048, "pp": 4, "top": 1}
    best = plan_train(MODEL, **asked, stages="balanced").best
    assert isinstance(best.plan.stages, tuple)
    for even in plan_train(MODEL, **{**asked, "top": 20}).layouts:
        same = rp.estimate(MODEL, on=MACHINE, task=TASK, plan=replace(even.plan, stages="balanced", chunks=1.0))
        fits = even.plan.schedule != "interleaved" and same.memory.fits
        assert not fits or best.step_time_s <= same.time_s * (1 + 1e-9)
