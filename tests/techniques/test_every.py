"""What every technique must hold, built-in or not (design §6)."""

from __future__ import annotations

import doctest
import json
import re
from contextlib import suppress
from functools import cache

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.scenario import Scenario, scenario
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Sample, Task, Train
from ridgepoint.techniques.registry import applied, parse, techniques
from ridgepoint.techniques.technique import Technique, conflict

EVERY = tuple(techniques().values())
# One of these scenarios must take each technique: the contrasts of design §6's advice.
SCENARIOS: dict[str, tuple[str, str, Task, rp.Plan]] = {
    "laptop": ("llama-3.1-8b", "m2-ultra", Decode(batch=1, context=4096), rp.Plan(weights="bf16")),
    "long context": ("llama-3.1-70b", "8xh100-sxm", Generate(batch=4, prompt=131072, output=512), rp.Plan()),
    "decode": ("llama-3.1-8b", "h100-sxm", Decode(batch=32, context=8192), rp.Plan()),
    "one long sequence over a node": (
        "llama-3.1-8b",
        "8xh100-sxm",
        Decode(batch=1, context=524288),
        rp.Plan(tp=1, dp=1, cp=8),
    ),
    "decode on a node": ("llama-3.1-70b", "8xh100-sxm", Decode(batch=32, context=8192), rp.Plan()),
    "prefill": ("llama-3.1-8b", "h100-sxm", Prefill(batch=4, prompt=16384), rp.Plan()),
    "prefill on a node": ("llama-3.1-70b", "8xh100-sxm", Prefill(batch=4, prompt=16384), rp.Plan()),
    "prefill with fp4": ("llama-3.1-8b", "b200-sxm", Prefill(batch=4, prompt=16384), rp.Plan()),
    "unfused attention": ("gpt2-xl", "a100-sxm-80gb", Prefill(batch=4, prompt=1024), rp.Plan(fused_attention=False)),
    "experts": ("mixtral-8x7b", "rtx-4090", Decode(batch=1, context=4096), rp.Plan()),
    "experts on a node": ("mixtral-8x7b", "8xh100-sxm", Decode(batch=8, context=2048), rp.Plan(tp=8)),
    "many experts": ("deepseek-v3", "8xh200", Decode(batch=64, context=4096), rp.Plan(tp=1, dp=8, ep=8)),
    "diffusion": ("sdxl", "h100-sxm", Sample(batch=1), rp.Plan()),
    "diffusion transformer": ("dit-xl-2", "h100-sxm", Sample(batch=1), rp.Plan()),
    "vision": ("vit_large_patch16_224", "h100-sxm", Forward(batch=64), rp.Plan()),
    "recurrent": ("lstm-ptb-medium", "h100-sxm", Forward(batch=16), rp.Plan()),
    "fields": ("fourcastnet", "h100-sxm", Forward(batch=1), rp.Plan()),
    "retrieval": ("flat-sift1m", "h100-sxm", Forward(batch=1), rp.Plan()),
    "vision, eager": ("resnet50", "h100-sxm", Forward(batch=8), rp.Plan(compiled=False)),
    "encoder": ("bert-large", "h100-sxm", Forward(batch=64, seq=512), rp.Plan(compiled=False)),
    "training": ("llama-2-13b", "8x8xa100-sxm-80gb", Train(batch=256, seq=4096), rp.Plan(tp=4, pp=2, zero_stage=1)),
    "training experts": ("mixtral-8x7b", "8x8xh100-sxm", Train(batch=256, seq=4096), rp.Plan(tp=2, pp=4, ep=8)),
    "fine-tuning": ("llama-3.1-8b", "h100-sxm", Train(batch=8, seq=2048), rp.Plan()),
    "training, offloaded": (
        "gpt-neox-20b",
        "4xh100-sxm",
        Train(batch=4, seq=512),
        rp.Plan(zero_stage=3, recompute="full", offload_optimizer="host"),
    ),
    "training, nothing hidden": (
        "llama-2-13b",
        "8x8xa100-sxm-80gb",
        Train(batch=64, seq=2048),
        rp.Plan(tp=4, overlap_gradients=False, sequence_parallel=False),
    ),
    "training, gathers not hidden": (
        "llama-2-13b",
        "8x8xa100-sxm-80gb",
        Train(batch=64, seq=2048),
        rp.Plan(zero_stage=3, overlap_parameters=False),
    ),
    "training, unfused": ("llama-2-7b", "8xa100-sxm-80gb", Train(batch=8, seq=2048), rp.Plan(fused_attention=False)),
    "training a network": ("resnet50", "h100-sxm", Train(batch=64, image_px=224), rp.Plan()),
    "training eagerly": ("bert-large", "8xa100-sxm-80gb", Train(batch=64, seq=512), rp.Plan(compiled=False)),
}


@cache
def given(name: str) -> Scenario:
    model, machine, task, plan = SCENARIOS[name]
    return scenario(model, machine, task, plan)


