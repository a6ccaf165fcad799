"""Fewer layers for some tokens: exits on the way, depth by position, layers skipped by sequence."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from ridgepoint.models.architecture import Model, SelfAttention
from ridgepoint.numeric import Num
from ridgepoint.ops import Gemm
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Decode, Forward, Generate
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.tasks.inference import per_replica
from ridgepoint.techniques.conditions import every, generates, softmax_attention, task_is, transformer
from ridgepoint.techniques.reductions import (
    fewer_sequences,
    has_layers,
    layer_rule,
    sometimes,
    step_rows,
    thinned,
    visited,
    with_layer_ops,
)
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work, mapped


@technique(
    "early-exit",
    title="a sample leaves at the first exit that is sure of it",
    mechanism=("early_exit", "adaptive_compute"),
    papers=("pondernet", "multimodal-gen-characterization", "rt-detr"),
    quality="depends on the exits' threshold",
    grade="changed",
    cannot=every(task_is(Forward, Decode, Generate), has_layers),
    parameters=(
        Parameter("exits", 3.0, "exits, evenly spaced over the layers", 1.0, 64.0, whole=True, one_value=True),
        Parameter(
            "probability", 0.3, "probability that a sample (or token) leaves at an exit that it comes to", 0.0, 1.0
        ),
        Parameter("full_head", True, "an exit computes the whole output head to judge, not a small classifier"),
    ),
    occupies=("depth",),
    training_free=False,
)
def early_exit(given: Scenario, values: Values) -> Scenario:
    """n exits cut the layers into n + 1 parts; a sample reaches part i with probability (1 − λ)^i (PonderNet's geometric law).

    A batch runs a part if any of its b samples is still there, 1 − (1 − (1 − λ)^i)^b, for those that are: one sample saves
    its expected depth, a large batch only rows. Every exit that is reached costs a head. Tokens of a causal model that left
    still need keys and values in the layers that they skipped: those projections run for all rows. Prefill runs in full.

    >>> import ridgepoint as rp
    >>> def time(batch: int, *apply: str) -> float:
    ...     task = rp.Decode(batch=batch, context=64)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).time_s
    >>> gains = [time(b) / time(b, "early-exit:full_head=false") for b in (1, 64)]
    >>> gains[0] > 1.2 > 1.05 > gains[1]
    True
    >>> time(1, "early-exit:probability=0") > time(1)
    True
    """
    return edited(given, "early-exit", _exits, values)


def reached(probability: Num, exits: float) -> list[Num]:
    """Probability that a sample is still there in each of the exits + 1 parts: (1 − λ)^i.

    >>> reached(0.5, 2.0)
    [1.0, 0.5, 0.25]
    """
    return [(1.0 - probability) ** float(i) for i in range(int(exits) + 1)]


def _exits(built: Built, given: Scenario, values: Values) -> Built:
    there = reached(values["probability"], values["exits"])
    part = 1.0 / len(there)

    def change(phase: Phase) -> Phase:
        if phase.role == "first":
            return phase
        step = phase.role == "next"
        rows = step_rows(given, built.layout) if step else per_replica(given.task.sizes()["batch"], built.layout)

        def rule(op: Op) -> Work:
            parts = [sometimes(part, thinned(op, share, rows)) for share in there]
            return Seq(*parts, *_missing_keys(op, given, there, part, rows) if step else ())

        work = layer_rule(given, rule)(phase.work)
        judged = [visited(share, rows) for share in there[:-1]]
        return replace(phase, work=mapped(work, partial(_with_exits, judged, values["full_head"])))

    said = "samples leave independently of each other; those of a batch that are left go on together"
    return assumed(with_phases(built, change), said)


def _missing_keys(op: Any, given: Scenario, there: list[Num], part: float, rows: Num) -> tuple[Work, ...]:
    """Key and value projections of tokens that left, in the layers that they skip."""
    mixer = next((la.mixer for la, _ in given.model.main.layers), None) if isinstance(given.model, Model) else None
    if not isinstance(mixer, SelfAttention) or not isinstance(op, Gemm) or not op.label.endswith(".qkv"):
        return ()
    width = op.n * 2.0 * mixer.kv_heads / (mixer.heads + 2.0 * mixer.kv_heads)
    gone = replace(op, n=width, label=f"{op.label}.of_exited")
    return tuple(sometimes(part, thinned(gone, 1.0 - share, rows)) for share in there[1:])


def _with_exits(judged: list[tuple[Num, Num]], full_head: bool, op: Op) -> Work:
    """The output head also at every exit that is reached; a small classifier is one product of the hidden state."""
    if not isinstance(op, Gemm) or not op.label.startswith("head."):
        return op
    small = op if full_head else replace(op, n=1.0)
    at_exits = replace(small, label=f"exit.{op.label}")
    return Seq(op, *(sometimes(chance, fewer_sequences(at_exits, share)) for chance, share in judged))


@technique(
    "position-depth",
    title="depth falls with the position, the same for all sequences of a batch",
    mechanism=("early_exit", "layer_skip"),
    papers=("skipdecode",),
    quality="SkipDecode reports small losses at 2 to 5 times fewer layers on OPT 1.3B and 6.7B",
    grade="changed",
    cannot=every(transformer, generates),
    parameters=(
        Parameter("first", 0.8, "part of the layers that the first generated token runs", 0.0, 1.0),
        Parameter("last", 0.2, "part of the layers that the last one runs", 0.0, 1.0),
    ),
    neutral={"first": 1.0, "last": 1.0},
    occupies=("depth",),
)
def position_depth(given: Scenario, values: Values) -> Scenario:
    """Generated token t runs a share of the layers that falls evenly from ``first`` to ``last``: (first + last)/2 in the mean.

    All sequences of a batch are at the same depth, so that skipped layers are read by nobody, at any batch; keys and values
    of deeper positions are never missing because depth only falls. The gain is at most 1 / mean depth: the head, the
    embedding and the prefill run in full.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("opt-6.7b", on="h100-sxm", task=rp.Decode(batch=16), apply=apply).time_s
    >>> 1.7 < time() / time("position-depth:first=0.8,last=0.2") < 2.0
    True
    """
    mean = (values["first"] + values["last"]) / 2.0
    return edited(given, "position-depth", _shallower, {**values, "mean": mean})


def _shallower(built: Built, given: Scenario, values: Values) -> Built:
    changed = with_layer_ops(built, given, lambda op: sometimes(values["mean"], op), "decode")
    return (
        assumed(changed, f"generated tokens run {values['mean']:.0%} of the layers in the mean")
        if isinstance(values["mean"], float)
        else changed
    )


@technique(
    "layer-skip-routing",
    title="a router picks layers that a sequence skips while it is decoded",
    mechanism=("layer_skip", "adaptive_compute"),
    papers=("first-layer-router", "efficient-vla"),
    quality="unknown",
    grade="changed",
    cannot=every(transformer, generates, softmax_attention),
    parameters=(
        Parameter("skip", 0.25, "part of the layers that a sequence skips", 0.0, 1.0),
        Parameter("common", False, "all sequences of a batch skip the same layers"),
    ),
    occupies=("depth",),
    training_free=False,
)
def layer_skip_routing(given: Scenario, values: Values) -> Scenario:
    """Every sequence decodes through 1 − skip of the layers, chosen at its prompt; those layers' keys and values are kept.

    A layer is read if any of the batch's sequences uses it, 1 − skip^b, unless all skip the ``common`` ones. The router
    scores all layers once per prompt. Skipped layers never need keys and values, so the cache shrinks too.

    >>> import ridgepoint as rp
    >>> def time(batch: int, *apply: str) -> float:
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=batch), apply=apply).time_s
    >>> alone, many, same = (time(b) / time(b, f"layer-skip-routing:common={c}")
    ...                      for b, c in ((1, "false"), (32, "false"), (32, "true")))
    >>> many < same < 1.34 and many < alone < 1.34
    True
    """
    return edited(given, "layer-skip-routing", _skipped, values)


def _skipped(built: Built, given: Scenario, values: Values) -> Built:
    used, rows = 1.0 - values["skip"], step_rows(given, built.layout)

    def rule(op: Op) -> Work:
        return sometimes(used, op) if values["common"] else thinned(op, used, rows)

    model = given.model
    assert isinstance(model, Model)
    batch = per_replica(given.task.sizes()["batch"], built.layout)
    router = Gemm(m=batch, n=float(model.main.depth), k=float(model.hidden), label="layer_router")

    def change(phase: Phase) -> Phase:
        if phase.role == "next":
            return replace(phase, work=layer_rule(given, rule)(phase.work))
        return replace(phase, work=Seq(router, phase.work))

    return with_phases(built, change)
