"""All keys are kept, few are read: pages chosen per query, choices that are used again."""

from __future__ import annotations

import numpy as np

from ridgepoint.models.architecture import LatentAttention, SelfAttention
from ridgepoint.numeric import plain
from ridgepoint.ops import Attention
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.attended import (
    all_kept,
    cached_tokens,
    choosing,
    scoring,
    steps_of,
    with_attention,
    with_keys,
)
from ridgepoint.techniques.conditions import every, generates, has_mixer, transformer
from ridgepoint.techniques.products import divided
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, scaled_entries
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Repeat, Seq, Work

_DENSE = Parameter("dense_layers", 0.0, "part of the layers that stays dense", 0.0, 1.0)
_caches = has_mixer(SelfAttention, LatentAttention)


def _longer_than_budget(given: Scenario, values: Values) -> str:
    length = cached_tokens(given)
    short = np.all(np.asarray(length) <= values["budget"])
    return f"the context of {np.max(length):g} tokens is within the budget: dense attention is used" if short else ""


@technique(
    "page-selection",
    title="each step reads the pages of keys that its query needs",
    mechanism=("sparse_attention",),
    papers=("lserve", "infllm-v2", "sage-kv", "kinetics", "triforce", "sparamx", "efficientllm"),
    quality="near dense: Quest-like selection is reported within a point at a few thousand tokens of budget",
    grade="near",
    cannot=every(transformer, generates, _caches, _longer_than_budget),
    parameters=(
        Parameter("budget", 2048.0, "tokens that a step reads per head", 1.0, 1e9),
        Parameter("page", 64.0, "tokens of a page", 1.0, 65536.0),
        Parameter(
            "summaries", 2.0, "key-sized vectors that stand for a page (2: minimum and maximum; 1: mean)", 0.0, 64.0
        ),
        Parameter("reused", 1.0, "steps that use the same choice", 1.0, 1000.0),
        _DENSE,
    ),
    occupies=("kv reads",),
)
def page_selection(given: Scenario, values: Values) -> Scenario:
    """A decode step scores one summary per page, picks the best pages and attends to ``budget`` tokens; all tokens stay.

    keys read = budget + summaries · L/page / 2 per head (summaries are keys without values), and two small kernels a layer.
    The summaries take summaries/(2·page) of the cache besides. Memory does not fall. Dense attention is used while the
    context is within the budget, so that short contexts neither gain nor lose.

    >>> import ridgepoint as rp
    >>> def time(context: float, *apply: str) -> float:
    ...     task = rp.Decode(batch=16, context=context)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).time_s
    >>> bool(time(32768) / time(32768, "page-selection") > 1.8)
    True
    """
    return edited(given, "page-selection", _selecting, values)


def _selecting(built: Built, given: Scenario, values: Values) -> Built:
    cp, budget, page = built.layout.cp, values["budget"], values["page"]

    def change(op: Attention) -> Work:
        fewer = with_keys(op, lambda length: np.minimum(length, budget), cp)
        happens = plain(np.where(np.asarray(fewer.kv_len) < np.asarray(op.kv_len), 1.0, 0.0))
        pages = np.ceil(op.kv_len / page)
        select = Seq(
            scoring(op, op.q_len, pages * np.maximum(values["summaries"], 1e-9)),
            choosing(op, pages, np.ceil(fewer.kv_len / page)),
        )
        return divided(values["dense_layers"], op, Seq(fewer, Repeat(happens / values["reused"], select)))

    summaries = 1.0 + (1.0 - values["dense_layers"]) * values["summaries"] / (2.0 * page)
    return all_kept(built, scaled_entries(with_attention(built, change, steps_of(built)), summaries, "kv"))


@technique(
    "recycled-attention",
    title="a full step now and then, its best keys for the steps between",
    mechanism=("sparse_attention",),
    papers=("recycled-attention", "kinetics"),
    quality="twice the quality of a local window at the same speed on retrieval (RULER), below full attention",
    grade="near",
    cannot=every(transformer, generates, _caches, _longer_than_budget),
    parameters=(
        Parameter("budget", 2048.0, "keys that the steps between read", 1.0, 1e9),
        Parameter("stride", 16.0, "steps from one full one to the next", 1.0, 1e6),
    ),
    occupies=("kv reads",),
    neutral={"stride": 1.0},
)
def recycled_attention(given: Scenario, values: Values) -> Scenario:
    """One step in ``stride`` attends to all L keys and keeps the names of the best K; the others read those: (L + (S − 1)K)/S.

    The full step also scores its keys for the choice (fused attention hands out no scores) and copies them together. The
    whole cache stays. The figure is the mean step; full ones are slower.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Decode(batch=16, context=32768)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).time_s
    >>> bool(time("page-selection") < time("recycled-attention:stride=16") < time("recycled-attention:stride=4") < time())
    True
    """
    return edited(given, "recycled-attention", _recycling, values)


def _recycling(built: Built, given: Scenario, values: Values) -> Built:
    cp, once = built.layout.cp, 1.0 / values["stride"]

    def change(op: Attention) -> Work:
        fewer = with_keys(op, lambda length: np.minimum(length, values["budget"]), cp)
        chooses = plain(np.where((np.asarray(fewer.kv_len) < op.kv_len) & (np.asarray(once) < 1.0), 1.0, 0.0))
        choice = Seq(scoring(op, op.q_len, op.kv_len), choosing(op, op.kv_len, fewer.kv_len))
        return Seq(Repeat(once, Seq(op, Repeat(chooses, choice))), Repeat(1.0 - once, fewer))

    return all_kept(built, with_attention(built, change, steps_of(built)))