def takers(found: Technique) -> list[str]:
    return [name for name in SCENARIOS if not found.cannot(given(name), found.values({}))]


@pytest.mark.parametrize("found", EVERY, ids=lambda t: t.name)
def test_it_applies_somewhere_and_every_refusal_has_a_reason(found):
    """A technique that no ordinary scenario takes is a technique nobody can use."""
    reasons = {name: found.cannot(given(name), found.values({})) for name in SCENARIOS}
    assert "" in reasons.values(), reasons


@pytest.mark.parametrize("found", EVERY, ids=lambda t: t.name)
def test_what_it_changes_can_be_estimated(found):
    """Positive, finite, never below its own physical limit, shares that still sum to 1 (design §3)."""
    for name in takers(found)[:3]:
        est = rp.Estimate(applied(given(name), [found.name]))
        assert np.isfinite(est.time_s)
        assert est.time_s >= est.bound_s > 0.0
        assert sum(est.shares.values()) == pytest.approx(1.0)
        assert est.memory.total_bytes > 0.0
        assert all(np.all(np.asarray(size) >= 0.0) for size in est.memory.entries.values()), est.memory.entries
        assert est.scenario.techniques == (found.name,)
        assert any(found.name in line for line in est.citations)


@pytest.mark.parametrize("found", [t for t in EVERY if t.neutral is not None], ids=lambda t: t.name)
def test_at_neutral_values_nothing_changes(found):
    """A technique that removes nothing, accepts nothing extra, moves nothing, must cost and bring nothing."""
    for name in takers(found)[:2]:
        before = rp.Estimate(given(name))
        after = rp.Estimate(found.apply(given(name), found.neutral))
        assert after.time_s == pytest.approx(before.time_s, rel=1e-6)
        assert after.memory.total_bytes == pytest.approx(before.memory.total_bytes, rel=1e-6)


@pytest.mark.parametrize("found", EVERY, ids=lambda t: t.name)
def test_no_parameter_is_a_speed_up(found):
    """Design §6: a technique whose parameter is a speed-up is a defect."""
    for parameter in found.parameters:
        words = f"{parameter.name} {parameter.unit} {parameter.meaning}".lower()
        assert not re.search(r"speed-?up|\bfaster\b|times as fast|\bgain\b|\blatency\b|\bthroughput\b", words), words


@pytest.mark.parametrize("found", EVERY, ids=lambda t: t.name)
def test_numbers_sweep(found):
    """Scalars and arrays give the same (design §2), for every parameter that may sweep."""
    numbers = [p for p in found.parameters if isinstance(p.default, float) and not p.one_value]
    name = takers(found)[0]
    for parameter in numbers:
        try:
            swept = found.apply(given(name), {parameter.name: np.array([parameter.default, parameter.default])})
        except RidgepointError as error:
            pytest.fail(f"{parameter.name}: {error}")
        one = rp.Estimate(found.apply(given(name), {}))
        assert np.broadcast_to(rp.Estimate(swept).time_s, (2,)) == pytest.approx([one.time_s] * 2)


@pytest.mark.parametrize("found", EVERY, ids=lambda t: t.name)
def test_it_is_documented(found):
    """The docstring says what changes, and shows it in a doctest; papers and quality are there."""
    assert len(found.summary) > 40
    assert doctest.DocTestParser().get_examples(found.doc), "a doctest shows what it changes"
    assert found.quality
    assert found.mechanism
    assert found.papers
    for parameter in found.parameters:
        assert parameter.meaning
        parameter.read(found.name, parameter.default)


@pytest.mark.parametrize("found", EVERY, ids=lambda t: t.name)
def test_it_is_read_as_it_is_written(found):
    again, values = parse(found.written({p.name: p.default for p in found.parameters}))
    assert again is found
    assert again.values(values) == found.values({})


@pytest.mark.parametrize("found", EVERY, ids=lambda t: t.name)
def test_pairs_compose_or_say_why_not(found):
    """Design §6: techniques compose. A pair is estimated, in either order, or refused in a sentence; it never breaks."""
    for name in takers(found)[:1]:
        others = [t for t in EVERY if not conflict(t, found) and not t.cannot(given(name), t.values({}))]
        start = EVERY.index(found) % 5
        for other in others[start::5]:
            for pair in ([found.name, other.name], [other.name, found.name]):
                with suppress(RidgepointError):
                    est = rp.Estimate(applied(given(name), pair))
                    assert est.time_s >= est.bound_s > 0.0, pair
                    assert all(np.all(np.asarray(size) >= 0.0) for size in est.memory.entries.values()), pair


def test_papers_exist(shared):
    """Every paper that a technique stands on is one of the 549."""
    rows = (shared / "papers" / "papers.jsonl").read_text("utf-8").splitlines()
    slugs = {json.loads(row)["slug"] for row in rows}
    assert {slug for found in EVERY for slug in found.papers} <= slugs
