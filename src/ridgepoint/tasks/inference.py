"""Prefill, decode, generation and plain forward passes as work on one device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.kernels import attention, scan
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model, Stack
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.pieces import is_one
from ridgepoint.models.state import stage_share
from ridgepoint.models.transformer import decoder_of, embed, logits, sample, stack_work
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Collective, Conv, Gemm, Host, Scan, Stream
from ridgepoint.tasks import Generate
from ridgepoint.tasks.layout import Layout
from ridgepoint.work import Mix, Op, Overlap, Pipeline, Repeat, Seq, Stage, Work, mapped

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
    stack = decoder_of(model)
    tokens = Tokens(per_replica(batch, layout), prompt, prompt)
    if model.encoder is None:
        return _staged(model, stack, run, layout, tokens, "", _next_token(model, run))
    first = Tokens(tokens.batch, 1.0, 1.0)
    return Seq(
        _staged(model, model.encoder, run, layout, tokens, "encoder."),
        _staged(model, stack, run, layout, first, "", _next_token(model, run), source=prompt),
    )


def decode_work(
    model: Model, run: Execution, layout: Layout, batch: Num, context: Num, source: Num = 0.0, new: Num = 1.0
) -> Work:
    """One step over ``new`` tokens of every sequence (more than one where drafts are verified). With pipeline stages
    the batch moves in pp groups, one per stage: a group's token takes
    one trip through all stages.
    """
    stack = decoder_of(model)
    here = per_replica(batch, layout)
    group = plain(np.ceil(here / np.minimum(layout.pp, here)))
    tokens = Tokens(group, new, context, decode=True, keep=new)
    trip = _whole(model, stack, run, tokens, "", _next_token(model, run), source)
    if is_one(layout.pp):
        return trip
    return Seq(trip, Repeat(layout.pp, _hand_over(model, run, layout, tokens)))


def forward_work(model: Model, run: Execution, layout: Layout, batch: Num, seq: Num) -> Work:
    """One pass with an output for every position: encoders, scoring, embedding models."""
    here = per_replica(batch, layout)
    tokens = Tokens(here, seq, seq, keep=seq)

    def outputs(t: Tokens) -> Work:
        return logits(model, run.rows(t), run)

    if model.encoder is None or model.decoder is None:
        stack, at = (model.main, "") if model.encoder is None else (model.encoder, "encoder.")
        last = outputs if model.decoder is not None or model.embedding.head else None
        return _staged(model, stack, run, layout, tokens, at, last)
    return Seq(
        _staged(model, model.encoder, run, layout, tokens, "encoder."),
        _staged(model, model.decoder, run, layout, tokens, "", outputs, source=seq),
    )


def input_length(model: Model, length: Num) -> Num:
    """Positions of the encoder's output that cross-attention sees in a decode step: what every input is padded to, else as
    many as ``length`` says; 0 without an encoder.
    """
    if model.encoder is None:
        return 0.0
    return float(model.padded_input) if model.padded_input else length


Ending = Callable[[Tokens], Work]


def _next_token(model: Model, run: Execution) -> Ending:
    """Logits of the kept positions and the choice of a token."""

    def ending(tokens: Tokens) -> Work:
        kept = tokens.batch * tokens.keep
        return Seq(logits(model, kept, run), sample(model, kept, run))

    return ending


def _whole(
    model: Model, stack: Stack, run: Execution, tokens: Tokens, at: str, last: Ending | None, source: Num = 0.0
) -> Work:
    """Embedding, all layers of a stack, and what follows them."""
    after = [] if last is None else [last(tokens)]
    layers = stack_work(stack, tokens, run, f"{at}layers", source)
    return Seq(embed(model, run.rows(tokens), run, f"{at}embedding"), layers, *after)


def _staged(
    model: Model,
    stack: Stack,
    run: Execution,
    layout: Layout,
    tokens: Tokens,
    at: str,
    last: Ending | None = None,
    source: Num = 0.0,
) -> Work:
    """A pass through all pipeline stages: the whole batch at once on a single stage, else sequence by sequence."""
    if is_one(layout.pp):
        return _whole(model, stack, run, tokens, at, last, source)
    pp = np.asarray(layout.pp, dtype=float)
    single = plain(np.where(pp == 1.0, 1.0, 0.0))
    several = 1.0 - single
    one = replace(tokens, batch=plain(np.where(pp == 1.0, tokens.batch, 1.0)))
    before = embed(model, run.rows(one), run, f"{at}embedding")
    middle = stack_work(stack, one, run, f"{at}layers", source, stage_share(stack.depth, layout.pp))
    after = [] if last is None else [last(one)]
    hop = _hand_over(model, run, layout, one)
    stages = (
        Stage(single, Seq(before, middle, *after)),
        Stage(several, Seq(before, middle), send=hop),
        Stage(plain(np.maximum(pp - 2.0, 0.0)), middle, send=hop),
        Stage(several, Seq(middle, *after)),
    )
    return Pipeline(stages, microbatches=plain(np.where(pp == 1.0, 1.0, tokens.batch)))


def _hand_over(model: Model, run: Execution, layout: Layout, tokens: Tokens) -> Collective:
    """One message from a pipeline stage to the next; none where there is one stage only."""
    return Collective(
        operation="send_recv",
        bytes=run.rows(tokens) * model.hidden * FORMATS[run.formats.stream].bytes,
        ranks=plain(np.minimum(np.asarray(layout.pp, dtype=float), 2.0)),
        stride=layout.tp * layout.cp * layout.dp,
        label="pipeline.send",
    )


def generate_parts(model: Model, run: Execution, layout: Layout, task: Generate, new: Num = 1.0) -> tuple[Work, Work]:
    """Prefill, and one decode step over ``new`` tokens at the mean over the growing context (for ``output`` − 1 tokens)."""
    first = prefill_work(model, run, layout, task.batch, task.prompt)
    # Steps attend to prompt + 1 … prompt + output − 1 tokens; an encoder–decoder's own context starts with
    # the token of the prefill.
    start = 2.0 if model.encoder is not None else task.prompt + 1.0
    span = np.maximum(task.output - 2.0, 0.0)
    source = task.prompt if model.encoder is not None else 0.0
    cases = tuple(
        (w, decode_work(model, run, layout, task.batch, start + span * x, source, new))
        for x, w in zip(_NODES, _WEIGHTS, strict=True)
    )
    return first, Mix(*cases)


def appended(work: Work, held: Num = 1.0) -> Work:
    """Decode steps that join their keys and values to the cache by concatenation: what was there is read, and all of it
    written anew, before attention reads it. (Transformers' ``DynamicCache.update``: one ``torch.cat`` each for both.)

    ``held``: what the cache holds over what attention reads of it.

    >>> op = Attention(batch=1.0, heads=8.0, kv_heads=8.0, q_len=1.0, kv_len=100.0, head_dim=64.0)
    >>> copy, _ = appended(op).parts
    >>> copy.read_bytes, copy.write_bytes
    (202752.0, 204800.0)
    """

    def rule(op: Op) -> Work:
        size, new = _keys_read(op)
        if not np.any(np.asarray(size) > 0.0):
            return op
        whole = size * held
        copy = Stream(read_bytes=whole * (1.0 - new), write_bytes=whole, launches=2.0, label=f"{op.label}.cache_copy")
        return Seq(copy, op)

    return mapped(work, rule)


def cache_reads(work: Work) -> Num:
    """Bytes of cached keys and values that the attention of ``work`` reads."""
    if isinstance(work, Op):
        return _keys_read(work)[0]
    if isinstance(work, Repeat):
        return work.count * cache_reads(work.body)
    if isinstance(work, Mix):
        return sum((p * cache_reads(case) for p, case in work.cases), 0.0)
    if isinstance(work, Pipeline):
        return sum((times * cache_reads(part) for times, part in work.runs()), 0.0)
    return sum((cache_reads(child) for child in work.children()), 0.0)


def _keys_read(op: Op) -> tuple[Num, Num]:
    """(bytes of keys and values that an op of attention reads, the part of them that is new); zeros for other ops."""
    if isinstance(op, Attention) and op.causal and not op.backward and not op.label.endswith(_CHOOSING):
        return attention.kv_bytes(op), op.q_len / op.kv_len
    if isinstance(op, Gemm) and op.label.endswith(_SCORES):
        return 2.0 * op.batch * op.n * op.k * FORMATS[op.weights].bytes, 1.0 / op.n
    return 0.0, 0.0


_SCORES = ".attention.attention.scores"
"""Label of the first product of unfused attention."""
_CHOOSING = (".select_scores", ".select_nearest", ".index_scores")
"""Labels of scores that only choose keys."""
_DISPATCH, _GRAPH = "host.dispatch", "host.graph_launch"
"""Labels of what the host does to start kernels."""


def has_host(machine: Machine) -> bool:
    """Whether another processor launches the device's kernels; CPUs and boards that compute on theirs have none."""
    return machine.device.kind not in ("cpu", "mcu") and not machine.coefficients.device.processor


def with_host(work: Work, machine: Machine, captured: bool, eager: bool = False) -> Work:
    """The device's work beside the host that launches it: each kernel from the framework (``eager``: one that interprets),
    or one captured graph.

    A processor runs the operators itself: an interpreter's time comes on top of theirs.
    """
    if not has_host(machine):
        interpreted = eager and not captured and machine.device.kind == "cpu"
        return Seq(work, _started(work, eager=True)) if interpreted else work
    if captured:
        return Overlap(work, Host(seconds=machine.coefficients.host.graph_launch_s, label=_GRAPH))
    return Overlap(work, _started(work, eager))


def _started(work: Work, eager: bool) -> Host:
    return Host(launches=kernel_count(work), eager=eager, label=_DISPATCH)


def without_host(work: Work) -> Work:
    """What ``with_host`` was given: the device's part alone."""
    if not isinstance(work, Seq | Overlap):
        return work
    last = work.parts[-1]
    return work.parts[0] if isinstance(last, Host) and last.label in (_DISPATCH, _GRAPH) else work


BARE = 0.5
"""Host time of a single operator in that of a kernel as counted elsewhere: assumed, not fitted. A layer of eager BERT, whose
rows ``eager_s`` comes from, counts as 14 kernels and dispatches 16 and 37 views (PyTorch, counted): 14/16 were views free,
14/53 if they cost as much; a half lies between.
"""


def kernel_count(work: Work) -> Num:
    """Kernels that a framework launches for ``work``, bare operators counted as the parts of one that they cost the host."""
    if isinstance(work, Repeat):
        return work.count * kernel_count(work.body)
    if isinstance(work, Mix):
        return sum((p * kernel_count(case) for p, case in work.cases), 0.0)
    if isinstance(work, Pipeline):
        return sum((times * kernel_count(part) for times, part in work.runs()), 0.0)
    if isinstance(work, Stream):
        return work.launches * BARE if work.bare else work.launches
    if isinstance(work, Collective):
        return plain(np.where(np.asarray(work.ranks) > 1.0, 1.0, 0.0))
    if isinstance(work, Scan):
        return scan.launches(work)
    if isinstance(work, Gemm | Attention | Conv):
        return 1.0
    if isinstance(work, Op):
        return 0.0 if rules_of(work).table in ("host", "transfer", "storage", "") else 1.0
    return sum((kernel_count(child) for child in work.children()), 0.0)
