"""One optimizer step as work on one device: micro-batches forward and backward, gradients, optimizer (design §1)."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.pieces import is_one
from ridgepoint.models.state import stage_share
from ridgepoint.models.transformer import embed, logits, stack_work
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Collective, Stream, Transfer
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.activations import of_micro_batch
from ridgepoint.tasks.inference import per_replica
from ridgepoint.tasks.layout import Layout
from ridgepoint.tasks.recomputation import again_of
from ridgepoint.tasks.stages import sizes
from ridgepoint.tasks.trained import backward_pass, learned, only, with_adapters
from ridgepoint.tasks.updates import (
    Trained,
    at_stage,
    early_exchange,
    gradient_exchange,
    moved_gradients,
    optimizer_step,
    parameter_gathers,
    sometimes,
    tier_of,
)
from ridgepoint.work import Mix, Op, Overlap, Pipeline, Repeat, Seq, Slowest, Stage, Work, ops


def micro_batch(task: Train, plan: Plan, layout: Layout) -> tuple[Num, Num]:
    """(sequences per micro-batch, micro-batches per step) on one replica; the default micro-batch is one sequence."""
    here = per_replica(task.batch, layout)
    size = np.minimum(plan.micro_batch if plan.micro_batch is not None else 1.0, here)
    count = np.ceil(here / size)
    return (float(size), float(count)) if np.ndim(count) == 0 else (size, count)


def step_work(
    model: Model, run: Execution, layout: Layout, task: Train, plan: Plan, weights: Trained, spread: Num = 0.0
) -> Work:
    """The whole step. ``weights`` are those on one device (after tp, pp, ep); replicas differ by ``spread`` (coefficient of
    variation), devices by the plan's jitter: all wait for the slowest.
    """
    size, count = micro_batch(task, plan, layout)
    tokens = Tokens(size, task.seq, task.seq, keep=task.seq)
    trained = learned(model, run, layout, plan)
    gradients = gradient_exchange(layout, plan, trained)
    one_stage = np.asarray(layout.pp) == 1.0
    ways: list[tuple[Num, Work]] = []
    if np.any(one_stage):
        ways.append((plain(np.where(one_stage, 1.0, 0.0)), _single(model, run, tokens, count, plan, gradients)))
    if not np.all(one_stage):
        piped = _pipeline(model, run, layout, tokens, count, plan, gradients)
        ways.append((plain(np.where(one_stage, 0.0, 1.0)), piped))
    compute = ways[0][1] if len(ways) == 1 else Mix(*ways)
    for ranks, cv in ((layout.dp, spread), (layout.devices, plan.jitter)):
        if np.any(np.asarray(cv) > 0.0):
            compute = Slowest(ranks, compute, cv)
    hidden, exposed = exchanges(run, layout, plan, weights, trained, count)
    moved = [
        *_fetched_weights(run, layout, plan, weights, count),
        *_moved_activations(model, run, layout, tokens, count, plan),
        *moved_gradients(layout, plan, trained, count),
    ]
    update = optimizer_step(run, layout, plan, trained, model.hidden)
    return Seq(_side_by_side(compute, Seq(*hidden), plan, *moved), *exposed, update)


def exchanges(
    run: Execution, layout: Layout, plan: Plan, weights: Trained, trained: Trained, count: Num
) -> tuple[list[Work], list[Work]]:
    """(beside the passes, on their own): what ZeRO gathers, and what it reduces before the last micro-batch."""
    found = (
        (plan.overlap_parameters, parameter_gathers(run, layout, plan, weights, count)),
        (plan.overlap_gradients, early_exchange(layout, plan, trained, count)),
    )
    return [work for beside, work in found if beside], [work for beside, work in found if not beside]


def _single(model: Model, run: Execution, tokens: Tokens, count: Num, plan: Plan, gradients: Work) -> Work:
    """All micro-batches on one stage, the last one's backward pass beside the exchange of gradients."""
    forward, back = passes(model, run, tokens, plan, "all")
    if plan.trainable == "zeroth_order":
        return Seq(Repeat(2.0 * count, forward), gradients)
    beside, after = _side_by_side(back, gradients, plan), Seq(back, gradients)
    last = sometimes(plan, beside if plan.overlap_gradients else after, back)
    return Seq(Repeat(count - 1.0, Seq(forward, back)), forward, last)


