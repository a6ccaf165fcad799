"""Prefill, decode, generation and plain forward passes as work on one device."""

from __future__ import annotations

import numpy as np

from ridgepoint.cost.evaluate import rules_of
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.state import stage_share
from ridgepoint.models.transformer import decoder_of, embed, encode, logits, sample, stack_work
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Collective, Conv, Gemm, Host, Scan, Stream
from ridgepoint.tasks import Decode, Forward, Generate, Prefill
from ridgepoint.tasks.layout import Layout
from ridgepoint.work import Mix, Op, Overlap, Pipeline, Repeat, Seq, Stage, Work

# Nodes and weights of three-point Gauss–Legendre quadrature on [0, 1]: exact for step times up to the fifth power of context.
_NODES = (0.5 - np.sqrt(0.15), 0.5, 0.5 + np.sqrt(0.15))
_WEIGHTS = (5.0 / 18.0, 8.0 / 18.0, 5.0 / 18.0)


def per_replica(batch: Num, layout: Layout) -> Num:
    """Sequences on the busiest replica: ⌈batch/dp⌉."""
    share = np.ceil(np.asarray(batch) / layout.dp)
    return float(share) if share.ndim == 0 else share


def prefill_work(model: Model, run: Execution, layout: Layout, batch: Num, prompt: Num) -> Work:
    """The pass over the prompts, with logits for the last position of each. Encoder–decoders read the prompt with the
    encoder; the decoder then makes the first token.
    """
    decoder_of(model)
    here = per_replica(batch, layout)
    if model.encoder is not None:
        read = encode(model, Tokens(here, prompt, prompt), run, share=_share(model, layout))
        return Seq(read, _token_step(model, run, layout, Tokens(here, 1.0, 1.0), source=prompt))
    return _token_step(model, run, layout, Tokens(here, prompt, prompt))


def decode_work(model: Model, run: Execution, layout: Layout, batch: Num, context: Num, source: Num = 0.0) -> Work:
    """One token for every sequence. With pipeline stages the batch moves in pp groups, one per stage: a group's token takes
    one trip through all stages.
    """
    decoder_of(model)
    here = per_replica(batch, layout)
    groups = np.minimum(layout.pp, here)
    tokens = Tokens(
        np.ceil(here / groups) if np.ndim(groups) else float(np.ceil(here / groups)), 1.0, context, decode=True
    )
    return _token_step(model, run, layout, tokens, source)


def _share(model: Model, layout: Layout) -> Num:
    """Part of the layers in one stage."""
    return stage_share(model.main.depth, layout.pp)


def _token_step(model: Model, run: Execution, layout: Layout, tokens: Tokens, source: Num = 0.0) -> Work:
    """Embedding, layers, logits and sampling; prefill fills the pipeline sequence by sequence, decode passes once through."""
    stack = decoder_of(model)
    kept = tokens.batch * tokens.keep
    whole = Seq(
        embed(model, tokens.total, run),
        stack_work(stack, tokens, run, "layers", source),
        logits(model, kept, run),
        sample(model, kept, run),
    )
    if np.all(np.asarray(layout.pp) == 1.0):
        return whole
    hop = _hand_over(model, run, layout, tokens)
    if tokens.decode:
        return Seq(whole, Repeat(layout.pp, hop))
    one = Tokens(1.0, tokens.new, tokens.context)
    share = _share(model, layout)
    middle = stack_work(stack, one, run, "layers", source, share)
    ends = Seq(embed(model, one.total, run), middle), Seq(middle, logits(model, 1.0, run), sample(model, 1.0, run))
    pp = np.asarray(layout.pp, dtype=float)
    single = plain(np.where(pp == 1.0, 1.0, 0.0))
    stages = (
        Stage(single, Seq(ends[0], *ends[1].parts[1:])),
        Stage(1.0 - single, ends[0], send=hop),
        Stage(plain(np.maximum(pp - 2.0, 0.0)), middle, send=hop),
        Stage(1.0 - single, ends[1]),
    )
    return Pipeline(stages, microbatches=tokens.batch)


def _hand_over(model: Model, run: Execution, layout: Layout, tokens: Tokens) -> Collective:
    rows = tokens.new * (tokens.batch if tokens.decode else 1.0)
    size = rows * model.hidden * FORMATS[run.formats.stream].bytes / layout.cp
    ranks = np.minimum(np.asarray(layout.pp, dtype=float), 2.0)
    return Collective(
        operation="send_recv",
        bytes=size,
        ranks=plain(ranks),
        stride=layout.tp * layout.cp * layout.dp,
        label="pipeline.send",
    )


def forward_work(model: Model, run: Execution, layout: Layout, batch: Num, seq: Num) -> Work:
    """One pass with an output for every position: encoders, scoring, embedding models."""
    here = per_replica(batch, layout)
    tokens = Tokens(here, seq, seq, keep=seq)
    if model.decoder is None:
        parts = [encode(model, tokens, run, share=1.0)]
        return Seq(*parts, logits(model, tokens.total, run)) if model.embedding.head else Seq(*parts)
    read: list[Work] = [encode(model, tokens, run)] if model.encoder is not None else []
    return Seq(
        *read,
        embed(model, tokens.total, run),
        stack_work(model.decoder, tokens, run, "layers", source=seq),
        logits(model, tokens.total, run),
    )


def generate_parts(model: Model, run: Execution, layout: Layout, task: Generate) -> tuple[Work, Work]:
    """Prefill, and one decode step at the mean over the growing context (``output`` − 1 of them follow the prefill)."""
    first = prefill_work(model, run, layout, task.batch, task.prompt)
    # Steps attend to prompt + 1 … prompt + output − 1 tokens; an encoder–decoder starts its own context at one.
    start = 1.0 if model.encoder is not None else task.prompt + 1.0
    span = np.maximum(task.output - 2.0, 0.0)
    source = task.prompt if model.encoder is not None else 0.0
    cases = tuple(
        (w, decode_work(model, run, layout, task.batch, start + span * x, source))
        for x, w in zip(_NODES, _WEIGHTS, strict=True)
    )
    return first, Mix(*cases)


def with_host(work: Work, machine: Machine, captured: bool) -> Work:
    """The device's work beside the host that launches it: each kernel from the framework, or one captured graph.

    A CPU launches nothing: it runs the operators itself.
    """
    if machine.device.kind in ("cpu", "mcu"):
        return work
    if captured:
        return Overlap(work, Host(seconds=machine.coefficients.host.graph_launch_s, label="host.graph_launch"))
    return Overlap(work, Host(launches=kernel_count(work), label="host.dispatch"))


def without_host(work: Work) -> Work:
    """What ``with_host`` was given: the device's part alone."""
    return work.parts[0] if isinstance(work, Overlap) and isinstance(work.parts[-1], Host) else work


def kernel_count(work: Work) -> Num:
    """Kernels that a framework launches for ``work``."""
    if isinstance(work, Repeat):
        return work.count * kernel_count(work.body)
    if isinstance(work, Mix):
        return sum((p * kernel_count(case) for p, case in work.cases), 0.0)
    if isinstance(work, Stream):
        return work.launches
    if isinstance(work, Collective):
        return plain(np.where(np.asarray(work.ranks) > 1.0, 1.0, 0.0))
    if isinstance(work, Gemm | Attention | Scan | Conv):
        return 1.0
    if isinstance(work, Op):
        return 0.0 if rules_of(work).table in ("host", "transfer", "storage", "") else 1.0
    return sum((kernel_count(child) for child in work.children()), 0.0)


InferenceTask = Prefill | Decode | Generate | Forward
