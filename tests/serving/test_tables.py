"""Tabulated step times against the cost engine's own answer (within 1 %), and the division of a pass."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.serving.clock import Clock
from ridgepoint.serving.deployment import deployment
from ridgepoint.serving.engines import engines, speeds
from ridgepoint.serving.passes import passes
from ridgepoint.serving.simulate import simulate_requests
from ridgepoint.serving.tables import RISE, Limits, StepTables
from ridgepoint.tasks.build import build
from ridgepoint.work import Seq

CASES = {
    "dense": ("llama-3.1-8b", "h100-sxm", rp.Plan()),
    "tensor parallel": ("llama-3.1-70b", "4xh100-sxm", rp.Plan(weights="fp8")),
    "latent": ("deepseek-v3", "8xh200-sxm", rp.Plan()),
    "attention data parallel": ("deepseek-v3", "8xh200-sxm", rp.Plan(tp=1, dp=8, ep=8)),
    "pipeline": ("mixtral-8x7b", "4xa100-sxm-80gb", rp.Plan(tp=2, pp=2)),
    "windows": ("gpt-oss-20b", "l40s", rp.Plan()),
    "recurrent": ("mamba2-2.7b", "a100-sxm-80gb", rp.Plan()),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=list(CASES))
def case(request):
    name, on, plan = request.param
    model, machine = rp.find_model(name), rp.find_machine(on)
    return passes(model, machine, plan)[0], plan


def seconds(found, work):
    return evaluate(work, found.machine, strict=True).timing_at(speeds(found.machine, engines()["vllm"])).time_s


def test_a_divided_step_is_the_whole_one(case):
    """Shared and own parts of a pass add up to the pass that an estimate evaluates; else an op was lost or done twice."""
    found, plan = case
    batch, context = 64.0, 3000.0
    lane = batch / found.lanes
    parts = Seq(found.shared(lane), found.decoding(lane, context), found.choosing(lane))
    whole = build(found.model, found.machine, rp.Decode(batch=batch, context=context), plan).device
    assert evaluate(parts, found.machine).time_s == pytest.approx(evaluate(whole, found.machine).time_s, rel=1e-9)
    if float(found.layout.pp) == 1.0:
        parts = Seq(found.shared(1024.0), found.reading(1024.0, 0.0), found.choosing(1.0))
        whole = build(found.model, found.machine, rp.Prefill(batch=found.pooled, prompt=1024.0), plan).device
        assert evaluate(parts, found.machine).time_s == pytest.approx(evaluate(whole, found.machine).time_s, rel=1e-9)


def test_tables_are_within_one_per_cent_of_direct_evaluation(case):
    """Mixed steps of random sizes: decode sequences at any context beside one piece of a prompt."""
    found, _ = case
    tables = StepTables(found, engines()["vllm"], Limits(5000, 256, 40_000))
    random = np.random.default_rng(0)
    for _ in range(60):
        lane, context = int(random.integers(1, 256)), float(np.exp(random.uniform(3.0, np.log(40_000.0))))
        tokens, past = int(random.integers(1, 4096)), int(random.choice([0, 0, 512, 5000, 30_000]))
        line, _, _ = tables.decode_line(lane, context)
        decode = tables.shared_s[lane] + tables.choosing_s[lane] + line
        exact = seconds(found, Seq(found.shared(lane), found.decoding(lane, context), found.choosing(lane)))
        assert decode == pytest.approx(float(exact), rel=0.01)
        mixed = tables.shared_s[lane + tokens] + line + tables.read_s(tokens, past) + tables.choosing_s[lane + 1]
        own = Seq(found.decoding(lane, context), found.reading(tokens, past), found.choosing(lane + 1))
        assert mixed == pytest.approx(float(seconds(found, Seq(found.shared(lane + tokens), own))), rel=0.01)


@pytest.mark.parametrize(("prompts", "tokens"), [(2, 1024), (8, 512), (4, 2000)])
def test_several_prompts_of_a_step_are_one_kernel(prompts, tokens):
    """The sum of single prompts less their starts is near what attention over the batch takes."""
    found, _ = passes(rp.find_model("llama-3.1-8b"), rp.find_machine("h100-sxm"), rp.Plan())
    tables = StepTables(found, engines()["vllm"], Limits(9000, 16, 9000))
    device, _, width, _ = Clock(tables).mixed(0, 0.0, [(tokens, 0)] * prompts, prompts)
    assert width == prompts * tokens
    own = Seq(found.reading(tokens, 0.0, prompts), found.choosing(prompts))
    assert device == pytest.approx(float(seconds(found, Seq(found.shared(prompts * tokens), own))), rel=0.01)


def test_a_run_of_decode_steps_is_the_sum_of_its_steps():
    """The line of the step time within a cell of contexts is what its steps follow."""
    found, _ = passes(rp.find_model("llama-3.1-8b"), rp.find_machine("h100-sxm"), rp.Plan())
    clock = Clock(StepTables(found, engines()["vllm"], Limits(600, 64, 9000)))
    device, _, slope, end = clock.decode(32, 2000.0)
    steps = int(end - 2000.0)
    one_by_one = sum(clock.decode(32, 2000.0 + i)[0] for i in range(steps))
    assert steps * device + slope * steps * (steps - 1) / 2 == pytest.approx(one_by_one, rel=1e-9)


def test_every_count_that_is_evaluated_has_its_own_seconds(case):
    """Counts between steep points are evaluated apart from the others and put between them: none may change places."""
    found, _ = case
    tables = StepTables(found, engines()["vllm"], Limits(tokens=700, sequences=64, context=512))
    tokens = np.array([1.0, 2.0, 17.0, 64.0, 65.0, 129.0, 512.0, 513.0, 700.0])
    work = evaluate(found.shared(tokens), found.machine, strict=True).timing_at(
        speeds(found.machine, engines()["vllm"])
    )
    assert tables.shared.time_s[tokens.astype(int)] == pytest.approx(work.everywhere().time_s, rel=RISE)
    for resource, busy in work.everywhere().busy_s.items():
        assert tables.shared.busy_s.get(resource, np.zeros(701))[tokens.astype(int)] == pytest.approx(busy, rel=0.05)


@pytest.mark.parametrize("conditions", [{}, {"sharing": 0.5}, {"power_cap_w": 400.0}])
def test_a_deployment_simulated_again_gives_what_a_new_one_gives(conditions):
    """Tables are kept from one simulation to the next: of other lengths, and back, every answer is that of a new one."""
    given = deployment("llama-3.1-8b", "h100-sxm", **conditions)
    loads = [rp.poisson_requests(4.0, 60, "500", "50"), rp.poisson_requests(2.0, 40, "3000", "20")]
    for load in (*loads, loads[0]):
        again = simulate_requests(given, load)
        new = simulate_requests(deployment("llama-3.1-8b", "h100-sxm", **conditions), load)
        for name, column in new.columns.items():
            assert np.array_equal(again.columns[name], column, equal_nan=True), name
