"""What training keeps of the forward pass, by position in the schedule (design §3: part of the ledger).

Sources: Korthikanti et al. 2022 (selective recomputation, 1F1B's micro-batches in flight), Narayanan et al. 2021 (interleaved),
Qi et al. 2023 (zero bubble).
"""

from __future__ import annotations

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Layer, Model, Stack
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.state import saved_bytes
from ridgepoint.models.transformer import layer_work
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Gemm, Stream
from ridgepoint.plan import Again, Plan
from ridgepoint.tasks.layout import Layout
from ridgepoint.tasks.recomputation import Link, freed_bytes, links
from ridgepoint.tasks.stages import in_flight_at
from ridgepoint.work import Work

OFFLOAD_WINDOW = 2.0
"""Layers whose activations are on the device while the others' are away: the one in work and the one in transit."""


def recompute_words(plan: Plan) -> str:
    """Recomputation in words: none, full, selective, or the part of the layers.

    >>> recompute_words(Plan(recompute="full", recomputed_layers=0.25)), recompute_words(Plan())
    ('full 25%', 'none')
    """
    part = float(np.max(plan.recomputed_layers))
    if plan.recompute == "none" or part == 0.0:
        return "none"
    if plan.recompute == "planned":
        return planned_words(plan)
    return plan.recompute if part == 1.0 else f"{plan.recompute} {part:.0%}"


def micro_batch_words(plan: Plan, unit: str = "sequence", otherwise: str = "1 sequence (default)") -> str:
    """The micro-batch in words, or what is taken where the plan does not say.

    >>> micro_batch_words(Plan(micro_batch=4)), micro_batch_words(Plan())
    ('4 sequences', '1 sequence (default)')
    """
    if plan.micro_batch is None:
        return otherwise
    low, high = (f"{bound(plan.micro_batch):g}" for bound in (np.min, np.max))
    return f"{low} to {high} {unit}s" if low != high else f"{low} {unit}" + "s" * (low != "1")


def planned_words(plan: Plan) -> str:
    """What planned recomputation found, in words.

    >>> planned_words(Plan(recompute="planned", recomputed=(((0.5, ("feed.activation",)), (0.5, ())),)))
    'planned (50% of the layers: feed.activation)'
    """
    seen: dict[str, int] = {}
    for kind in plan.recomputed:
        for part, again in kind:
            if again:
                words = f"{part:.0%} of the layers: " * (part < 1.0) + ", ".join(again)
                seen[words] = seen.get(words, 0) + 1
    said = [words if many == 1 else f"{words} ({many}×)" for words, many in seen.items()]
    return (
        f"planned ({'; '.join(said)})"
        if said
        else "planned (nothing need be recomputed)"
        if plan.recomputed
        else "planned"
    )


def kinds_of(stack: Stack) -> dict[Layer, int]:
    """Equal layers of a stack together, with how many there are, in the order in which its work lists them."""
    counts: dict[Layer, int] = {}
    for layer, count in stack.layers:
        counts[layer] = counts.get(layer, 0) + count
    return counts


def in_flight(layout: Layout, plan: Plan, count: Num) -> Num:
    """Micro-batches whose activations the first stage holds at once: all for GPipe, pp for 1F1B and ZB-H1, 2·pp − 1 for ZB-H2,
    a little more than pp interleaved (Narayanan et al. 2021). Of a stage that is looked at alone, its own.
    The last one holds 1, interleaved those of all its chunks but the last.
    """
    if layout.apart:
        return in_flight_at(plan, len(layout.layers), count, layout.stage)
    pp = np.asarray(layout.pp, dtype=float)
    if layout.end == "last" and plan.schedule in ("1f1b", "interleaved"):
        held = (pp * (plan.chunks - 1.0) + 1.0) / plan.chunks if plan.schedule == "interleaved" else 1.0
        return plain(np.where(pp > 1.0, np.minimum(count, held), 1.0))
    several = (plan.schedule == "interleaved") & (np.asarray(plan.chunks) > 1.0)
    extra = np.where(several, 1.0 + (pp - 1.0) / (pp * plan.chunks), 1.0)
    if plan.schedule == "zero_bubble_2":
        extra = (2.0 * pp - 1.0) / pp
    most = np.where(pp > 1.0, count, 1.0) if plan.schedule == "gpipe" else np.minimum(count, pp * extra)
    return plain(most)


