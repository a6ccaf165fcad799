"""What layers keep and what they compute again: choices against every subset, plans against every assignment (design §3)."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.models.execution import Tokens
from ridgepoint.models.transformer import layer_work
from ridgepoint.ops import Delay
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.activations import kinds_of, segment
from ridgepoint.tasks.build import build
from ridgepoint.tasks.layout import complete, execution
from ridgepoint.tasks.planned import layer_kinds
from ridgepoint.tasks.recomputation import Choice, Kind, Link, again_of, choices, freed_bytes, planned
from ridgepoint.work import Repeat

WHOLE = st.integers(0, 6).map(float)


def by_every_subset(chain, rows):
    """(seconds, freed) of every set of dropped inputs, by walking the chain."""
    places = [i for i, link in enumerate(chain) if link.saved_bytes > 0.0]
    for n in range(len(places)):
        for dropped in itertools.combinations(places[1:], n):
            runs = set()
            for i in dropped:
                last = max(p for p in places if p < i and p not in dropped)
                runs |= set(range(last, i))
            yield sum(rows[i][0] for i in runs), sum(chain[i].saved_bytes for i in dropped)


@given(st.lists(st.tuples(WHOLE, WHOLE), min_size=2, max_size=8))
@settings(deadline=None)
def test_nothing_beats_a_choice(rows):
    chain = [Link(Delay(seconds=t, label=str(i)), 1.0, str(i), s) for i, (t, s) in enumerate(rows)]
    if not any(link.saved_bytes for link in chain):
        return
    found = choices(chain, lambda op: rows[int(op.label)][0])
    every = list(by_every_subset(chain, rows))
    for choice in found:
        assert (choice.time_s, choice.freed_bytes) in every
        assert freed_bytes(chain, choice.again) == choice.freed_bytes
    for time, freed in every:  # no subset lies below the hull
        under = [(a, b) for a, b in itertools.pairwise(found) if a.freed_bytes <= freed <= b.freed_bytes]
        for a, b in under:
            part = (freed - a.freed_bytes) / max(b.freed_bytes - a.freed_bytes, 1e-9)
            assert time >= a.time_s + part * (b.time_s - a.time_s) - 1e-6


STEPS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), max_size=3)
KINDS = st.lists(st.tuples(st.integers(1, 4), STEPS), min_size=1, max_size=2)


@given(KINDS, st.integers(1, 20))
@settings(deadline=None)
def test_planned_layers_cost_at_most_one_layer_more_than_any_assignment(rows, excess):
    """The linear program's optimum with its last step on whole layers: at most one step beyond the best whole assignment."""
    kinds = []
    for layers, steps in rows:
        hull, slope = [Choice((), 0.0, 0.0)], 0.0
        for gain, more in steps:
            slope = max(slope, more)
            hull.append(Choice((), hull[-1].time_s + slope * gain, hull[-1].freed_bytes + gain))
        kinds.append(Kind(float(layers), 1.0, hull))
    found = planned(kinds, float(excess))

    def taken(parts):
        pairs = [
            (kind, part * kind.layers, kind.choices[c])
            for kind, each in zip(kinds, parts, strict=True)
            for part, c in each
        ]
        used = [choice.freed_bytes for _, n, choice in pairs if n > 1e-9]
        freed = sum(n * choice.freed_bytes for _, n, choice in pairs) - max(used, default=0.0)
        return freed, sum(n * choice.time_s for _, n, choice in pairs)

    ways = itertools.product(
        *(itertools.combinations_with_replacement(range(len(k.choices)), int(k.layers)) for k in kinds)
    )
    every = [taken([[(1 / len(one), c) for c in one] for one in way]) for way in ways]
    possible = [time for freed, time in every if freed >= excess - 1e-9]
    freed, time = taken(found)
    if not possible:
        assert all(each == ((1.0, len(k.choices) - 1),) for each, k in zip(found, kinds, strict=True))
        return
    assert freed >= excess - 1e-6
    last = max(b.time_s - a.time_s for k in kinds for a, b in itertools.pairwise([*k.choices, k.choices[-1]]))
    assert time <= min(possible) + last + 1e-6


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-30b-a3b", "nemotron-3-nano", "gemma-2-9b", "t5-large"])
def test_the_leanest_choice_of_a_layer_is_full_recomputation(name):
    """Only the layer's input stays; what runs again is less than all of it, for its last products are not needed."""
    model, machine = find_model(name), find_machine("8xh100-sxm")
    plan, task = Plan(tp=1, dp=8), Train(batch=8, seq=2048)
    layout = complete(model, machine, plan, True)
    run, _ = execution(model, plan, layout, True)
    kinds = layer_kinds(model, machine, run, layout, task, plan)
    lean = replace(plan, recompute="planned", recomputed=tuple(((1.0, k.choices[-1].again),) for k in kinds))
    full, least = (
        build(model, machine, task, p).ledger["activations"] for p in (replace(plan, recompute="full"), lean)
    )
    assert least == pytest.approx(full, rel=0.12)
    assert least <= full * (1.0 + 1e-9)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-30b-a3b", "nemotron-3-nano", "gemma-2-9b"])
