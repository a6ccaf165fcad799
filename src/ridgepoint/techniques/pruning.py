"""Smaller models: fewer heads and neurons, fewer layers, a smaller vocabulary, a distilled student, shared weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import (
    Experts,
    Feed,
    FeedForward,
    LatentAttention,
    Layer,
    Mamba2,
    Mixer,
    Model,
    SelfAttention,
    Stack,
)
from ridgepoint.models.parameters import total_parameters
from ridgepoint.numeric import Num
from ridgepoint.scenario import Scenario, Values, find
from ridgepoint.tasks import Train
from ridgepoint.tasks.build import Built
from ridgepoint.tasks.layout import complete
from ridgepoint.techniques.conditions import every, infers, transformer
from ridgepoint.techniques.products import with_weight_bytes
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited
from ridgepoint.techniques.technique import Parameter


def in_layers(stack: Stack, share: float, change: Callable[[Layer], Layer]) -> Stack:
    """``stack`` with a share of the layers of every kind changed, the later ones, to whole layers.

    >>> old = Stack(64, ((Layer(None, FeedForward(128)), 10),))
    >>> [(layer.norms, count) for layer, count in in_layers(old, 0.3, lambda one: replace(one, norms=1)).layers]
    [(2, 7), (1, 3)]
    """
    runs: list[tuple[Layer, int]] = []
    for layer, count in stack.layers:
        changed = round(count * share)
        runs += [(layer, count - changed), (change(layer), changed)]
    return replace(stack, layers=tuple((layer, count) for layer, count in runs if count))


def with_stacks(model: Model, change: Callable[[Stack], Stack]) -> Model:
    """``model`` with each of its stacks changed."""
    return replace(
        model, decoder=model.decoder and change(model.decoder), encoder=model.encoder and change(model.encoder)
    )


def with_model(given: Scenario, model: Model) -> Scenario:
    """``given`` with another model, cut over as many devices as the present one: a layout that was left open is not changed
    by the number of heads.
    """
    training = isinstance(given.task, Train)
    if given.plan.tp is not None or not isinstance(given.model, Model):
        return replace(given, model=model)
    tp = complete(given.model, given.machine, given.plan, training).tp
    return replace(given, model=model, plan=replace(given.plan, tp=tp) if np.any(np.asarray(tp) > 1.0) else given.plan)


def _whole(value: float, step: int) -> int:
    """The nearest positive multiple of ``step``."""
    return max(round(value / step), 1) * step


def fewer_heads(mixer: Mixer | None, keep: float, ranks: int = 1) -> Mixer | None:
    """The mixer with about that share of its heads, whole groups of shared keys at a time, divisible among ``ranks``.

    >>> fewer_heads(SelfAttention(heads=32, kv_heads=8, head_dim=128), 0.75)
    SelfAttention(heads=24, kv_heads=6, head_dim=128, window=0, chunk=0, bias=False, output_bias=False, rope=True, \
query_norm='', output_gate=False, sinks=False, relative_buckets=0)
    """
    if isinstance(mixer, SelfAttention):
        group, step = mixer.heads // mixer.kv_heads, min(ranks, mixer.kv_heads)
        if mixer.kv_heads == 1:
            return replace(mixer, heads=_whole(mixer.heads * keep, ranks))
        kept = _whole(mixer.kv_heads * keep, step)
        return replace(mixer, heads=kept * group, kv_heads=kept)
    if isinstance(mixer, LatentAttention | Mamba2):
        return replace(mixer, heads=_whole(mixer.heads * keep, ranks))
    return mixer


def narrower_feed(feed: Feed | None, keep: float, step: int = 64) -> Feed | None:
    """The feed-forward part (or every expert) with about that share of its neurons, a multiple of ``step``."""
    if isinstance(feed, FeedForward | Experts):
        return replace(feed, width=_whole(feed.width * keep, step) if feed.width * keep >= step else feed.width)
    return feed


_SHARE = Parameter("layers", 1.0, "part of the layers that is pruned", 0.0, 1.0, one_value=True)


@technique(
    "structured-pruning",
    title="fewer heads and neurons, dense products",
    mechanism=("structured_pruning", "nas"),
    papers=("ziplm", "cfsp", "puzzle", "llama-nas", "paser"),
    quality="10–20 % is nearly free with recovery training; 50 % costs much without it",
    grade="changed",
    cannot=every(transformer, infers),
    parameters=(
        Parameter("heads", 0.75, "part of the attention heads that is kept", 0.01, 1.0, one_value=True),
        Parameter("neurons", 0.75, "part of the feed-forward neurons that is kept", 0.01, 1.0, one_value=True),
        _SHARE,
    ),
    occupies=("layer shapes",),
    training_free=False,
    neutral={"heads": 1.0, "neurons": 1.0},
)
def structured_pruning(given: Scenario, values: Values) -> Scenario:
    """Whole heads (with their keys and values) and whole neurons go: weights, arithmetic and cache fall, and stay dense.

    Heads leave in groups that share keys, to a number that the devices divide; neurons in multiples of 64. Unlike scattered
    zeros this gains in prefill too, but small products fill an engine less well. Residual width and depth stay.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Prefill(prompt=4096), apply=apply).time_s
    >>> 1.2 < time() / time("structured-pruning:heads=0.5,neurons=0.5") < 2.0
    True
    """
    assert isinstance(given.model, Model)
    ranks = int(np.max(complete(given.model, given.machine, given.plan, isinstance(given.task, Train)).tp))

    def change(layer: Layer) -> Layer:
        mixer, feed = fewer_heads(layer.mixer, values["heads"], ranks), narrower_feed(layer.feed, values["neurons"])
        return replace(layer, mixer=mixer, feed=feed)

    return with_model(given, with_stacks(given.model, lambda stack: in_layers(stack, values["layers"], change)))


def _drop(kind: str) -> Callable[[Layer], Layer]:
    def change(layer: Layer) -> Layer:
        if (layer.feed if kind == "mixer" else layer.mixer) is None:
            return layer  # a layer without either would be nothing but norms
        parts: dict[str, Any] = {kind: None}
        return replace(layer, **parts, norms=max(layer.norms // 2, 1) if layer.norms else 0)

    return change


@technique(
    "depth-pruning",
    title="fewer layers",
    mechanism=("layer_skip", "structured_pruning"),
    papers=("evopress", "llama-nas", "puzzle"),
    quality="dropping a quarter of the layers costs clearly without healing; attention parts are dropped more cheaply",
    grade="changed",
    cannot=every(transformer, infers),
    parameters=(
        Parameter("layers", 0.75, "part of the layers that is kept", 0.01, 1.0, one_value=True),
        Parameter(
            "attention_dropped", 0.0, "part of the layers that are left without attention", 0.0, 1.0, one_value=True
        ),
        Parameter(
            "feed_dropped", 0.0, "part of the layers that are left without feed-forward part", 0.0, 1.0, one_value=True
        ),
    ),
    occupies=("depth",),
    neutral={"layers": 1.0},
)
def depth_pruning(given: Scenario, values: Values) -> Scenario:
    """Layers go, whole or by part: time, weights and cache of the layers fall in proportion at every batch and length.

    The head and the embedding stay, so that small models gain less than they lose in layers; kernels to launch fall too,
    which is what batch 1 on a fast device gains.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Decode(batch=1), apply=apply).time_s
    >>> 1.8 < time() / time("depth-pruning:layers=0.5") < 2.0
    True
    """
    assert isinstance(given.model, Model)

    def change(stack: Stack) -> Stack:
        kept = tuple((layer, max(round(count * values["layers"]), 1)) for layer, count in stack.layers)
        stack = in_layers(replace(stack, layers=kept), values["attention_dropped"], _drop("mixer"))
        return in_layers(stack, values["feed_dropped"], _drop("feed"))

    return replace(given, model=with_stacks(given.model, change))


@technique(
    "vocabulary-pruning",
    title="a smaller vocabulary",
    mechanism=("structured_pruning", "nas"),
    papers=("compressor-3mb",),
    quality="unknown in general: texts outside the kept words take more tokens",
    grade="changed",
    cannot=every(transformer, infers),
    parameters=(
        Parameter("kept", 0.25, "part of the vocabulary that is kept", 0.001, 1.0, one_value=True),
        Parameter("fertility", 1.0, "tokens per text over those with the whole vocabulary", 1.0, 10.0),
    ),
    occupies=("vocabulary",),
    neutral={"kept": 1.0},
)
def vocabulary_pruning(given: Scenario, values: Values) -> Scenario:
    """Rows of the embedding and of the output head go: the tables, the logits and the choice of a token shrink with them.

    Weighs most in small models, whose head is a large part of a decode step. A text may take more tokens than before:
    ``fertility`` times as many steps for the same text, so that time per (old) token rises.

    >>> import ridgepoint as rp
    >>> def gain(model: str) -> float:
    ...     before, after = (rp.estimate(model, on="h100-sxm", task=rp.Decode(batch=1), apply=a).time_s
    ...                      for a in ([], ["vocabulary-pruning"]))
    ...     return before / after
    >>> gain("llama-3.2-1b") > gain("llama-3.1-8b") > 1.0
    True
    """
    assert isinstance(given.model, Model)
    table = given.model.embedding
    smaller = replace(given.model, embedding=replace(table, vocab=_whole(table.vocab * values["kept"], 64)))
    changed = replace(given, model=smaller if values["kept"] < 1.0 else given.model)
    return edited(changed, "vocabulary-pruning", _longer, values)


def _longer(built: Built, given: Scenario, values: Values) -> Built:
    phases = tuple(replace(phase, count=phase.count * values["fertility"]) for phase in built.phases)
    return replace(built, phases=phases)


def _student(given: Scenario, values: Values) -> str:
    try:
        small = find(values["model"])
    except RidgepointError as error:
        return error.message
    if type(small) is not type(given.model):
        return f"{small.name} is another kind of model than {given.model.name}"
    if isinstance(small, Model) and isinstance(given.model, Model):
        if (small.decoder is None) != (given.model.decoder is None):
            return f"{small.name} does not do what {given.model.name} does"
        if total_parameters(small) >= total_parameters(given.model):
            return f"{small.name} is no smaller than {given.model.name}"
    return ""


@technique(
    "distilled-student",
    title="a smaller model, trained on the large one's answers",
    mechanism=("distillation", "nas"),
    papers=(
        "puzzle", "compressor-3mb", "transkd", "miniplm", "turbo-vaed", "adcsr", "ziplm",
        "sparse-finetuning-squarehead", "lightgen",
    ),
    quality="that of the student: measure it for the task; distilled students beat equally large models trained alone",
    grade="changed",
    cannot=every(infers, _student),
    parameters=(Parameter("model", "llama-3.2-1b", "the student, by its name in the catalogue"),),
    occupies=("layer shapes", "depth", "vocabulary", "model"),
    training_free=False,
)  # fmt: skip
def distilled_student(given: Scenario, values: Values) -> Scenario:
    """Another, smaller model answers the same requests: everything is that model's, its training is not included.

    >>> import ridgepoint as rp
    >>> def tpot(*apply: str) -> float:
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=1), apply=apply).tpot_s
    >>> tpot() / tpot("distilled-student:model=llama-3.2-3b") > 1.5
    True
    """
    return replace(given, model=find(values["model"]))


@technique(
    "layer-weight-sharing",
    title="layers that share their weights",
    mechanism=("parameter_sharing",),
    papers=("mixture-of-recursions", "stable-rps"),
    quality="another model, to be trained: between that of its unique and of its unrolled size",
    grade="changed",
    cannot=every(transformer, infers),
    parameters=(Parameter("uses", 2.0, "layers that use the same weights", 1.0, 1000.0),),
    occupies=("weight sharing",),
    training_free=False,
    neutral={"uses": 1.0},
)
def layer_weight_sharing(given: Scenario, values: Values) -> Scenario:
    """Each set of linear layers' weights serves ``uses`` layers: memory holds 1/uses of them, time stays.

    Every layer still reads its weights and does its arithmetic; nothing is counted on staying in the last-level cache
    between layers, for a layer of a large model does not fit there. Helps where the model does not fit, or where more memory
    lets the batch grow.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Decode(batch=1), apply=apply)
    >>> shared = run("layer-weight-sharing:uses=2")
    >>> shared.memory["weights"] < 0.55 * run().memory["weights"], shared.time_s == run().time_s
    (True, True)
    """
    return edited(given, "layer-weight-sharing", _shared, values)


def _shared(built: Built, given: Scenario, values: Values) -> Built:
    part: Num = 1.0 / values["uses"]
    return assumed(with_weight_bytes(built, given, part), "shared weights are read anew by every layer that uses them")