def of_micro_batch(
    model: Model, run: Execution, layout: Layout, tokens: Tokens, count: Num, plan: Plan
) -> tuple[Num, Num]:
    """(bytes that one micro-batch leaves on the fullest stage, bytes of the one layer that is being recomputed).

    With full recomputation each layer's input is kept, and all of the layer at hand; with segments (sqrt) one input per segment
    and all of the segment at hand; as planned what the plan drops in each kind of layer.
    """
    kept: Num = 0.0
    again: Num = 0.0
    slices = 1.0 if run.cut.context_exchange == "all_to_all" else run.cut.cp
    chosen = iter(_chosen(model, plan))
    for stack in filter(None, (model.encoder, model.decoder)):
        for layer, number in kinds_of(stack).items():
            work = layer_work(layer, stack.hidden, tokens, run, stack.causal, "l", tokens.context)
            whole = saved_bytes(work, stack.hidden, run.cut.tp, run.cut.sequence, slices)
            held = layout.share(stack.depth) * number * plan.trained_layers
            if plan.recompute == "planned":
                found = chain(layer, stack, run, tokens)
                parts = [(part, freed_bytes(found, ops)) for part, ops in next(chosen)]
                freed: Num = sum(part * size for part, size in parts)
                again = np.maximum(again, max(size for _, size in parts))
            elif plan.recompute in ("full", "sqrt"):
                shard = run.cut.tp if run.cut.sequence else 1.0
                inputs = run.rows(tokens) * stack.hidden * FORMATS[run.formats.stream].bytes / shard
                size = (
                    segment(held * in_flight(layout, plan, count), inputs, whole) if plan.recompute == "sqrt" else 1.0
                )
                freed = (whole - inputs / size) * plan.recomputed_layers
                again = np.maximum(again, np.where(np.asarray(plan.recomputed_layers) > 0.0, size * whole, 0.0))
            else:
                freed = (_scores_bytes(work) if plan.recompute == "selective" else 0.0) * plan.recomputed_layers
            kept = kept + held * (whole - freed)
    return kept, again


def segment(layers: Num, inputs: Num, whole: Num) -> Num:
    """Layers of a segment such that L/k inputs and k whole layers are least: k = √(L · input/whole), at least one and at most
    all (Chen et al. 2016; with the sizes of both). ``layers`` counts every micro-batch that is held.

    >>> float(segment(64.0, 1.0, 1.0)), float(segment(64.0, 1.0, 16.0))
    (8.0, 2.0)
    """
    best = np.sqrt(np.asarray(layers) * np.asarray(inputs) / np.maximum(whole, 1e-30))
    return plain(np.clip(np.round(best), 1.0, np.maximum(np.asarray(layers), 1.0)))


def chain(layer: Layer, stack: Stack, run: Execution, tokens: Tokens) -> list[Link]:
    """The ops of a layer with what each keeps."""
    slices = 1.0 if run.cut.context_exchange == "all_to_all" else run.cut.cp
    work = layer_work(layer, stack.hidden, tokens, run, stack.causal, "l", tokens.context)
    return links(work, "l", stack.hidden, run.cut.tp, run.cut.sequence, slices)


def _chosen(model: Model, plan: Plan) -> tuple[tuple[tuple[float, Again], ...], ...]:
    """What each kind of layer computes again.

    Errors: ``bad_plan`` where nothing was chosen yet, or for another number of kinds.
    """
    if plan.recompute != "planned":
        return ()
    kinds = sum(len(kinds_of(stack)) for stack in (model.encoder, model.decoder) if stack is not None)
    if not plan.recomputed:
        raise RidgepointError(
            "bad_plan",
            "planned recomputation is found for one layout at a time",
            "search with none, selective, sqrt or full, then plan the best layout",
        )
    if len(plan.recomputed) != kinds:
        raise RidgepointError(
            "bad_plan",
            f"plan.recomputed is for {len(plan.recomputed)} kinds of layers; {model.name} has {kinds}",
            "leave it out: it is found",
        )
    return plan.recomputed


def on_device(model: Model, layout: Layout, count: Num, plan: Plan, kept: Num, again: Num) -> Num:
    """Activations in device memory at the fullest moment of the schedule (``of_micro_batch``); of offloaded ones a window of
    layers.
    """
    if plan.offload_activations != "none":
        layers = np.maximum(np.ceil(model.main.depth / np.asarray(layout.pp, dtype=float)), 1.0)
        return plain(kept * np.minimum(OFFLOAD_WINDOW / layers, in_flight(layout, plan, count)) + again)
    return kept * in_flight(layout, plan, count) + again


def _scores_bytes(work: Work) -> Num:
    """Scores and probabilities that unfused attention keeps; the fused kernel keeps none."""
    own: Num = 0.0
    if isinstance(work, Stream) and work.label.endswith((".attention.softmax", ".attention.softmax_dropout")):
        own = work.saved_bytes
    elif isinstance(work, Gemm) and work.label.endswith(".attention.values"):
        own = work.m * work.k * work.batch * FORMATS[work.acts].bytes
    return own + sum((_scores_bytes(child) for child in work.children()), 0.0)