def test_what_runs_again_takes_what_the_choice_says(name):
    model, machine = find_model(name), find_machine("8xh100-sxm")
    plan, task = Plan(tp=2, dp=4), Train(batch=4, seq=2048)
    layout = complete(model, machine, plan, True)
    run, _ = execution(model, plan, layout, True)
    stack, tokens = model.main, Tokens(1.0, 2048.0, 2048.0, keep=2048.0)
    kinds = layer_kinds(model, machine, run, layout, task, plan)
    for kind, layer in zip(kinds, kinds_of(stack), strict=True):
        work = Repeat(3.0, layer_work(layer, stack.hidden, tokens, run, stack.causal, "layers", 2048.0))
        for choice in kind.choices:
            time = evaluate(again_of(work, "layers", choice.again), machine).time_s
            assert time == pytest.approx(3.0 * choice.time_s)


def test_planned_is_never_slower_than_full_and_fits_where_full_does():
    for micro, tp in ((2, 1), (4, 1), (4, 2), (6, 2)):
        task, base = Train(batch=48, seq=8192), Plan(zero_stage=3, micro_batch=micro, tp=tp)
        full, found = (
            rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=task, plan=replace(base, recompute=r))
            for r in ("full", "planned")
        )
        if full.memory.fits:
            assert found.memory.fits
        assert found.time_s <= full.time_s
        assert found.memory.total_bytes <= max(full.memory.total_bytes, found.memory.usable_bytes)


def test_more_memory_never_makes_a_plan_slower():
    def time(fraction):
        plan = Plan(zero_stage=3, micro_batch=4, recompute="planned", memory_fraction=fraction)
        return rp.estimate("llama-3.1-8b", on="8xh200", task=Train(batch=32, seq=8192), plan=plan).time_s

    times = [time(fraction) for fraction in (0.55, 0.65, 0.75, 0.85, 0.95)]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]


def test_segments_are_the_best_of_all_sizes():
    """k = √(L · input/whole) against trying every k (Chen et al. 2016)."""
    for layers, inputs, whole in ((64, 1.0, 1.0), (80, 1.0, 17.0), (320, 2.0, 17.0), (5, 1.0, 30.0)):
        best = min(range(1, layers + 1), key=lambda k: layers / k * inputs + k * whole)
        assert abs(float(segment(layers, inputs, whole)) - best) <= 1


def test_planned_is_refused_in_a_sweep():
    with pytest.raises(rp.RidgepointError, match="one scenario"):
        build(
            find_model("gpt2"), find_machine("h100-sxm"), Train(batch=np.array([1.0, 2.0])), Plan(recompute="planned")
        )
