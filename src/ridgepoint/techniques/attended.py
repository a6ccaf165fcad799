"""Attention over fewer keys: which ops attend to the cache, what a cache of so many tokens takes, how both change.

The number of tokens that a policy keeps is a function of the whole length, so that prefill, every decode step and the ledger
follow the same rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Model, SelfAttention
from ridgepoint.models.state import cache_bytes
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Stream
from ridgepoint.scenario import Scenario
from ridgepoint.tasks import Decode, Generate, Prefill
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.tasks.inference import cache_reads, per_replica
from ridgepoint.tasks.layout import execution
from ridgepoint.techniques.rewrite import labelled, scaled_entries, with_ops
from ridgepoint.work import Op, Work

_OTHER = ("*.cross.*", "*index_scores", "*.select_*", "draft.*")


def attends(op: Op) -> bool:
    """Whether the op is self-attention of the model (no cross-attention, no scores of an indexer, no draft's)."""
    return isinstance(op, Attention) and not labelled(op, *_OTHER)


def mixers(given: Scenario) -> list[SelfAttention]:
    """The softmax attention of the model's layers, one for every run of equal ones."""
    assert isinstance(given.model, Model)
    return [m for layer, _ in given.model.main.layers if isinstance(m := layer.mixer, SelfAttention)]


def steps_of(built: Built) -> tuple[str, ...]:
    """Names of the phases that are repeated for every further token."""
    return tuple(phase.name for phase in built.phases if phase.role == "next")


def others_of(built: Built) -> tuple[str, ...]:
    """Names of the phases that happen once: prefill, forward pass."""
    return tuple(phase.name for phase in built.phases if phase.role != "next")


def with_attention(built: Built, change: Callable[[Attention], Work], phases: tuple[str, ...]) -> Built:
    """``built`` with ``change`` made to self-attention in these phases; nothing where there are none of them."""

    def rule(op: Op) -> Work:
        return change(op) if isinstance(op, Attention) and attends(op) else op

    return with_ops(built, rule, *phases) if phases else built


def all_kept(before: Built, after: Built) -> Built:
    """``after`` for steps that read a part of a cache which stays whole: where it grows by copies, these stay, too."""

    def change(old: Phase, new: Phase) -> Phase:
        if not np.any(np.asarray(new.appended) > 0.0):
            return new
        return replace(new, appended=new.appended * cache_reads(old.work) / cache_reads(new.work))

    return replace(after, phases=tuple(map(change, before.phases, after.phases)))


def cached_tokens(given: Scenario) -> Num:
    """Tokens of a sequence that are cached at the end of the task."""
    task = given.task
    if isinstance(task, Decode):
        return task.context
    if isinstance(task, Generate):
        return task.prompt + task.output - 1.0
    return task.prompt if isinstance(task, Prefill) else 0.0


def cache_of(given: Scenario, built: Built, tokens: Num) -> Num:
    """Bytes of the cache on one device if ``tokens`` of every sequence were kept, in the plan's format."""
    assert isinstance(given.model, Model)
    run, _ = execution(given.model, given.plan, built.layout, training=False)
    here = per_replica(given.task.sizes()["batch"], built.layout)
    return cache_bytes(given.model, here, tokens, run, built.layout.pp)


def with_cache(built: Built, given: Scenario, kept: Num, share: Num = 1.0) -> Built:
    """``built`` with ``kept`` tokens of every sequence in a ``share`` of the cache, all tokens in the rest of it."""
    full = cache_of(given, built, cached_tokens(given))
    fewer = cache_of(given, built, np.minimum(kept, cached_tokens(given)))
    return scaled_entries(built, plain(1.0 - share + share * fewer / full), "kv")


def with_keys(op: Attention, kept: Callable[[Num], Num], cp: Num = 1.0) -> Attention:
    """``op`` over as many keys as ``kept`` leaves of the whole length; ``cp`` ranks hold a part of them each.

    >>> op = Attention(batch=1.0, heads=8.0, kv_heads=8.0, q_len=1.0, kv_len=4096.0, head_dim=64.0)
    >>> with_keys(op, lambda length: length / 8.0).kv_len
    512.0
    """
    length = np.minimum(kept(op.kv_len * cp) / cp, op.kv_len)
    return replace(op, kv_len=plain(np.maximum(length, np.minimum(op.q_len, op.kv_len))))


def key_bytes(op: Attention, keys: Num) -> Num:
    """Keys and values of ``keys`` tokens of every sequence, as the op stores them."""
    value = np.where(np.asarray(op.value_dim) > 0.0, op.value_dim, op.head_dim)
    width = op.head_dim if op.latent else op.kv_heads * (op.head_dim + value)
    return plain(op.batch * keys * width * FORMATS[op.kv].bytes)


def heads_part(op: Attention, share: Num, name: str = "") -> Attention:
    """The op for a share of its heads and of the keys and values that they use."""
    label = f"{op.label}.{name}" if name else op.label
    return replace(op, heads=op.heads * share, kv_heads=op.kv_heads * share, label=label)


def choosing(op: Attention, candidates: Num, chosen: Num) -> Stream:
    """The pass that finds the ``chosen`` best of ``candidates`` scores for every head that has keys of its own."""
    rows = op.batch * (1.0 if op.latent else op.kv_heads)
    return Stream(
        read_bytes=4.0 * rows * candidates,
        write_bytes=4.0 * rows * chosen,
        flop=8.0 * rows * candidates,
        pattern="sample",
        rows=rows,
        label=f"{op.label}.select_top",
    )


def scoring(op: Attention, queries: Num, keys: Num) -> Attention:
    """``queries`` of every sequence against ``keys`` keys, values not read: what fused attention does not hand out."""
    scores = replace(op, q_len=queries, kv_len=keys, value_dim=1.0, causal=False, window=0.0, chunk=0.0)
    return replace(scores, label=f"{op.label}.select_scores")
