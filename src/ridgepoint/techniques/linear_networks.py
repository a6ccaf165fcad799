"""Networks and encoders whose attention is linear in the number of tokens: kernels, agents, projected or sampled keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Forward, Sample
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.attended import attends, with_attention
from ridgepoint.techniques.conditions import every, task_is
from ridgepoint.techniques.linear_attention import feature_map
from ridgepoint.techniques.products import divided
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work, ops


def _mutual(op: Op) -> bool:
    """Self-attention of a network or an encoder: every token sees all."""
    return isinstance(op, Attention) and attends(op) and not op.causal


def _attends_both_ways(given: Scenario, values: Values) -> str:
    few = values.get("agents", values.get("rank", 1.0))
    found = any(
        isinstance(op, Attention) and _mutual(op) and np.any(np.asarray(op.q_len) > few)
        for phase in given.build_whole().phases
        for op in ops(phase.work)
    )
    return "" if found else f"no attention of {given.model.name} spans more than {np.min(few):g} tokens both ways"


def _with_mutual(built: Built, values: Values, linear: str, least: Num) -> Built:
    """Attention over more than ``least`` tokens replaced by the rule of that name, in a share of the uses."""

    def change(op: Attention) -> Work:
        if not _mutual(op) or np.all(np.asarray(op.q_len) <= least):
            return op
        return divided(values["layers"], _LINEAR[linear](op, values), op)

    return with_attention(built, change, tuple(phase.name for phase in built.phases))


def _all_linear(op: Attention, values: Values) -> Work:
    """Features of Q and K, then Kᵀ·V (d × d per head) and Q·(Kᵀ·V)."""
    heads, d = op.batch * op.heads, op.head_dim
    first = Gemm(m=d, n=d, k=op.kv_len, batch=heads, acts=op.acts, weights=op.acts, out=op.acts,
                 label=f"{op.label}.keys_values")  # fmt: skip
    second = replace(first, m=op.q_len, n=d, k=d, label=f"{op.label}.queries")
    return Seq(feature_map(op, op.batch * (op.q_len + op.kv_len) * op.heads * d, "features"), first, second)


def _by_agents(op: Attention, values: Values) -> Work:
    """Agents (pooled queries) attend to all keys, all queries attend to the agents."""
    agents = plain(np.minimum(values["agents"], op.q_len))
    width = op.batch * op.heads * op.head_dim * FORMATS[op.acts].bytes
    pool = Stream(read_bytes=op.q_len * width, write_bytes=agents * width, flop=op.q_len * op.batch * op.heads * op.head_dim,
                  label=f"{op.label}.pool")  # fmt: skip
    gather = replace(op, q_len=agents, label=f"{op.label}.agents")
    return Seq(pool, gather, replace(op, kv_len=agents))


def _by_projection(op: Attention, values: Values) -> Work:
    """Keys and values projected along the length to ``rank`` rows, then attention over those."""
    rank = plain(np.minimum(values["rank"], op.kv_len))
    project = Gemm(m=rank, n=op.head_dim, k=op.kv_len, batch=2.0 * op.batch * op.kv_heads, acts=op.acts, weights=op.acts,
                   out=op.acts, label=f"{op.label}.project")  # fmt: skip
    attend = replace(op, kv_len=rank)
    return Seq(attend if values["sampled"] else Seq(project, attend), *_found(op, values, rank))


def _found(op: Attention, values: Values, rank: Num) -> list[Work]:
    """Sampled columns are found by hashing all keys and queries, and gathered."""
    if not values["sampled"]:
        return []
    width = op.batch * op.kv_heads * op.head_dim * FORMATS[op.acts].bytes
    hashed = op.batch * op.heads * (op.q_len + op.kv_len) * op.head_dim
    find = Stream(read_bytes=2.0 * op.kv_len * width, write_bytes=4.0 * op.batch * op.heads * (op.q_len + op.kv_len),
                  flop=16.0 * hashed, label=f"{op.label}.hash")  # fmt: skip
    gather = Stream(read_bytes=2.0 * rank * width, write_bytes=2.0 * rank * width, pattern="gather",
                    label=f"{op.label}.gather")  # fmt: skip
    return [find, gather]


_LINEAR = {"linear": _all_linear, "agents": _by_agents, "projection": _by_projection}
_USED = Parameter("layers", 1.0, "part of the attention layers that is replaced", 0.0, 1.0)


@technique(
    "linear-attention",
    title="linear attention in networks and encoders",
    mechanism=("linear_attention", "efficient_architecture"),
    papers=("inline-attention", "slab", "lingen", "ecoformer", "asi-arch"),
    quality="below softmax attention unless trained for it (InLine: injective and local, on a par)",
    grade="changed",
    cannot=every(task_is(Forward, Sample), _attends_both_ways),
    parameters=(_USED,),
    occupies=("prefill pairs",),
    training_free=False,
    neutral={"layers": 0.0},
)
def linear_attention(given: Scenario, values: Values) -> Scenario:
    """Softmax over N² pairs becomes two products through a d × d matrix per head: 4·N²·d operations become 4·N·d².

    Wins where the tokens outnumber the head's width; below, three kernels in place of one make it slower. Features of queries
    and keys are a pass of their own.

    >>> import ridgepoint as rp
    >>> def gain(image_px: float) -> float:
    ...     task = rp.Forward(batch=8, image_px=image_px)
    ...     before, after = (rp.estimate("vit_large_patch16_224", on="h100-sxm", task=task, apply=a).time_s
    ...                      for a in ([], ["linear-attention"]))
    ...     return before / after
    >>> bool(gain(224) < 1.05 < 2.0 < gain(1792))
    True
    """
    return edited(given, "linear-attention", lambda built, _, v: _with_mutual(built, v, "linear", 0.0), values)


@technique(
    "agent-attention",
    title="attention through a few agent tokens",
    mechanism=("linear_attention", "low_rank_attention"),
    papers=("agent-attention",),
    quality="on a par or better when trained; in Stable Diffusion usable without training (as reported)",
    grade="near",
    cannot=every(task_is(Forward, Sample), _attends_both_ways),
    parameters=(Parameter("agents", 49.0, "agent tokens", 1.0, 65536.0), _USED),
    occupies=("prefill pairs",),
    neutral={"layers": 0.0},
)
def agent_attention(given: Scenario, values: Values) -> Scenario:
    """n agents attend to all N tokens, all tokens attend to the agents: 8·N·n·d operations in place of 4·N²·d.

    Gains where N exceeds 2n by far: high resolutions. Attention over no more tokens than agents stays.

    >>> import ridgepoint as rp
    >>> def time(image_px: float, *apply: str) -> float:
    ...     task = rp.Sample(batch=1, steps=20, image_px=image_px)
    ...     return rp.estimate("sdxl", on="h100-sxm", task=task, apply=apply).time_s
    >>> bool(1.3 < time(4096) / time(4096, "agent-attention") > time(1024) / time(1024, "agent-attention"))
    True
    """
    return edited(given, "agent-attention", lambda b, _, v: _with_mutual(b, v, "agents", v["agents"]), values)


@technique(
    "low-rank-attention",
    title="keys and values projected or sampled to few rows",
    mechanism=("low_rank_attention", "sparse_attention"),
    papers=("greenformers", "scatterbrain", "kdeformer", "almost-linear-gradient", "sparsifiner", "pvt"),
    quality="near at ranks of some hundreds for encoders; sampling keeps more of the exact attention",
    grade="near",
    cannot=every(task_is(Forward, Sample), _attends_both_ways),
    parameters=(
        Parameter("rank", 256.0, "rows that keys and values are reduced to", 1.0, 1e6),
        Parameter(
            "sampled", False, "columns are sampled by hashing (KDEformer, Scatterbrain), not projected (Linformer)"
        ),
        _USED,
    ),
    occupies=("prefill pairs",),
    neutral={"layers": 0.0},
)
def low_rank_attention(given: Scenario, values: Values) -> Scenario:
    """Queries attend to ``rank`` rows that stand for all N keys: N·rank pairs, and what makes the rows.

    Linformer multiplies keys and values with learned rank × N matrices (4·N·rank·d operations); sampling hashes all queries
    and keys and gathers the rows. Gains where N is several times the rank.

    >>> import ridgepoint as rp
    >>> def gain(seq: float) -> float:
    ...     task = rp.Forward(batch=16, seq=seq)
    ...     before, after = (rp.estimate("bert-large", on="h100-sxm", task=task, apply=a).time_s
    ...                      for a in ([], ["low-rank-attention:rank=128"]))
    ...     return before / after
    >>> bool(gain(16384) > 1.3 > gain(512))
    True
    """
    return edited(given, "low-rank-attention", lambda b, _, v: _with_mutual(b, v, "projection", v["rank"]), values)
