"""Speculation in more than one line: trees of drafts, and drafts of drafts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Stream
from ridgepoint.scenario import Scenario, Values, find
from ridgepoint.tasks.build import Built, times
from ridgepoint.techniques.conditions import every, generates, softmax_attention, transformer
from ridgepoint.techniques.reductions import fewer_keys, prompt_tokens, without
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, prefixed, with_entries, with_plan
from ridgepoint.techniques.self_speculation import plain_step, rounds, steps_of
from ridgepoint.techniques.speculative import ACCEPTANCE, DRAFTS, accepted_tokens, is_drafter
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work, mapped

_DRAFT = Parameter("draft", "llama-3.2-1b", "draft model, by its name in the catalogue")


def level_acceptance(acceptance: Num, width: Num, distinct: Num = 1.0) -> Num:
    """Probability that one of the siblings of a level is accepted: 1 − (1 − α)^w', w' = 1 + (w − 1) · distinct.

    Siblings drawn without replacement all differ (distinct = 1); drawn with replacement some repeat and add nothing
    (Jeon et al. 2024).

    >>> level_acceptance(0.5, 2.0), level_acceptance(0.5, 2.0, distinct=0.0)
    (0.75, 0.5)
    """
    tries = 1.0 + (np.asarray(width) - 1.0) * distinct
    return plain(1.0 - (1.0 - np.asarray(acceptance)) ** tries)


@technique(
    "tree-speculation",
    title="a tree of drafts, verified in one pass",
    mechanism=("speculative_decoding",),
    papers=("recursive-speculative-decoding", "lantern"),
    quality="same distribution as the model's own sampling",
    grade="exact",
    cannot=every(transformer, generates, is_drafter),
    parameters=(
        _DRAFT,
        Parameter("depth", 4.0, "levels of the tree", 0.0, 64.0, whole=True),
        Parameter("width", 2.0, "drafts that a level keeps", 1.0, 256.0, whole=True),
        Parameter("acceptance", 0.6, "probability that a single draft is accepted", 0.0, 1.0),
        Parameter("distinct", 1.0, "part of a level's siblings that differ (1: drawn without replacement)", 0.0, 1.0),
    ),
    occupies=("decode step",),
)
def tree_speculation(given: Scenario, values: Values) -> Scenario:
    """Each of d levels keeps w drafts (a beam); the model verifies all w · d nodes in one pass: E(a, d) tokens a round.

    a = 1 − (1 − α)^w is the chance that a level holds the right token. A round costs d passes of the draft over w tokens and
    one of the model over w · d + 1: more acceptance for more arithmetic, which is free while memory binds.

    >>> import ridgepoint as rp
    >>> def tpot(batch: int, width: int) -> float:
    ...     task = rp.Decode(batch=batch, context=1024)
    ...     apply = [f"tree-speculation:acceptance=0.5,width={width}"]
    ...     return rp.estimate("llama-3.1-70b", on="4xh100-sxm", task=task, apply=apply).tpot_s
    >>> tpot(1, 4) < tpot(1, 1), tpot(128, 4) > tpot(128, 1)
    (True, True)
    """
    nodes = values["width"] * values["depth"]
    return edited(with_plan(given, speculated=nodes), "tree-speculation", _tree, values)


def _tree(built: Built, given: Scenario, values: Values) -> Built:
    start = plain_step(given, "tree-speculation")
    plan = replace(start.plan, speculated=values["width"] - 1.0, ep=None)
    small = replace(start, model=find(values["draft"]), plan=plan, edits=()).build()
    level = level_acceptance(values["acceptance"], values["width"], values["distinct"])
    changed = rounds(built, steps_of(small), values["depth"], accepted_tokens(level, values["depth"]), small)
    changed = with_entries(changed, draft_weights=small.ledger["weights"], draft_kv=small.ledger["kv"])
    return assumed(changed, "acceptances of a tree's levels are independent")


@technique(
    "two-level-speculation",
    title="a small model drafts for the model with a sparse cache, which drafts for the model itself",
    mechanism=("speculative_decoding", "kv_eviction"),
    papers=("triforce",),
    quality="same distribution as the model's own sampling",
    grade="exact",
    cannot=every(transformer, generates, softmax_attention, is_drafter),
    parameters=(
        replace(_DRAFT, default="llama-3.2-1b"),
        Parameter("budget", 4096.0, "tokens of the sparse cache", 1.0, 1e9, whole=True),
        Parameter("chunk", 8.0, "tokens that are retrieved together", 1.0, 4096.0, whole=True),
        Parameter("inner", 2.0, "drafts of the small model per round with the sparse cache", 0.0, 64.0, whole=True),
        Parameter("inner_acceptance", 0.6, "probability that the sparse model accepts one of them", 0.0, 1.0),
        replace(DRAFTS, default=6.0),
        replace(ACCEPTANCE, default=0.9),
    ),
    occupies=("decode step",),
)
def two_level_speculation(given: Scenario, values: Values) -> Scenario:
    """γ drafts come from the model over ``budget`` retrieved tokens, which itself verifies γ₁ drafts of a small model.

    γ drafts take γ / E(α₁, γ₁) rounds, each of γ₁ passes of the small model (its own cache limited to the budget too) and
    one of the model with the sparse cache over γ₁ + 1 tokens. Then the whole cache verifies γ + 1 tokens: E(α, γ). Retrieval
    scores the mean keys of all chunks once per round. Gains where the cache is much larger than the weights, or far away.

    >>> import ridgepoint as rp
    >>> def tpot(context: int, *apply: str) -> float:
    ...     task = rp.Decode(batch=1, context=context)
    ...     return rp.estimate("llama-2-7b", on="a100-sxm-80gb", task=task, apply=apply).tpot_s
    >>> gains = [tpot(c) / tpot(c, "two-level-speculation") for c in (4096, 120000)]
    >>> gains[1] > gains[0] and 1.8 < gains[1] < 4.0
    True
    """
    return edited(with_plan(given, speculated=values["drafts"]), "two-level-speculation", _levels, values)


def _levels(built: Built, given: Scenario, values: Values) -> Built:
    start, budget, inner = plain_step(given, "two-level-speculation"), values["budget"], values["inner"]
    here = without(
        start, "kv-offload", "near-memory-attention"
    )  # the sparse cache lies on the device, wherever the whole one does
    sparse = replace(here, plan=replace(start.plan, speculated=inner)).build()
    own = replace(start.plan, ep=None)
    small = replace(start, model=find(values["draft"]), plan=own, edits=()).build()
    fast = {name: _within(work, budget) for name, work in steps_of(small).items()}
    first = accepted_tokens(values["inner_acceptance"], inner)
    drafting = {
        name: Seq(times(inner, prefixed(fast[name], "small.")), _within(work, budget))
        for name, work in steps_of(sparse).items()
        if name in fast
    }
    tokens = accepted_tokens(values["acceptance"], values["drafts"])
    changed = rounds(built, drafting, values["drafts"] / first, tokens, small)
    rule = _retrieval(values)
    phases = tuple(
        replace(phase, work=mapped(phase.work, rule)) if phase.role == "next" and phase.name != "draft" else phase
        for phase in changed.phases
    )
    part = np.minimum(budget / prompt_tokens(given), 1.0)
    return with_entries(
        replace(changed, phases=phases),
        draft_weights=small.ledger["weights"],
        draft_kv=small.ledger["kv"] * part,
        sparse_kv=sparse.ledger["kv"] * part,
    )


def _within(work: Work, budget: Num) -> Work:
    """``work`` with attention to at most ``budget`` keys."""
    return mapped(work, lambda op: fewer_keys(op, lambda length: np.minimum(length, budget)))


def _retrieval(values: Values) -> Any:
    """The verifying pass also scores chunks, by their mean keys, and copies the best into the sparse cache."""

    def rule(op: Op) -> Work:
        if not isinstance(op, Attention):
            return op
        keys = 2.0 * op.batch * op.kv_heads * op.head_dim
        moved = 2.0 * keys * np.minimum(values["budget"], op.kv_len)
        retrieve = Stream(
            read_bytes=keys * op.kv_len / values["chunk"] + moved,
            write_bytes=moved,
            flop=2.0 * op.batch * op.heads * op.head_dim * op.kv_len / values["chunk"],
            pattern="gather",
            launches=3.0,
            label=f"{op.label}.retrieve",
        )
        return Seq(op, retrieve)

    return rule
