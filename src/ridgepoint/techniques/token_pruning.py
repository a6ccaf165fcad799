"""Tokens left out inside a model: pruned in steps or a cascade, halted when they no longer change."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.numeric import Num
from ridgepoint.ops import Attention, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Forward
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.conditions import every, serves, task_is, transformer
from ridgepoint.techniques.reductions import (
    fewer_keys,
    fewer_tokens,
    has_layers,
    layer_rule,
    mixes_tokens,
    parted,
    sometimes,
    step_rows,
    thinned,
    with_layer_ops,
)
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, scaled_entries, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work

_PIECES = 4


def profile(start: Num, keep: Num, cascade: bool) -> list[tuple[Num, Num]]:
    """(share of the layers, share of the tokens in them): all up to ``start``, then ``keep``, or falling to it evenly.

    >>> profile(0.25, 0.5, cascade=False)
    [(0.25, 1.0), (0.75, 0.5)]
    >>> [round(tokens, 4) for _, tokens in profile(0.0, 0.0, cascade=True)]
    [1.0, 0.875, 0.625, 0.375, 0.125]
    """
    rest = 1.0 - start
    if not cascade:
        return [(start, 1.0), (rest, keep)]
    return [(start, 1.0), *((rest / _PIECES, 1.0 - (1.0 - keep) * (i + 0.5) / _PIECES) for i in range(_PIECES))]


@technique(
    "token-pruning",
    title="an encoder's tokens (and heads) pruned on the way",
    mechanism=("token_reduction", "structured_pruning"),
    papers=("spatten", "hourglass-tokenizer", "sparsifiner"),
    quality="SpAtten and HoT (−0.2 %) report none or small losses; unknown elsewhere",
    grade="near",
    cannot=every(task_is(Forward), has_layers, mixes_tokens),
    parameters=(
        Parameter("start", 0.25, "part of the layers before tokens are dropped", 0.0, 1.0),
        Parameter("keep", 0.5, "part of the tokens that stay (in the end, for a cascade)", 0.01, 1.0),
        Parameter("cascade", False, "tokens are dropped evenly over the layers, instead of at once"),
        Parameter("heads", 1.0, "part of the attention heads that stay", 0.01, 1.0),
        Parameter("recover", False, "a last layer attends from all positions to the kept tokens (full-length output)"),
    ),
    occupies=("tokens",),
)
def token_pruning(given: Scenario, values: Values) -> Scenario:
    """Layers behind ``start`` work on a part of the tokens: products scale with it, attention with its square.

    Importance needs what each key received, so every pruning layer computes and sums its scores once more; dropped tokens
    are gathered out. Pruned heads leave the attention, not the projections. With ``recover`` one layer's worth of work over
    all positions restores the length.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Forward(batch=64)
    ...     return rp.estimate("vit_large_patch16_224", on="h100-sxm", task=task, apply=apply).time_s
    >>> time("token-pruning:keep=0.3") < time("token-pruning:keep=0.3,cascade=true") < time()
    True
    """
    return edited(given, "token-pruning", _pruned, values)


def _pruned(built: Built, given: Scenario, values: Values) -> Built:
    pieces = profile(values["start"], values["keep"], values["cascade"])
    depth = _depth(given)

    def rule(op: Op) -> Work:
        parts = [sometimes(layers, fewer_tokens(_fewer_heads(op, values["heads"]), share)) for layers, share in pieces]
        scored = 1.0 if values["cascade"] else 1.0 / depth
        if isinstance(op, Attention):
            parts.append(sometimes((1.0 - values["start"]) * scored, importance(op)))
        if values["recover"]:
            parts.append(sometimes(1.0 / depth, op))
        return Seq(*parts)

    changed = with_layer_ops(built, given, rule)
    return assumed(changed, "every sequence keeps the same number of tokens, so that batches stay dense")


def _fewer_heads(op: Op, share: Num) -> Op:
    return replace(op, heads=op.heads * share, kv_heads=op.kv_heads * share) if isinstance(op, Attention) else op


def _depth(given: Scenario) -> float:
    """Layers of the main stack (of a network: its depth, or 12 where its configuration states none)."""
    main = getattr(given.model, "main", None)
    if main is not None:
        return float(main.depth)
    stated = given.model.option("depth") or given.model.option("depths") or 12  # type: ignore[union-attr]
    return float(sum(stated)) if isinstance(stated, tuple) else float(stated)


def importance(op: Attention) -> Work:
    """Scores computed once more and summed over queries and heads; the best positions found."""
    scores = op.batch * op.heads * op.q_len * op.kv_len
    products = Gemm(
        m=op.q_len, n=op.kv_len, k=op.head_dim, batch=op.batch * op.heads, acts=op.acts, weights=op.kv, out=op.acts,
        label=f"{op.label}.importance",
    )  # fmt: skip
    top = Stream(
        read_bytes=2.0 * scores,
        write_bytes=4.0 * op.batch * op.kv_len,
        flop=6.0 * scores,
        special=scores,
        pattern="softmax",
        launches=2.0,
        label=f"{op.label}.select",
    )
    return Seq(products, top)


@technique(
    "token-halting",
    title="tokens stop when their hidden state no longer changes; alike tokens are fused",
    mechanism=("token_reduction", "kv_compression", "adaptive_compute"),
    papers=("quicksilver",),
    quality="QuickSilver: at most 0.2 perplexity at 39.6 % fewer operations",
    grade="changed",
    cannot=every(transformer, serves),
    parameters=(
        Parameter("halted", 0.5, "part of the tokens that halt", 0.0, 1.0),
        Parameter("at", 0.5, "part of the layers after which they do", 0.0, 1.0),
        Parameter("fused", 0.0, "part of the prompt's tokens that are fused into others", 0.0, 0.99),
    ),
    occupies=("tokens",),
)
def token_halting(given: Scenario, values: Values) -> Scenario:
    """Behind ``at`` only 1 − halted of the tokens go on: they alone are computed, and write keys and values there.

    Operations scale with (1 − fused) · (1 − halted · (1 − at)). A prefill gains in proportion. A decode step reads a layer's
    weights if any of its b tokens is still there, 1 − halted^b, so that batches gain little. Every layer behind ``at``
    compares a token's state with the one before.

    >>> import ridgepoint as rp
    >>> def time(task: rp.Task, *apply: str) -> float:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=task, apply=apply).time_s
    >>> def gain(task: rp.Task) -> float:
    ...     return time(task) / time(task, "token-halting")
    >>> gain(rp.Decode(batch=1, context=128)) > 1.15 > 1.05 > gain(rp.Decode(batch=16, context=128))
    True
    """
    return edited(given, "token-halting", _halted, values)


def _halted(built: Built, given: Scenario, values: Values) -> Built:
    at, going, whole = values["at"], 1.0 - values["halted"], 1.0 - values["fused"]
    rows = step_rows(given, built.layout)

    def prompt(op: Op) -> Work:
        early, late = fewer_tokens(op, whole), fewer_tokens(op, whole * going)
        return Seq(parted(at, early, late), _compared(op, at))

    def step(op: Op) -> Work:
        early = fewer_keys(op, lambda length: length * whole)
        late = fewer_keys(op, lambda length: length * whole * going)
        return Seq(sometimes(at, early), sometimes(1.0 - at, thinned(late, going, rows)), _compared(op, at))

    def change(phase: Phase) -> Phase:
        return replace(phase, work=layer_rule(given, step if phase.role == "next" else prompt)(phase.work))

    return scaled_entries(with_phases(built, change), whole * (at + (1.0 - at) * going), "kv")


def _compared(op: Op, at: Num) -> Work:
    """One comparison of hidden states per layer behind ``at``: it reads what the output projection wrote, and what was."""
    if not isinstance(op, Gemm) or not op.label.endswith("attention.output"):
        return Seq()
    size = op.m * op.n * 2.0
    check = Stream(
        read_bytes=2.0 * size, write_bytes=4.0 * op.m, flop=3.0 * op.m * op.n, pattern="norm", rows=op.m,
        label="layers.halting",
    )  # fmt: skip
    return sometimes(1.0 - at, check)
