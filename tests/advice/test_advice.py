"""Advice ranks what lifts the limit, keeps what it is told to keep, and never sums gains that overlap (design §6)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.advice.remedies import Limits, change_spread
from ridgepoint.errors import RidgepointError
from ridgepoint.techniques.registry import find_technique, parse, techniques
from ridgepoint.techniques.technique import conflict

DECODE: dict[str, Any] = {"model": "llama-3.1-70b", "on": "4xh100-sxm", "task": rp.Decode(batch=8, context=32768)}


@pytest.fixture(scope="module")
def found() -> rp.Advice:
    return rp.advise(**DECODE)


def test_every_technique_is_tried_once_and_either_helps_or_has_a_reason(found):
    """Design §6: `advise` tries all that apply; what does not apply says why."""
    assert [r.technique.name for r in found.tried] == list(techniques())
    assert all(r.applies or r.reason for r in found.tried)
    assert len(found.remedies) + len(found.presuming) + len(found.useless) + len(found.refused) == len(found.tried)


def test_remedies_are_ranked_by_the_objective_and_all_help(found):
    gains = [found.gain(r) for r in found.remedies]
    assert gains == sorted(gains, reverse=True)
    assert min(gains) > 1.0


def test_a_remedy_is_what_estimate_says_with_the_technique_applied(found):
    """Independent road: `rp.estimate(apply=…)` of the same scenario."""
    best = found.remedies[0]
    again = rp.estimate(**DECODE, apply=[best.technique.name])
    assert best.speedup == pytest.approx(found.baseline.time_s / again.time_s)
    low, high = best.interval
    assert low <= best.speedup <= high


def test_what_both_runs_share_does_not_widen_the_interval(found):
    """The same run against itself has no uncertainty left."""
    assert change_spread(found.baseline.cost, found.baseline.cost) == 0.0


def test_the_waterfall_takes_compatible_steps_with_gains_on_top(found):
    """The product of the steps' gains is the gain of all of them together."""
    together = 1.0
    for step in found.steps:
        together *= step.gain
    last = found.steps[-1].remedy.changed
    assert together == pytest.approx(found.baseline.time_s / last.time_s)
    used = [parse(text)[0] for text in last.scenario.techniques]
    assert not [1 for i, a in enumerate(used) for b in used[:i] if conflict(a, b)]


def test_combinations_respect_conflicts(found):
    for combination in found.combinations:
        used = [parse(text)[0] for text in combination.techniques]
        assert not [1 for i, a in enumerate(used) for b in used[:i] if conflict(a, b)]


def test_quality_and_training_are_respected():
    exact = rp.advise(**DECODE, quality="exact", training_free=True)
    assert all(r.technique.grade == "exact" and r.technique.training_free for r in exact.remedies)
    assert any("--quality any" in r.reason for r in exact.refused)


def test_limits_on_memory_refuse_what_exceeds_them(found):
    """A memory limit just below the baseline's leaves only what shrinks it."""
    limit = float(found.baseline.memory.total_bytes) * 0.99
    tight = rp.advise(**DECODE, memory_bytes=limit)
    assert all(float(r.changed.memory.total_bytes) <= limit for r in tight.remedies)
    assert any("memory" in r.reason for r in tight.refused)


def test_what_makes_a_model_fit_comes_first():
    """A 70B in 16 bits on one 80 GB device: whatever fits it ranks before whatever is merely faster."""
    found = rp.advise("llama-3.1-70b", on="h100-sxm", task=rp.Decode(batch=1, context=2048), quality="any")
    assert not found.baseline.memory.fits
    fits = [r.fits for r in found.remedies]
    assert fits == sorted(fits, reverse=True)


def test_steps_lead_to_a_run_that_fits():
    """A run that cannot start gains nothing from being faster: bytes come first until it fits, and it keeps fitting."""
    found = rp.advise("llama-3.1-70b", on="h100-sxm", task=rp.Train(batch=8, seq=4096))
    assert not any(r.fits for r in found.remedies)
    sizes = [r.memory_ratio for r in found.remedies]
    assert sizes == sorted(sizes)
    fits = [step.remedy.fits for step in found.steps]
    assert fits[-1]
    assert fits == sorted(fits)


def test_the_document_has_the_contracts_keys(found):
    """Design §10, advise."""
    said = found.to_dict()
    json.dumps(said, allow_nan=False)
    assert {"baseline", "remedies", "combinations"} <= said.keys()
    keys = "technique parameters applies reason speedup throughput_gain memory_ratio fits quality papers evidence"
    assert all(set(keys.split()) <= remedy.keys() for remedy in said["remedies"])
    assert len(said["remedies"]) == len(techniques())


def test_hardware_is_compared_on_the_same_run(found):
    part = found.faster_parts[0]
    assert 1.0 < part.speedup < part.infinite
    assert part.speedup <= 2.0
    for other in found.other_machines:
        assert other.estimate.scenario.machine.devices == 4
        assert other.speedup > 1.0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"quality": "good"}, "exact"),
        ({"objective": "speed"}, "latency"),
        ({"task": rp.Decode(batch=np.array([1.0, 2.0]))}, "sweep"),
    ],
)
def test_bad_questions_are_refused_in_one_sentence(change, word):
    with pytest.raises(RidgepointError) as caught:
        rp.advise(**{**DECODE, **change})
    assert word in f"{caught.value.message} {caught.value.hint}"


def test_limits_name_the_grade_that_is_too_low():
    assert Limits(quality="exact").allows(find_technique("kv-quantization"))
    assert not Limits(quality="any").allows(find_technique("kv-quantization"))
