"""Fewer tokens in the cache: eviction, merging, budgets by head.

A policy keeps max(budget, share · L) of L tokens: memory and what each step reads stop growing, the arithmetic of a prefill
does not change. What the choice itself takes is there as kernels: fused attention hands out no scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ridgepoint.models.architecture import LatentAttention, SelfAttention
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Scan, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Generate
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.attended import (
    attends,
    cached_tokens,
    choosing,
    heads_part,
    key_bytes,
    others_of,
    scoring,
    steps_of,
    with_attention,
    with_cache,
    with_keys,
)
from ridgepoint.techniques.conditions import every, has_mixer, serves, transformer
from ridgepoint.techniques.products import summed
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_entries
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Repeat, Seq, Work

_OBSERVED = 32.0
"""Last queries of the prompt whose attention says which tokens matter (SnapKV's window, as SAGE-KV and others use it)."""
_BUDGET = Parameter("budget", 1024.0, "tokens that are kept at least", 1.0, 1e9)
_KEPT = Parameter("kept", 0.0, "part of the tokens that is kept, where that is more", 0.0, 1.0)
_EVERY = Parameter("every", 1.0, "steps between evictions (0: once, after the prompt)", 0.0, 1e6)


def kept_tokens(length: Num, budget: Num, kept: Num = 0.0) -> Num:
    """Tokens that a policy keeps of ``length``: min(L, max(budget, kept · L)).

    >>> kept_tokens(40000.0, 64.0, 0.05), kept_tokens(500.0, 1024.0)
    (2000.0, 500.0)
    """
    return plain(np.minimum(length, np.maximum(budget, np.ceil(np.round(kept * np.asarray(length), 6)))))


def _shortens(given: Scenario, values: Values) -> str:
    length = cached_tokens(given)
    fewer = kept_tokens(length, values["budget"], values.get("kept", 0.0)) < np.asarray(length)
    return "" if np.any(fewer) else f"the context of {np.max(length):g} tokens is no longer than what is kept"


_caches = has_mixer(SelfAttention, LatentAttention)


@technique(
    "token-eviction",
    title="tokens that are hardly attended to leave the cache",
    mechanism=("kv_eviction",),
    papers=(
        "tova", "keyformer", "sage-kv", "lazyeviction", "less-kv", "kv-cache-management-survey", "kinetics",
        "long-context-peak-analysis",
    ),
    quality="near the full cache for many tasks at 1/8 to 1/2 of the tokens; retrieval of a single fact suffers first",
    grade="near",
    cannot=every(transformer, serves, _caches, _shortens),
    parameters=(
        _BUDGET,
        _KEPT,
        _EVERY,
        Parameter("rank", 0.0, "rank of a constant state per head that the evicted tokens feed (LESS; 0: none)", 0.0, 1024.0,
                  whole=True, one_value=True),
    ),
    occupies=("kv tokens",),
)  # fmt: skip
def token_eviction(given: Scenario, values: Values) -> Scenario:
    """The cache keeps max(budget, kept · L) tokens of L: memory and what a decode step reads fall, a prefill stays dense.

    After the prompt the attention of its last 32 queries is computed once more (fused kernels hand out no scores, separate
    ones do), the best tokens are found and copied together. While generating the same happens every ``every`` steps; between
    two of them the cache grows by that many tokens (a lag that LazyEviction uses). With ``every`` 0 it grows by all that is
    generated. Nothing at contexts within the budget.

    >>> import ridgepoint as rp
    >>> def run(context: float, *apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Decode(batch=4, context=context), apply=apply)
    >>> evicting = "token-eviction:budget=512,kept=0.125"
    >>> run(16384).time_s / run(16384, evicting).time_s > 1.5, run(16384, evicting).memory["kv"] < run(16384).memory["kv"] / 7
    (True, True)
    """
    return edited(given, "token-eviction", _evicting, values)


@technique(
    "kv-merging",
    title="tokens that leave the cache are merged into those that stay",
    mechanism=("kv_eviction", "kv_compression"),
    papers=("zeromerge", "less-kv", "kv-cache-management-survey"),
    quality="ZeroMerge is reported near the full cache at 5 % of it",
    grade="near",
    cannot=every(transformer, serves, _caches, _shortens),
    parameters=(_BUDGET, _KEPT, _EVERY),
    occupies=("kv tokens",),
)
def kv_merging(given: Scenario, values: Values) -> Scenario:
    """Like eviction, and each token that leaves is added to the most similar one that stays.

    Each merge reads the kept keys once more to find the nearest and rewrites it (K and V): per eviction the kept keys are read
    twice, once for scores and once for similarity. Memory and reads of attention are those of eviction.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Decode(batch=8, context=40960)
    ...     return rp.estimate("llama-2-7b", on="h200", task=task, apply=apply).time_s
    >>> bool(time("token-eviction:kept=0.05") < time("kv-merging:kept=0.05") < time())
    True
    """
    return edited(given, "kv-merging", _evicting, {**values, "rank": 0.0, "merged": True})


_Policy = Callable[[Num], Num]


def _policy(given: Scenario, values: Values) -> tuple[_Policy, _Policy]:
    """The tokens that are there on average when a step reads them, and at most, each a function of the whole length."""
    task, lag = given.task, values["every"]
    once = np.asarray(lag) == 0.0

    def base(length: Num) -> Num:
        if not isinstance(task, Generate):
            return kept_tokens(length, values["budget"], values["kept"])
        first = kept_tokens(task.prompt, values["budget"], values["kept"])
        grown = first + np.maximum(length - task.prompt, 0.0)
        return np.where(once, grown, kept_tokens(length, values["budget"], values["kept"]))

    behind = np.maximum(lag - 1.0, 0.0)
    return lambda n: np.minimum(base(n) + behind / 2.0, n), lambda n: np.minimum(base(n) + behind, n)


def _evicting(built: Built, given: Scenario, values: Values) -> Built:
    cp, (mean, most) = built.layout.cp, _policy(given, values)
    every_, merges, hidden = values["every"], values.get("merged", False), given.plan.fused_attention
    often = np.where(np.asarray(every_) > 0.0, 1.0 / np.maximum(every_, 1e-9), 0.0)

    def step(op: Attention) -> Work:
        fewer = with_keys(op, mean, cp)
        changed = plain(np.where(np.asarray(fewer.kv_len) < np.asarray(op.kv_len), often, 0.0))
        upkeep: list[Work] = [scoring(fewer, fewer.q_len, fewer.kv_len)] if hidden else []
        upkeep.append(choosing(fewer, fewer.kv_len, 1.0))
        if merges:
            upkeep.append(replace(scoring(fewer, fewer.q_len, fewer.kv_len), label=f"{op.label}.select_nearest"))
            upkeep.append(_copied(fewer, 1.0))
        return Seq(fewer, *_state(fewer, values["rank"], built), Repeat(changed, Seq(*upkeep)))

    def first(op: Attention) -> Work:
        kept = plain(np.minimum(mean(op.kv_len * cp) / cp, op.kv_len))
        happens = plain(np.where(np.asarray(kept) < np.asarray(op.kv_len), 1.0, 0.0))
        queries = plain(np.minimum(_OBSERVED, op.q_len))
        scores = [scoring(op, queries, op.kv_len)] if hidden else []
        return Seq(op, Repeat(happens, Seq(*scores, choosing(op, op.kv_len, kept), _copied(op, kept))))

    changed = with_attention(with_attention(built, step, steps_of(built)), first, others_of(built))
    changed = with_cache(changed, given, most(cached_tokens(given)))
    return _with_states(changed, built, values["rank"]) if values["rank"] else changed


def _copied(op: Attention, keys: Num) -> Stream:
    """Keys and values of that many tokens moved together."""
    size = key_bytes(op, keys)
    return Stream(read_bytes=size, write_bytes=size, pattern="gather", label=f"{op.label}.select_copy")


def _state(op: Attention, rank: float, built: Built) -> list[Work]:
    """Reading and updating a linear-attention state of ``rank`` features per head."""
    if not rank:
        return []
    width = op.value_dim if isinstance(op.value_dim, float) and op.value_dim > 0.0 else op.head_dim
    return [
        Scan(batch=op.batch, seq=op.q_len, heads=op.kv_heads, head_dim=width, state_dim=rank, variant="linear", acts=op.acts,
             label=f"{op.label}.state")
    ]  # fmt: skip


def _with_states(changed: Built, built: Built, rank: float) -> Built:
    """The ledger's entry of those states: R · (d + 1) fp32 values per layer and key–value head."""

    def held(op: Op) -> Num:
        states = isinstance(op, Attention) and attends(op)
        return op.batch * op.kv_heads * rank * (op.head_dim + 1.0) * 4.0 if states else 0.0  # type: ignore[attr-defined]

    return with_entries(changed, kv_state=summed(built.phases[-1].work, held) / built.layout.pp)


@technique(
    "streaming-heads",
    title="full context for some heads, a window and sinks for the others",
    mechanism=("kv_eviction", "kv_compression", "sparse_attention"),
    papers=("razorattention", "lserve", "task-kv", "hack-var-kv", "zeromerge"),
    quality="RazorAttention: no noticeable loss with over 70 % of the cache gone; heads are found offline",
    grade="near",
    cannot=every(transformer, serves, has_mixer(SelfAttention)),
    parameters=(
        Parameter("full", 0.15, "part of the key–value heads that keep everything", 0.0, 1.0),
        Parameter("window", 1024.0, "last tokens that the other heads keep", 1.0, 1e9),
        Parameter("sinks", 4.0, "first tokens that they keep", 0.0, 1e6),
        Parameter(
            "extra", 1.0, "further tokens that they keep (a compensation token, tokens from the middle)", 0.0, 1e6
        ),
        Parameter(
            "prefill", False, "the window holds in the prefill too; otherwise tokens leave after a dense prefill"
        ),
    ),
    occupies=("kv heads",),
    neutral={"full": 1.0},
)
def streaming_heads(given: Scenario, values: Values) -> Scenario:
    """A part of the heads keeps the whole context, the others sinks + window + extra tokens.

    cache = full + (1 − full) · min(window + sinks + extra, L)/L of the whole. Both kinds run as kernels of their own. Nothing
    at contexts within the window; sliding windows that the model has already stay as they are.

    >>> import ridgepoint as rp
    >>> def run(context: float, *apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Decode(batch=4, context=context), apply=apply)
    >>> long, short = run(30000, "streaming-heads"), run(512, "streaming-heads")
    >>> 1.0 - long.memory["kv"] / run(30000).memory["kv"] > 0.7, short.memory["kv"] == run(512).memory["kv"]
    (True, True)
    """
    return edited(given, "streaming-heads", _streaming, values)


def _streaming(built: Built, given: Scenario, values: Values) -> Built:
    full, near = values["full"], values["window"] + values["sinks"] + values["extra"]
    cp = built.layout.cp

    def step(op: Attention) -> Work:
        if np.all(np.asarray(full) == 1.0):
            return op
        near_part = with_keys(heads_part(op, 1.0 - full, "streaming"), lambda length: np.minimum(length, near), cp)
        return Seq(heads_part(op, full), near_part)

    def first(op: Attention) -> Work:
        if not values["prefill"] or np.all(np.asarray(full) == 1.0):
            return op
        window = plain(np.where(np.asarray(op.window) > 0.0, np.minimum(near, op.window), near))
        return Seq(heads_part(op, full), replace(heads_part(op, 1.0 - full, "streaming"), window=window))

    changed = with_attention(with_attention(built, step, steps_of(built)), first, others_of(built))
    return with_cache(changed, given, near, 1.0 - full)
