"""Memory over the simulated schedule against the ledger's closed form, stage by stage (design §3)."""

from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.tasks.layout import execution
from ridgepoint.tasks.memory import stage_ledgers
from ridgepoint.tasks.planned import resolved
from ridgepoint.training.timeline import has_pipeline, memory_line, timeline

SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "gpipe"},
    {"schedule": "1f1b"},
    {"schedule": "interleaved", "chunks": 2},
    {"schedule": "interleaved", "chunks": 4},
    {"schedule": "zero_bubble"},
    {"schedule": "zero_bubble_2"},
]


def step(batch=32, **plan):
    task = rp.Train(batch=batch, seq=4096)
    return rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=task, plan=rp.Plan(**{"pp": 4, "tp": 2, **plan}))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("recompute", ["none", "full", "sqrt"])
@pytest.mark.parametrize("stages", ["uniform", "balanced"])
def test_the_peak_of_every_stage_is_its_ledger(schedule, recompute, stages):
    est = step(recompute=recompute, stages=stages, **schedule)
    line = memory_line(est, timeline(est))
    scenario, layout = est.scenario, est.built.layout
    run, _ = execution(scenario.model, scenario.plan, layout, True)
    plan = resolved(scenario.model, scenario.machine, run, layout, scenario.task, scenario.plan)
    ledgers = stage_ledgers(scenario.model, scenario.machine, run, layout, scenario.task, plan)
    for one, ledger in zip(line.stages, ledgers, strict=True):
        assert one.peak_bytes == pytest.approx(float(ledger.total_bytes))
    whole = float(est.memory.total_bytes)
    assert line.peak_bytes == pytest.approx(whole)


@pytest.mark.parametrize("micro", [1, 4])
def test_the_ledger_is_of_one_stage(micro):
    """The first stage's activations and the last one's logits are never on one device: their sum is up to 9 % too much."""
    est = step(micro_batch=micro, schedule="interleaved", chunks=2)
    line = memory_line(est, timeline(est))
    fullest = line.stages[line.fullest]
    assert {name: float(size) for name, size in est.memory.entries.items() if name != "activations"} == pytest.approx(
        fullest.stays
    )


def test_a_sweep_has_the_ledger_of_each_of_its_points():
    """scalar ≡ array where the fullest stage is the first at some points and the last at others."""
    depths = np.array([1.0, 2.0, 4.0, 8.0])
    both = step(pp=depths, dp=1.0, tp=1.0, micro_batch=2)
    assert {float(x) > 0.0 for x in np.asarray(both.memory["logits"])} == {True, False}
    for i, pp in enumerate(depths):
        one = step(pp=float(pp), dp=1.0, tp=1.0, micro_batch=2)
        for name, size in one.memory.entries.items():
            assert float(np.broadcast_to(both.memory[name], depths.shape)[i]) == pytest.approx(float(size)), name


def test_memory_is_empty_of_activations_at_begin_and_end():
    est = step()
    for one in memory_line(est, timeline(est)).stages:
        stays = sum(one.stays.values())
        assert one.bytes[-1] == pytest.approx(stays)
        assert one.bytes[0] >= stays
        assert list(one.start_s) == sorted(one.start_s)


def test_offloaded_activations_have_no_line():
    est = step(offload_activations="host")
    with pytest.raises(rp.RidgepointError, match="do not stay"):
        memory_line(est, timeline(est))


def test_one_stage_has_no_pipeline():
    assert not has_pipeline(step(pp=1))
    assert has_pipeline(step())
