"""One optimizer step as work on one device: micro-batches forward and backward, gradients, optimizer (design §1)."""

from __future__ import annotations

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Model
from ridgepoint.models.backward import backward
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.state import stage_share
from ridgepoint.models.transformer import embed, encode, logits, stack_work
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Collective, Stream
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.inference import per_replica
from ridgepoint.tasks.layout import Layout
from ridgepoint.work import Op, Overlap, Pipeline, Repeat, Seq, Stage, Work

# Bytes per parameter that one optimizer step reads and writes, besides the gradient and the 16-bit weights.
_STATE_BYTES = {"adam": (12.0, 12.0), "adam8bit": (6.0, 6.0), "sgd": (8.0, 8.0), "none": (0.0, 0.0)}


def micro_batch(task: Train, plan: Plan, layout: Layout) -> tuple[Num, Num]:
    """(sequences per micro-batch, micro-batches per step) on one replica; the default micro-batch is one sequence."""
    here = per_replica(task.batch, layout)
    size = np.minimum(plan.micro_batch if plan.micro_batch is not None else 1.0, here)
    count = np.ceil(here / size)
    return (float(size), float(count)) if np.ndim(count) == 0 else (size, count)


def step_work(model: Model, run: Execution, layout: Layout, task: Train, plan: Plan, parameters: Num) -> Work:
    """The whole step. ``parameters`` is the number of weights on one device (after tp, pp, ep)."""
    size, count = micro_batch(task, plan, layout)
    tokens = Tokens(size, task.seq, task.seq, keep=task.seq, expert_imbalance=plan.expert_imbalance)
    if np.all(np.asarray(layout.pp) == 1.0):
        forward, back = _passes(model, run, tokens, plan, "all")
        gradients = gradient_exchange(run, layout, plan, parameters)
        last = Overlap(back, gradients) if plan.overlap_gradients else Seq(back, gradients)
        compute: Work = Seq(Repeat(count - 1.0, Seq(forward, back)), forward, last)
    else:
        pipeline = _pipeline(model, run, layout, tokens, count, plan)
        gradients = gradient_exchange(run, layout, plan, parameters)
        compute = Overlap(pipeline, gradients) if plan.overlap_gradients else Seq(pipeline, gradients)
    gathers = parameter_gathers(run, layout, plan, parameters, count)
    return Seq(Overlap(compute, gathers), optimizer_step(run, layout, plan, parameters))


def _passes(model: Model, run: Execution, tokens: Tokens, plan: Plan, part: str, share: Num = 1.0) -> tuple[Work, Work]:
    """Forward and backward of one micro-batch on one stage: ``part`` is all, first, middle or last."""
    layers: list[Work] = []
    before: list[Work] = []
    if part in ("all", "first"):
        if model.encoder is not None:
            before.append(encode(model, tokens, run))
        if model.decoder is not None:
            before.append(embed(model, tokens.total / run.cut.cp, run))
    if model.decoder is not None:
        layers.append(stack_work(model.decoder, tokens, run, "layers", source=tokens.context, share=share))
    after: list[Work] = []
    if part in ("all", "last") and model.embedding.head:
        after = [logits(model, tokens.total / run.cut.cp, run), loss(model, tokens, run)]
    body = Seq(*layers)
    again = recomputed(body, plan.recompute)
    return Seq(*before, body, *after), Seq(
        *(backward(w) for w in reversed(after)), *again, backward(Seq(*before, body))
    )


def recomputed(layers: Work, recompute: str) -> list[Work]:
    """What runs forward a second time: nothing, attention without its projections, or every layer."""
    if recompute == "none":
        return []
    if recompute == "full":
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


def _pipeline(model: Model, run: Execution, layout: Layout, tokens: Tokens, count: Num, plan: Plan) -> Work:
    share = stage_share(model.main.depth, layout.pp)
    size = tokens.total / run.cut.cp * model.hidden * FORMATS[run.formats.stream].bytes
    stride = layout.tp * layout.cp * layout.dp
    hop = Collective(operation="send_recv", bytes=size, ranks=2.0, stride=stride, label="pipeline.send")
    pp = np.asarray(layout.pp, dtype=float)
    counts = {"first": 1.0, "middle": plain(np.maximum(pp - 2.0, 0.0)), "last": 1.0}
    stages = [
        Stage(number, *_passes(model, run, tokens, plan, part, share), send=hop if part != "last" else None)
        for part, number in counts.items()
    ]
    return Pipeline(tuple(stages), count, plan.schedule, plan.chunks if plan.schedule == "interleaved" else 1.0)


def gradient_bytes(plan: Plan) -> float:
    """Bytes per parameter of a communicated gradient: fp32 with plain data parallelism and optimizer sharding (Megatron-LM's
    default), 16 bit with ZeRO-2, ZeRO-3 and FSDP.
    """
    return 4.0 if plan.zero_stage < 2 else 2.0


def gradient_exchange(run: Execution, layout: Layout, plan: Plan, parameters: Num) -> Work:
    """All-reduce of the gradients over the data-parallel replicas, or reduce-scatter where optimizer states are sharded."""
    operation = "all_reduce" if plan.zero_stage == 0 else "reduce_scatter"
    return Collective(
        operation=operation,
        bytes=parameters * gradient_bytes(plan),
        ranks=layout.dp,
        stride=layout.tp * layout.cp,
        label="data_parallel.gradients",
    )


def parameter_gathers(run: Execution, layout: Layout, plan: Plan, parameters: Num, microbatches: Num) -> Work:
    """ZeRO: weights gathered once after the step (stages 1, 2), or before every forward and backward pass (stage 3)."""
    if plan.zero_stage == 0:
        return Seq()
    gather = Collective(
        operation="all_gather",
        bytes=parameters * FORMATS[run.formats.stream].bytes,
        ranks=layout.dp,
        stride=layout.tp * layout.cp,
        label="data_parallel.parameters",
    )
    return Repeat(2.0 * microbatches, gather) if plan.zero_stage == 3 else gather


def optimizer_step(run: Execution, layout: Layout, plan: Plan, parameters: Num) -> Work:
    """One pass over gradients, master weights and moments; the 16-bit weights are written. Sharded from ZeRO-1 on."""
    mine = parameters / (layout.dp if plan.zero_stage >= 1 else 1.0)
    read, write = _STATE_BYTES[plan.optimizer]
    if plan.optimizer == "none":
        return Seq()
    return Stream(
        read_bytes=mine * (read + gradient_bytes(plan)),
        write_bytes=mine * (write + FORMATS[run.formats.stream].bytes),
        flop=12.0 * mine,
        special=mine,
        pattern="optimizer",
        label="optimizer",
    )
