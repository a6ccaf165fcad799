"""Communication of tensor parallelism beside the computation of another part of the same batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ridgepoint.numeric import Num
from ridgepoint.ops import Collective, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Forward, Generate, Prefill, Train
from ridgepoint.tasks.build import Built, times
from ridgepoint.techniques.conditions import every, several_devices, task_is, transformer
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Mix, Op, Overlap, Pipeline, Repeat, Seq, Several, Slowest, Work, mapped, walk

Choice = Callable[[Op], bool]


def _same(op: Op) -> Work:
    return op


def beside(work: Work, chosen: Choice, rest: Callable[[Op], Work] = _same, moved: Callable[[Op], Work] = _same) -> Work:
    """``work`` with the ``chosen`` ops of every repeated body (a layer) beside its other ops.

    ``rest`` and ``moved`` change the ops of either side.
    """
    if isinstance(work, Repeat) and _holds(work.body, chosen) and not _inner(work.body, chosen):
        others = mapped(work.body, lambda op: Seq() if chosen(op) else rest(op))
        sent = mapped(work.body, lambda op: moved(op) if chosen(op) else Seq())
        return replace(work, body=Overlap(others, sent))
    if isinstance(work, Several):
        return type(work)(*(beside(part, chosen, rest, moved) for part in work.parts), label=work.label)
    if isinstance(work, Repeat | Slowest):
        return replace(work, body=beside(work.body, chosen, rest, moved))
    if isinstance(work, Mix):
        return Mix(*((p, beside(case, chosen, rest, moved)) for p, case in work.cases), label=work.label)
    if isinstance(work, Pipeline):
        return replace(
            work,
            stages=tuple(
                replace(
                    stage,
                    forward=beside(stage.forward, chosen, rest, moved),
                    backward=stage.backward and beside(stage.backward, chosen, rest, moved),
                )
                for stage in work.stages
            ),
        )
    return work


def with_beside(built: Built, chosen: Choice) -> Built:
    """``built`` whose phases run the ``chosen`` ops beside the others of their layer."""
    return with_phases(built, lambda phase: replace(phase, work=beside(phase.work, chosen)))


def _holds(work: Work, chosen: Choice) -> bool:
    return any(isinstance(node, Op) and chosen(node) for node in walk(work))


def _inner(work: Work, chosen: Choice) -> bool:
    """Whether a repeated body further in holds the chosen ops."""
    return any(isinstance(node, Repeat) and _holds(node.body, chosen) for node in walk(work))


def of_tensor_parallelism(op: Op) -> bool:
    """The collectives after row-parallel products."""
    return isinstance(op, Collective) and op.label.endswith(".all_reduce")


@technique(
    "comm-overlap-split",
    title="the batch in two halves: one's all-reduce beside the other's products",
    mechanism=("comm_overlap", "tensor_parallel"),
    papers=("iso-overlap", "tokenweave"),
    quality="same results",
    grade="exact",
    cannot=every(transformer, several_devices, task_is(Prefill, Generate, Forward, Train)),
    parameters=(
        Parameter("parts", 2.0, "pieces that the tokens are split into", 2.0, 8.0, whole=True),
        Parameter("multiprocessors", 8.0, "multiprocessors that the communication kernels take", 0.0, 64.0, whole=True),
    ),
    occupies=("tensor-parallel overlap",),
)
def comm_overlap_split(given: Scenario, values: Values) -> Scenario:
    """Tokens are split into parts; while one part's sum over ranks is on the link, the next part's products run.

    A layer takes max(Σ products of m/parts rows, Σ all-reduces of 1/parts bytes) in place of their sum. Splitting costs tiles
    that no longer fill the device, twice the launches and weights read once per part, and communication kernels take
    multiprocessors from the products. Small batches lose by it.

    >>> import ridgepoint as rp
    >>> def gain(prompt: float) -> float:
    ...     def run(*apply: str) -> float:
    ...         task, plan = rp.Prefill(batch=1, prompt=prompt), rp.Plan(tp=4)
    ...         return rp.estimate("llama-3.1-8b", on="4xrtx-4090", task=task, plan=plan, apply=apply).time_s
    ...     return run() / run("comm-overlap-split")
    >>> gain(8192.0) > 1.2, gain(8192.0) > gain(64.0)
    (True, True)
    """
    return edited(given, "comm-overlap-split", _split, values)


def _split(built: Built, given: Scenario, values: Values) -> Built:
    parts, all_of_them = values["parts"], float(given.machine.multiprocessors)
    left = np.maximum(1.0 - np.asarray(values["multiprocessors"]) / all_of_them, 0.1)

    def compute(op: Op) -> Work:
        if isinstance(op, Gemm) and not op.grouped:
            return Repeat(parts / left, replace(op, m=op.m / parts))
        if isinstance(op, Stream):
            return Repeat(parts, _divided(op, parts))
        return op

    def send(op: Op) -> Work:
        return times(parts, replace(op, bytes=op.bytes / parts)) if isinstance(op, Collective) else op

    return with_phases(
        built,
        lambda phase: (
            phase
            if phase.name == "decode"
            else replace(phase, work=beside(phase.work, of_tensor_parallelism, compute, send))
        ),
    )


def _divided(op: Stream, parts: Num) -> Stream:
    return replace(
        op,
        read_bytes=op.read_bytes / parts,
        write_bytes=op.write_bytes / parts,
        flop=op.flop / parts,
        special=op.special / parts,
        rows=op.rows / parts,
        saved_bytes=op.saved_bytes / parts,
    )


@technique(
    "comm-overlap-stale",
    title="residual one block late: all-reduces beside the next block",
    mechanism=("comm_overlap", "tensor_parallel"),
    papers=("iso-overlap",),
    quality="changes the architecture: reported as equal after training with it",
    grade="changed",
    training_free=False,
    cannot=every(transformer, several_devices),
    occupies=("tensor-parallel overlap",),
)
def comm_overlap_stale(given: Scenario, values: Values) -> Scenario:
    """Each block reads the residual stream without the sum that is still on the link, so that the link has a block's time.

    Zhang et al. 2025 (ladder residual). A layer takes the longer of products and all-reduces, whatever the batch.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Decode(batch=1, context=1024), rp.Plan(tp=8)
    ...     return rp.estimate("llama-3.1-70b", on="8xh100-sxm", task=task, plan=plan, apply=apply).time_s
    >>> run("comm-overlap-stale") < run()
    True
    """

    def rework(built: Built, given: Scenario, values: Values) -> Built:
        return with_beside(built, of_tensor_parallelism)

    return edited(given, "comm-overlap-stale", rework, values)
