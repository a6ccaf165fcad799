"""One optimizer step as work on one device: micro-batches forward and backward, gradients, optimizer (design §1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Model
from ridgepoint.models.backward import backward
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.state import stage_share
from ridgepoint.models.transformer import embed, logits, stack_work
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Collective, Stream
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.inference import per_replica
from ridgepoint.tasks.layout import Layout
from ridgepoint.work import Mix, Op, Overlap, Pipeline, Repeat, Seq, Stage, Work

_MOMENT_BYTES = {"adam": 8.0, "adam8bit": 2.0, "sgd": 4.0}
"""Bytes per parameter of what an optimizer keeps besides master weights."""


def micro_batch(task: Train, plan: Plan, layout: Layout) -> tuple[Num, Num]:
    """(sequences per micro-batch, micro-batches per step) on one replica; the default micro-batch is one sequence."""
    here = per_replica(task.batch, layout)
    size = np.minimum(plan.micro_batch if plan.micro_batch is not None else 1.0, here)
    count = np.ceil(here / size)
    return (float(size), float(count)) if np.ndim(count) == 0 else (size, count)


@dataclass(frozen=True)
class Trained:
    """Weights on one device, as numbers: those that all its replicas hold, and routed experts, of which there are fewer
    copies where expert-parallel ranks reach over several attention replicas.
    """

    dense: Num
    experts: Num = 0.0

    @property
    def total(self) -> Num:
        """All of them."""
        return self.dense + self.experts

    def sharded(self, layout: Layout) -> Num:
        """One device's part where all copies of a weight share its states (ZeRO)."""
        return self.dense / copies(layout) + self.experts / (copies(layout) / pooled(layout))


def copies(layout: Layout) -> Num:
    """Devices that hold the same weights: data-parallel replicas and context-parallel ranks."""
    return layout.dp * layout.cp


def pooled(layout: Layout) -> Num:
    """Attention replicas that hold one set of experts together."""
    return plain(np.maximum(layout.ep / np.asarray(layout.tp, dtype=float), 1.0))


def step_work(model: Model, run: Execution, layout: Layout, task: Train, plan: Plan, parameters: Trained) -> Work:
    """The whole step. ``parameters`` are the weights on one device (after tp, pp, ep)."""
    size, count = micro_batch(task, plan, layout)
    tokens = Tokens(size, task.seq, task.seq, keep=task.seq)
    gradients = gradient_exchange(run, layout, plan, parameters)
    one_stage = np.asarray(layout.pp) == 1.0
    ways: list[tuple[Num, Work]] = []
    if np.any(one_stage):
        forward, back = _passes(model, run, tokens, plan, "all")
        last = Overlap(back, gradients) if plan.overlap_gradients else Seq(back, gradients)
        ways.append((plain(np.where(one_stage, 1.0, 0.0)), Seq(Repeat(count - 1.0, Seq(forward, back)), forward, last)))
    if not np.all(one_stage):
        pipeline = _pipeline(model, run, layout, tokens, count, plan)
        piped = Overlap(pipeline, gradients) if plan.overlap_gradients else Seq(pipeline, gradients)
        ways.append((plain(np.where(one_stage, 0.0, 1.0)), piped))
    compute = ways[0][1] if len(ways) == 1 else Mix(*ways)
    gathers = parameter_gathers(run, layout, plan, parameters, count)
    return Seq(Overlap(compute, gathers), optimizer_step(run, layout, plan, parameters))


def _passes(model: Model, run: Execution, tokens: Tokens, plan: Plan, part: str, share: Num = 1.0) -> tuple[Work, Work]:
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
    after: list[Work] = []
    if part in ("all", "last") and model.embedding.head:
        after = [logits(model, rows, run), loss(model, tokens, run)]
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
    ends = plain(np.minimum(np.asarray(layout.pp, dtype=float), 2.0))
    hop = Collective(operation="send_recv", bytes=size, ranks=ends, stride=stride, label="pipeline.send")
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


def _among_copies(operation: str, parameters: Trained, width: float, layout: Layout, label: str) -> Work:
    """A collective over all copies of the weights; the routed experts have their own group where it is smaller."""
    group = np.asarray(pooled(layout), dtype=float)
    apart = group > 1.0
    together = plain(np.where(apart, parameters.dense, parameters.total))
    every = Collective(operation=operation, bytes=together * width, ranks=copies(layout), stride=layout.tp, label=label)
    if not np.any(apart):
        return every
    own = Collective(
        operation=operation,
        bytes=parameters.experts * width,
        ranks=plain(np.where(apart, copies(layout) / group, 1.0)),
        stride=plain(layout.tp * group),
        label=f"{label}.experts",
    )
    return Seq(every, own)


def gradient_exchange(run: Execution, layout: Layout, plan: Plan, parameters: Trained) -> Work:
    """All-reduce of the gradients over all copies of the weights, or reduce-scatter where optimizer states are sharded."""
    operation = "all_reduce" if plan.zero_stage == 0 else "reduce_scatter"
    return _among_copies(operation, parameters, gradient_bytes(plan), layout, "data_parallel.gradients")


def parameter_gathers(run: Execution, layout: Layout, plan: Plan, parameters: Trained, microbatches: Num) -> Work:
    """ZeRO: weights gathered once after the step (stages 1, 2), or before every forward and backward pass (stage 3)."""
    if plan.zero_stage == 0:
        return Seq()
    width = FORMATS[run.formats.stream].bytes
    gather = _among_copies("all_gather", parameters, width, layout, "data_parallel.parameters")
    return Repeat(2.0 * microbatches, gather) if plan.zero_stage == 3 else gather


def training_state(run: Execution, layout: Layout, plan: Plan, parameters: Trained) -> dict[str, Num]:
    """Gradients and optimizer states on one device; ZeRO shares the states from stage 1 on, the gradients from stage 2."""
    whole, mine = parameters.total, parameters.sharded(layout)
    return {
        "gradients": (mine if plan.zero_stage >= 2 else whole) * gradient_bytes(plan),
        "optimizer": (mine if plan.zero_stage >= 1 else whole) * optimizer_bytes(run, plan),
    }


def optimizer_bytes(run: Execution, plan: Plan) -> float:
    """Bytes per parameter of the optimizer's states: fp32 master weights, where the weights are narrower, and moments."""
    master = 0.0 if run.formats.stream == "fp32" else 4.0
    return 0.0 if plan.optimizer == "none" else master + _MOMENT_BYTES[plan.optimizer]


def optimizer_step(run: Execution, layout: Layout, plan: Plan, parameters: Trained) -> Work:
    """One pass over gradients, master weights and moments; the weights are written. Sharded from ZeRO-1 on."""
    mine = parameters.sharded(layout) if plan.zero_stage >= 1 else parameters.total
    states = optimizer_bytes(run, plan)
    if plan.optimizer == "none":
        return Seq()
    return Stream(
        read_bytes=mine * (states + gradient_bytes(plan)),
        write_bytes=mine * (states + FORMATS[run.formats.stream].bytes),
        flop=12.0 * mine,
        special=mine,
        pattern="optimizer",
        label="optimizer",
    )
