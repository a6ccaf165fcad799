"""How fewer tokens, sequences, keys or layers change ops: the rules that techniques of cheaper tokens and steps share.

An op in a layer that only some rows pass through is expected to run for those that do. Weights are read where any row
needs them: of ``rows`` rows of which each comes with probability s, with probability 1 − (1 − s)^rows (``visited``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile
from typing import Any

import numpy as np

from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Collective, Conv, Gemm, Scan, Stream, Transfer
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built, times
from ridgepoint.tasks.inference import per_replica
from ridgepoint.tasks.layout import Layout
from ridgepoint.techniques.rewrite import Rule, with_phases
from ridgepoint.work import Op, Repeat, Seq, Several, Work, mapped, walk


def before(given: Scenario, name: str) -> Scenario:
    """``given`` with only those edits that were made before the one of that name: what the edit starts from."""
    return replace(given, edits=tuple(takewhile(lambda edit: edit.name != name, given.edits)))


def without(given: Scenario, *names: str) -> Scenario:
    """``given`` without the edits of these techniques."""
    return replace(given, edits=tuple(edit for edit in given.edits if edit.name not in names))


def sometimes(share: Num, work: Work) -> Work:
    """``work`` as often as ``share`` says; nothing where that is 0 everywhere."""
    return Seq() if isinstance(share, float) and share == 0.0 else times(share, work)


def parted(share: Num, one: Work, other: Work) -> Work:
    """``one`` in a ``share`` of the cases, ``other`` in the rest.

    >>> from ridgepoint.ops import Delay
    >>> from ridgepoint.work import tree
    >>> print(tree(parted(0.25, Delay(seconds=1.0), Delay(seconds=2.0))))
    Seq
    ├─ Repeat(0.25)
    │  └─ Delay(seconds=1)
    └─ Repeat(0.75)
       └─ Delay(seconds=2)
    """
    return Seq(sometimes(share, one), sometimes(1.0 - share, other))


def layer_rule(given: Scenario, rule: Rule) -> Callable[[Work], Work]:
    """``rule`` on every op of the model's layers; other ops stay.

    Layers of a token model carry ``layers.`` in their labels; those of a network are what it repeats.
    """
    if isinstance(given.model, Model):
        return lambda work: mapped(work, lambda op: rule(op) if op.label.startswith(_LAYERS) else op)
    return lambda work: _in_repeats(work, rule)


_LAYERS = ("layers.", "encoder.layers.")


def _in_repeats(work: Work, rule: Rule) -> Work:
    if isinstance(work, Repeat):
        return replace(work, body=mapped(work.body, rule))
    if isinstance(work, Several):
        return type(work)(*(_in_repeats(part, rule) for part in work.parts), label=work.label)
    return work


def with_layer_ops(built: Built, given: Scenario, rule: Rule, *phases: str) -> Built:
    """``built`` with ``rule`` made to every op of the layers in the phases of these names (all where none is given)."""
    change = layer_rule(given, rule)
    return with_phases(built, lambda phase: replace(phase, work=change(phase.work)), *phases)


def has_layers(given: Scenario, values: Values) -> str:
    """The model repeats layers that can be skipped or thinned."""
    if isinstance(given.model, Model):
        return ""
    found = any(isinstance(node, Repeat) for phase in given.build().phases for node in walk(phase.work))
    return "" if found else f"{given.model.name} repeats no layers"


def mixes_tokens(given: Scenario, values: Values) -> str:
    """Its layers attend: tokens can be left out of them."""
    found = any(isinstance(node, Attention) for phase in given.build_whole().phases for node in walk(phase.work))
    return "" if found else f"{given.model.name} has no attention: there are no tokens to leave out"


def fewer_tokens(op: Any, share: Num) -> Work:
    """``op`` over a ``share`` of the tokens of every sequence: rows of products, queries and keys of attention."""
    return _part(op, share, _of_tokens)


def fewer_queries(op: Any, share: Num) -> Work:
    """``op`` for a ``share`` of the new tokens, over all keys."""
    return _part(op, share, _of_queries)


def fewer_sequences(op: Any, share: Num) -> Work:
    """``op`` over a ``share`` of the sequences."""
    return _part(op, share, _of_sequences)


def _part(op: Any, share: Num, rule: Callable[[Any, Num], Work]) -> Work:
    """``rule(op, share)``; where nothing is left nothing runs, instead of a kernel over no rows."""
    if isinstance(share, float):
        return rule(op, share) if share > 0.0 else Seq()
    if np.all(share > 0.0):
        return rule(op, share)
    return Repeat(plain(np.where(share > 0.0, 1.0, 0.0)), rule(op, plain(np.where(share > 0.0, share, 1.0))))


def _of_tokens(op: Any, share: Num) -> Work:
    if isinstance(op, Attention):
        return replace(op, q_len=op.q_len * share, kv_len=op.kv_len * share)
    if isinstance(op, Scan):
        return replace(op, seq=op.seq * share)
    return _of_rows(op, share)


def _of_queries(op: Any, share: Num) -> Work:
    return replace(op, q_len=op.q_len * share) if isinstance(op, Attention) else _of_tokens(op, share)


def _of_sequences(op: Any, share: Num) -> Work:
    if isinstance(op, Attention | Scan | Conv):
        return replace(op, batch=op.batch * share)
    return _of_rows(op, share)


def _of_rows(op: Any, share: Num) -> Work:
    """Rows of products, bytes and operations of everything that passes over them."""
    if isinstance(op, Gemm):
        rows = "k" if op.label.endswith(".grad_weight") else "m"
        return replace(op, **{rows: getattr(op, rows) * share})
    if isinstance(op, Conv):
        return replace(op, h=op.h * share)
    if isinstance(op, Stream):
        sizes = ("read_bytes", "write_bytes", "flop", "special", "rows", "saved_bytes")
        return replace(op, **{name: getattr(op, name) * share for name in sizes})
    if isinstance(op, Collective | Transfer):
        return replace(op, bytes=op.bytes * share)
    same: Work = op
    return same


def fewer_keys(work: Work, kept: Callable[[Num], Num]) -> Work:
    """``work`` whose attention is over ``kept(keys)`` keys, at least the new ones."""

    def rule(op: Op) -> Work:
        if not isinstance(op, Attention):
            return op
        return replace(op, kv_len=plain(np.maximum(kept(op.kv_len), op.q_len)))

    return mapped(work, rule)


def visited(share: Num, rows: Num) -> tuple[Num, Num]:
    """(probability that any of ``rows`` rows comes, share of the rows that comes when any does): s / (1 − (1 − s)^rows).

    >>> visited(0.5, 1.0)
    (0.5, 1.0)
    >>> chance, part = visited(0.5, 64.0)
    >>> round(chance, 6), round(part, 6)
    (1.0, 0.5)
    """
    s = np.asarray(share, dtype=float)
    chance = 1.0 - (1.0 - s) ** np.asarray(rows, dtype=float)
    part = np.where(chance > 0.0, s / np.where(chance > 0.0, chance, 1.0), 0.0)
    return plain(chance), plain(part)


def thinned(work: Work, share: Num, rows: Num) -> Work:
    """``work`` of a decode step to which each of ``rows`` rows comes with probability ``share``."""
    chance, part = visited(share, rows)
    return sometimes(chance, mapped(work, lambda op: fewer_sequences(op, part)))


def step_rows(given: Scenario, layout: Layout) -> Num:
    """Rows of one decode step on a device: its sequences (those of one pipeline group) and their draft tokens."""
    here = per_replica(given.task.sizes()["batch"], layout)
    group = plain(np.ceil(here / np.minimum(layout.pp, here)))
    return group * (1.0 + given.plan.speculated)


def prompt_tokens(given: Scenario) -> Num:
    """Tokens of a sequence that are there before generation: of the prompt, the context, the training sequence."""
    task = given.task
    sizes = task.sizes()
    return next(sizes[name] for name in ("prompt", "context", "seq") if name in sizes)


def cached_tokens(given: Scenario) -> Num:
    """Tokens of a sequence that the cache holds in the end."""
    return prompt_tokens(given) + getattr(given.task, "output", 1.0) - 1.0
