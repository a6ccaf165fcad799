"""What training rows leave to their recipes (design §8): stated by Megatron Bridge, and only for its rows."""

from dataclasses import replace

import numpy as np
import pytest

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.evidence.recipes import (
    TAKEN,
    Recipe,
    as_run,
    beside,
    with_further_tokens,
    with_recomputation,
)
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.models.parameters import total_parameters
from ridgepoint.ops import Collective
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.build import build
from ridgepoint.work import ops

MACHINE = find_machine("2x8xh100-sxm")
TASK = Train(batch=64.0, seq=4096.0)
PLAN = Plan(pp=2.0, dp=8.0, ep=8.0, micro_batch=1.0)


def seconds(plan=PLAN, recipe=None, name="qwen3-30b-a3b"):
    model = find_model(name)
    recipe = recipe or Recipe()
    plan = with_recomputation(plan, recipe, model, MACHINE)
    return float(evaluate(as_run(build(model, MACHINE, TASK, plan).device, recipe), MACHINE, strict=True).time_s)


def test_traffic_beside_the_passes_costs_the_multiprocessors_that_it_holds():
    # Hidden completely it would be free; on its own it adds up.
    device = build(find_model("qwen3-30b-a3b"), MACHINE, TASK, PLAN).device
    alone, hidden = (float(evaluate(work, MACHINE, strict=True).time_s) for work in (device, beside(device)))
    none = float(
        evaluate(build(find_model("qwen3-30b-a3b"), MACHINE, TASK, replace(PLAN, ep=1.0)).device, MACHINE).time_s
    )
    assert hidden < alone
    assert 0.0 < TAKEN < 0.2
    assert none > 0.0
    traffic = [op for op in ops(beside(device)) if isinstance(op, Collective) and op.operation == "all_to_all"]
    assert traffic, "what is hidden is still there"


def test_a_plain_exchange_sends_every_copy():
    assert seconds(replace(PLAN, pp=1.0, dp=16.0, ep=16.0), Recipe(every_copy=True)) > seconds(
        replace(PLAN, pp=1.0, dp=16.0, ep=16.0)
    )


def test_recomputed_experts_run_forward_twice():
    base, act, moe = (seconds(recipe=Recipe(again)) for again in ((), ("moe.experts.activation",), ("moe.",)))
    assert base < act < moe
    assert moe / base < 4.0 / 3.0, "attention and head run once"


def test_further_tokens_are_layers_and_heads():
    model = find_model("deepseek-v3")
    more = with_further_tokens(model, 1)
    assert more.main.depth == model.main.depth + 1
    assert more.embedding.vocab == 2 * model.embedding.vocab
    hybrid = with_further_tokens(find_model("nemotron-3-super"), 2)
    assert hybrid.main.depth == find_model("nemotron-3-super").main.depth + 4, (
        "attention and experts are layers of their own"
    )
    assert total_parameters(more) > total_parameters(model)
    assert with_further_tokens(model, 0) is model


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(beside=True)])
def test_a_recipe_keeps_a_step_finite(recipe):
    assert np.isfinite(seconds(recipe=recipe))
