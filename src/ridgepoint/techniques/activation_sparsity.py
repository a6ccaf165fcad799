"""Neurons that do nothing for a token: their weights are neither read nor multiplied, or not even kept in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import FeedForward, Model
from ridgepoint.numeric import Num
from ridgepoint.ops import Gemm, Stream, Transfer
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, generates, transformer
from ridgepoint.techniques.products import linear_format, linear_parts, with_weight_bytes
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, labelled, with_entries, with_ops, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Overlap, Seq, Work


def used_neurons(active: Num, rows: Num) -> Num:
    """Part of the neurons that at least one of ``rows`` tokens needs: 1 − (1 − a)^rows, tokens taken as independent.

    >>> used_neurons(0.1, 1.0), round(used_neurons(0.1, 16.0), 2)
    (0.1, 0.81)
    """
    used: Num = 1.0 - (1.0 - active) ** rows
    return float(f"{used:.15g}") if isinstance(used, float) else used


def _dense_feed(given: Scenario, values: Values) -> str:
    assert isinstance(given.model, Model)
    found = any(isinstance(layer.feed, FeedForward) for layer, _ in given.model.main.layers)
    return "" if found else f"{given.model.name} has no dense feed-forward parts"


_ACTIVE = Parameter("active", 0.3, "part of the feed-forward neurons that one token needs", 0.0, 1.0)
_PREDICTOR = Parameter("predictor", 256.0, "rank of the predictor of active neurons (0: they are chosen once, at prefill)",
                       0.0, 8192.0, whole=True, one_value=True)  # fmt: skip


@technique(
    "activation-sparsity",
    title="only the neurons that a token needs",
    mechanism=("activation_sparsity", "adaptive_compute"),
    papers=("coreinfer", "llm-in-a-flash", "ffsplit"),
    quality="near for models with ReLU; gated SiLU models need adaptation or lose some accuracy",
    grade="near",
    cannot=every(transformer, generates, _dense_feed),
    parameters=(_ACTIVE, _PREDICTOR),
    occupies=("neurons",),
)
def activation_sparsity(given: Scenario, values: Values) -> Scenario:
    """A decode step reads and multiplies the neurons that any of its tokens needs, after a small predictor has named them.

    part of the feed-forward weights = 1 − (1 − active)^batch: the gain vanishes as the batch grows. The predictor is a
    product of rank r before each feed-forward part (2·r·(d + width) weights a layer, kept too). Chosen once per sentence
    (CoreInfer, ``predictor`` 0) it costs nothing later. All neurons stay in memory; a prefill uses them all.

    >>> import ridgepoint as rp
    >>> def gain(batch: float) -> float:
    ...     task = rp.Decode(batch=batch, context=256)
    ...     before, after = (rp.estimate("llama-2-7b", on="h100-sxm", task=task, apply=a).time_s
    ...                      for a in ([], ["activation-sparsity:active=0.1"]))
    ...     return before / after
    >>> gain(1) > 1.4 > 1.1 > gain(32)
    True
    """
    return edited(given, "activation-sparsity", _sparse_steps, values)


def _steps(built: Built) -> tuple[str, ...]:
    return tuple(phase.name for phase in built.phases if phase.role == "next")


def _sparse_steps(built: Built, given: Scenario, values: Values) -> Built:
    rank, active = values["predictor"], values["active"]

    def change(op: Op) -> Work:
        if isinstance(op, Gemm) and labelled(op, "layers.feed.gate_up", "layers.feed.up"):
            used = used_neurons(active, op.m)
            width = op.n / 2.0 if op.label.endswith("gate_up") else op.n
            return Seq(*_predicting(op, width, rank), replace(op, n=op.n * used))
        if isinstance(op, Gemm) and labelled(op, "layers.feed.down"):
            return replace(op, k=op.k * used_neurons(active, op.m))
        if isinstance(op, Stream) and labelled(op, "layers.feed.activation"):
            return replace(op, read_bytes=op.read_bytes * active, write_bytes=op.write_bytes * active)
        return op

    changed = with_ops(built, change, *_steps(built))
    if not rank:
        return changed
    assert isinstance(given.model, Model)
    hidden, tp = given.model.hidden, built.layout.tp
    per_layer = sum(
        count * rank * (hidden + layer.feed.width) / tp
        for layer, count in given.model.main.layers
        if isinstance(layer.feed, FeedForward)
    )
    return with_entries(changed, predictors=per_layer / built.layout.pp * 2.0)


def _predicting(op: Gemm, width: Num, rank: Num) -> list[Work]:
    """Two products in 16 bits that name the active neurons, and the pass that lists them."""
    if not rank:
        return []
    down = replace(
        op, n=rank, weights="bf16", acts="bf16", stored=1.0, unpack_flop=0.0, label="layers.feed.predictor_down"
    )
    up = replace(down, n=width, k=rank, label="layers.feed.predictor_up")
    size = op.m * width
    choose = Stream(read_bytes=2.0 * size, write_bytes=size / 8.0, flop=size, label="layers.feed.predictor_choose")
    return [down, up, choose]


@technique(
    "neurons-from-storage",
    title="feed-forward weights in storage, active neurons loaded",
    mechanism=("offload_ssd", "activation_sparsity"),
    papers=("llm-in-a-flash",),
    quality="near for models with ReLU (their active neurons are predicted well); else unknown",
    grade="near",
    cannot=every(transformer, generates, _dense_feed),
    parameters=(
        _ACTIVE,
        Parameter("new", 0.1, "part of the active neurons that the last tokens' window did not have", 0.0, 1.0),
        Parameter("bundle", True, "a neuron's rows and columns lie together, so that one request fetches them"),
        _PREDICTOR,
    ),
    occupies=("neurons", "weights place"),
)
def neurons_from_storage(given: Scenario, values: Values) -> Scenario:
    """Memory holds attention and a window of recently active neurons; each step fetches the new ones from storage.

    bytes of a step = used · new · feed-forward weights, in requests of one neuron each (``bundle``) or one per matrix: storage
    is limited by requests where they are short. The window keeps used·(1 + new) of the neurons. Compared with reading all
    weights every token (what naive offloading does) it is fast; compared with weights that fit it is slow.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("opt-6.7b", on="rtx-4090", task=rp.Decode(batch=1), apply=apply)
    >>> flash = run("neurons-from-storage")
    >>> flash.memory["weights"] < 0.7 * run().memory["weights"], flash.time_s > run().time_s
    (True, True)
    >>> bool(run("neurons-from-storage:bundle=false").time_s > flash.time_s)
    True
    """
    return edited(given, "neurons-from-storage", _fetched, values)


def _fetched(built: Built, given: Scenario, values: Values) -> Built:
    width = FORMATS[linear_format(given)].bytes
    changed = _sparse_steps(built, given, values)
    rows: list[Num] = [1.0]

    def change(op: Op) -> Work:
        if not (isinstance(op, Gemm) and labelled(op, "layers.feed.down")):
            return op
        rows.append(op.m)
        # k is what is used of the neurons by now; a neuron has one row of each matrix.
        matrices = 3.0 if _gated(given) else 2.0
        fetched = op.k * values["new"]
        size = fetched * matrices * op.n * width
        requests = fetched * (1.0 if values["bundle"] else matrices)
        return Seq(Transfer(bytes=size, tier="storage", pieces=requests, label="layers.feed.fetch"), op)

    changed = with_ops(changed, change, *_steps(built))
    kept = np.minimum(used_neurons(values["active"], rows[-1]) * (1.0 + values["new"]), 1.0)
    feed = linear_parts(given, built)["feed"]
    pieces = np.ceil(feed / _READ_BYTES)
    whole = Transfer(bytes=feed, tier="storage", pieces=pieces, label="layers.feed.fetch_all")
    changed = with_phases(changed, lambda p: replace(p, work=Overlap(p.work, whole)) if p.role == "first" else p)
    return with_weight_bytes(changed, given, {"feed": kept})


_READ_BYTES = 4e6
"""A prefill, which needs all neurons, reads them in long requests."""


def _gated(given: Scenario) -> bool:
    assert isinstance(given.model, Model)
    return any(isinstance(layer.feed, FeedForward) and layer.feed.gated for layer, _ in given.model.main.layers)