def _side_by_side(compute: Work, communication: Work, plan: Plan, *others: Work) -> Work:
    """Communication beside computation: collectives hold ``communication_share`` of the multiprocessors, so that computation
    takes that part of their time longer; the links carry everything once.
    """
    share = plan.communication_share
    if not np.any(np.asarray(share) > 0.0):
        return Overlap(compute, communication, *others)
    return Overlap(Seq(compute, Repeat(share, communication)), Repeat(1.0 - share, communication), *others)


def passes(
    model: Model, run: Execution, tokens: Tokens, plan: Plan, part: str, share: Num = 1.0, layout: Layout | None = None
) -> tuple[Work, Work]:
    """Forward and backward of one micro-batch on one stage: ``part`` is all, first, middle or last."""
    layers: list[Work] = []
    before: list[Work] = []
    rows = run.rows(tokens)
    for stack, at in ((model.encoder, "encoder."), (model.decoder, "")):
        if stack is None:
            continue
        if part in ("all", "first"):
            before.append(embed(model, rows, run, f"{at}embedding"))
        layers.append(stack_work(stack, tokens, run, f"{at}layers", source=tokens.context, share=share))
    after = _head(model, run, tokens, plan, part, layout)
    body: Work = Seq(*layers)
    if plan.trainable == "lora":
        body = with_adapters(body, run, plan.lora_rank)
    again = _again(layers, body, run, plan)
    back = Seq(*again, backward_pass(body, plan))
    reached = back if is_one(plan.trained_layers) else Repeat(plan.trained_layers, back)
    whole = plan.trainable == "full" and is_one(plan.trained_layers)
    first = [backward_pass(Seq(*before), plan)] if before and whole else []
    return Seq(*before, body, *after), Seq(*(backward_pass(w, plan) for w in reversed(after)), reached, *first)


def _again(layers: list[Work], body: Work, run: Execution, plan: Plan) -> list[Work]:
    """What runs forward a second time, before the backward pass."""
    if plan.recompute != "planned":
        return [Repeat(plan.recomputed_layers, work) for work in recomputed(body, plan.recompute)]
    kinds = [(kind, at) for stack in layers for kind in stack.children() for at in (_prefix(kind),)]
    found: list[Work] = []
    for (kind, at), parts in zip(kinds, plan.recomputed, strict=True):
        for part, again in parts:
            work = again_of(kind, at, again)
            wanted = with_adapters(work, run, plan.lora_rank) if plan.trainable == "lora" else work
            found += [Repeat(part, wanted)] if again else []
    return found


def _prefix(work: Work) -> str:
    """What the labels of a stack's layers begin with: ``layers``, ``encoder.layers``."""
    label = next(ops(work)).label
    return label[: label.index("layers") + len("layers")]


def _head(model: Model, run: Execution, tokens: Tokens, plan: Plan, part: str, layout: Layout | None) -> list[Work]:
    """Logits and loss on the last stage, or a slice of the vocabulary on each one (Yeung et al. 2024): then the last layer's
    output goes to all stages, and their gradients of it are added.
    """
    if not model.embedding.head:
        return []
    work = [logits(model, run.rows(tokens), run), loss(model, tokens, run)]
    if not plan.vocab_parallel or part == "all" or layout is None:
        return work if part in ("all", "last") else []
    size = run.rows(tokens) * model.hidden * FORMATS[run.formats.stream].bytes
    spread = Collective(
        operation="broadcast", bytes=size, ranks=layout.pp, stride=layout.stage_stride, label="head.broadcast"
    )
    return [spread, *(Repeat(1.0 / np.asarray(layout.pp, dtype=float), w) for w in work)]


def recomputed(layers: Work, recompute: str) -> list[Work]:
    """What runs forward a second time: nothing, attention without its projections, or every layer (in segments too)."""
    if recompute == "none":
        return []
    if recompute in ("full", "sqrt"):
        return [layers]
    return [_only_attention(layers)]


def _only_attention(work: Work) -> Work:
    """The score, softmax and value kernels of ``work``; the fused kernel recomputes its scores anyway."""
    if isinstance(work, Repeat):
        return Repeat(work.count, _only_attention(work.body))
    if isinstance(work, Op):
        inside = ".attention.attention" in work.label and not isinstance(work, Attention)
        return work if inside else Seq()
    return Seq(*(_only_attention(child) for child in work.children()))


