"""What a plan leaves to the machine, resolved: what layers compute again so that a step fits, how many each stage has."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.numeric import Num
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.activations import chain, in_flight, kinds_of
from ridgepoint.tasks.buffers import behind_logits
from ridgepoint.tasks.layout import Layout, complete, execution, is_sweep
from ridgepoint.tasks.memory import end_ledgers, ledger, usable_fraction
from ridgepoint.tasks.recomputation import Kind, Parts, choices, planned
from ridgepoint.tasks.stages import balanced, fullest, sizes
from ridgepoint.tasks.training import micro_batch, passes
from ridgepoint.work import Op


def resolved(model: Model, machine: Machine, run: Execution, layout: Layout, task: Train, plan: Plan) -> Plan:
    """``plan`` with all that it leaves to the machine."""
    staged = with_balanced(model, machine, run, layout, task, plan)
    return with_planned(model, machine, run, layout, task, staged)


def with_planned(model: Model, machine: Machine, run: Execution, layout: Layout, task: Train, plan: Plan) -> Plan:
    """``plan`` with what its layers compute again.

    Errors: ``bad_plan`` for a sweep, and beside offloaded activations, which take their room elsewhere.
    """
    if plan.recompute != "planned" or plan.recomputed:
        return plan
    if plan.offload_activations != "none":
        raise RidgepointError(
            "bad_plan", "planned recomputation and offloaded activations answer the same question", "use one of them"
        )
    if is_sweep(layout, task, plan):
        raise RidgepointError(
            "bad_plan",
            "planned recomputation is found for one scenario at a time",
            "sweep over none, selective or full",
        )
    kinds, parts = _cheapest_that_fits(model, machine, run, layout, task, plan)
    chosen = tuple(
        tuple((part, kind.choices[number].again) for part, number in each)
        for kind, each in zip(kinds, parts, strict=True)
    )
    return replace(plan, recomputed=chosen)


def with_balanced(model: Model, machine: Machine, run: Execution, layout: Layout, task: Train, plan: Plan) -> Plan:
    """``plan`` with the layers of each stage where they are to be balanced: forward and backward passes on ``machine``.

    Errors: ``bad_plan`` for a sweep.
    """
    if plan.stages != "balanced":
        return plan
    if is_sweep(layout, task, plan):
        raise RidgepointError("bad_plan", "stages are balanced for one scenario at a time", "give the layers of each")
    pp = round(float(layout.pp))
    if pp == 1:
        return replace(plan, stages="uniform")
    layer, first, last = balancing_seconds(model, machine, task, plan, layout, run)
    return replace(plan, stages=balanced(model.main.depth, pp, float(layer), float(first), float(last)))


def balancing_seconds(
    model: Model, machine: Machine, task: Train, plan: Plan, layout: Layout | None = None, run: Execution | None = None
) -> tuple[Num, Num, Num]:
    """Forward and backward seconds of one layer, and what the first and the last stage take besides (embedding; head and loss).

    Nothing is resolved for them: planned recomputation counts as full.
    """
    rule = "full" if plan.recompute == "planned" else plan.recompute
    given = replace(plan, stages="uniform", recompute=rule)
    degrees = layout if layout is not None else complete(model, machine, given, True)
    cut = run if run is not None else execution(model, given, degrees, True)[0]
    size, _ = micro_batch(task, plan, degrees)
    tokens = Tokens(size, task.seq, task.seq, keep=task.seq)

    def seconds(part: str) -> Num:
        works = passes(model, cut, tokens, given, part, 1.0 / model.main.depth, degrees)
        return sum((evaluate(work, machine).time_s for work in works), 0.0)

    layer = seconds("middle")
    return layer, seconds("first") - layer, seconds("last") - layer


def _cheapest_that_fits(
    model: Model, machine: Machine, run: Execution, layout: Layout, task: Train, plan: Plan
) -> tuple[list[Kind], tuple[Parts, ...]]:
    """Every kind of layer with its choices, and the parts of its layers under each: of equal stages those that fit the first,
    which holds most micro-batches, and the last, which has the logits.
    """
    usable = machine.memory_bytes * usable_fraction(plan, True)
    keeping = replace(plan, recompute="none")
    if isinstance(plan.stages, tuple) or float(layout.pp) == 1.0:
        views, ledgers = [layout], [ledger(model, machine, run, layout, task, keeping)]
    else:
        views = [replace(layout, end=end) for end in ("first", "last")]
        ledgers = [*end_ledgers(model, machine, run, layout, task, keeping)]
    size, _ = micro_batch(task, plan, layout)
    tokens = Tokens(size, task.seq, task.seq, keep=task.seq)
    answers = []
    for view, whole in zip(views, ledgers, strict=True):
        kinds = layer_kinds(model, machine, run, view, task, plan)
        needed = behind_logits(model, run, view, tokens, plan)
        room = max(float(whole["logits"]) - float(needed), 0.0)
        answers.append((kinds, planned(kinds, float(whole.total_bytes) - usable, room)))
    return max(answers, key=lambda answer: _seconds_a_layer(*answer))


def _seconds_a_layer(kinds: list[Kind], parts: tuple[Parts, ...]) -> float:
    """What the parts take to run again, over all kinds of layers."""
    return sum(
        part * kind.choices[number].time_s for kind, each in zip(kinds, parts, strict=True) for part, number in each
    )


def layer_kinds(model: Model, machine: Machine, run: Execution, layout: Layout, task: Train, plan: Plan) -> list[Kind]:
    """The layers of the fullest stage by kind, each with its choices."""
    size, count = micro_batch(task, plan, layout)
    tokens = Tokens(size, task.seq, task.seq, keep=task.seq)
    layers = sizes(model, plan, layout.pp)
    stage = fullest(plan, layers, float(count)) if isinstance(plan.stages, tuple) else 0
    view = replace(layout, layers=layers, stage=stage) if isinstance(plan.stages, tuple) else layout
    held = float(in_flight(view, plan, count))
    seconds: dict[Op, float] = {}

    def of(op: Op) -> float:
        if op not in seconds:
            seconds[op] = float(evaluate(op, machine).time_s)
        return seconds[op]

    return [
        Kind(
            float(view.share(stack.depth)) * number * float(plan.trained_layers),
            held,
            choices(chain(layer, stack, run, tokens), of),
        )
        for stack in filter(None, (model.encoder, model.decoder))
        for layer, number in kinds_of(stack).items()
    ]