def loss(model: Model, tokens: Tokens, run: Execution) -> Work:
    """Cross entropy over the vocabulary: logits read once in the stream's format, softmax in fp32."""
    values = tokens.total / run.cut.cp * model.embedding.vocab / run.cut.tp
    width = FORMATS[run.formats.stream].bytes
    return Stream(
        read_bytes=values * width,
        write_bytes=values * 4.0,
        flop=5.0 * values,
        special=values,
        pattern="softmax",
        rows=tokens.total,
        launches=3.0,
        saved_bytes=values * 4.0,
        label="head.loss",
    )


def _pipeline(
    model: Model, run: Execution, layout: Layout, tokens: Tokens, count: Num, plan: Plan, gradients: Work
) -> Work:
    size = tokens.total / run.cut.cp * model.hidden * FORMATS[run.formats.stream].bytes
    stride = layout.stage_stride
    ends = plain(np.minimum(np.asarray(layout.pp, dtype=float), 2.0))
    hop = Collective(operation="send_recv", bytes=size, ranks=ends, stride=stride, label="pipeline.send")
    stages = [
        _stage(number, passes(model, run, tokens, plan, part, share, layout), plan, hop if part != "last" else None)
        for part, number, share in _stage_kinds(model, layout, plan)
    ]
    chunks = plan.chunks if plan.schedule == "interleaved" else 1.0
    if plan.trainable == "zeroth_order":
        return Seq(Pipeline(tuple(stages), 2.0 * count, "forward"), gradients)
    closing = sometimes(plan, gradients, Seq())
    if not plan.overlap_gradients:
        return Seq(Pipeline(tuple(stages), count, plan.schedule, chunks), closing)
    share = plan.communication_share
    if not np.any(np.asarray(share) > 0.0):
        return Pipeline(tuple(stages), count, plan.schedule, chunks, closing)
    hidden = Repeat(1.0 - share, closing)
    return Seq(Pipeline(tuple(stages), count, plan.schedule, chunks, hidden), Repeat(share, closing))


def _stage_kinds(model: Model, layout: Layout, plan: Plan) -> list[tuple[str, Num, Num]]:
    """(first, middle or last; how many of them in a row; their part of the layers), in order."""
    depth = model.main.depth
    if not isinstance(plan.stages, tuple):
        share = stage_share(depth, layout.pp)
        middle = plain(np.maximum(np.asarray(layout.pp, dtype=float) - 2.0, 0.0))
        return [("first", 1.0, share), ("middle", middle, share), ("last", 1.0, share)]
    first, *inner, last = sizes(model, plan, layout.pp)
    found: list[tuple[str, Num, Num]] = [("first", 1.0, first / depth)]
    found += [("middle", float(len([*same])), layers / depth) for layers, same in groupby(inner)]
    return [*found, ("last", 1.0, last / depth)]


def _stage(count: Num, passes: tuple[Work, Work], plan: Plan, send: Work | None) -> Stage:
    forward, back = passes
    if plan.trainable == "zeroth_order":
        return Stage(count, forward, None, send)
    if plan.schedule.startswith("zero_bubble"):
        return Stage(count, forward, only(back, False), send, only(back, True))
    return Stage(count, forward, back, send)


def _fetched_weights(run: Execution, layout: Layout, plan: Plan, weights: Trained, count: Num) -> list[Work]:
    """Weights kept elsewhere, fetched for every forward and backward pass: a device's shard with ZeRO-3, else all."""
    if plan.offload_params == "none":
        return []
    size = at_stage(plan, 3.0, weights.sharded(layout), weights.total) * FORMATS[run.formats.stream].bytes
    fetch = Transfer(bytes=size, tier=tier_of(plan.offload_params), direction="read", label="offload.parameters")
    return [Repeat(2.0 * count, fetch)]


def _moved_activations(
    model: Model, run: Execution, layout: Layout, tokens: Tokens, count: Num, plan: Plan
) -> list[Work]:
    """What each micro-batch keeps, out after its forward pass and back before its backward pass."""
    if plan.offload_activations == "none":
        return []
    kept, _ = of_micro_batch(model, run, layout, tokens, count, plan)
    tier = tier_of(plan.offload_activations)
    out = Transfer(bytes=kept, tier=tier, direction="write", label="offload.activations_out")
    back = Transfer(bytes=kept, tier=tier, direction="read", label="offload.activations_in")
    return [Repeat(count, Seq(out, back))]
