"""Keys and values that need not be computed again: known prefixes, edited contexts, shared prompts, predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import LatentAttention, Model, SelfAttention
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Gemm, Stream, Transfer
from ridgepoint.scenario import Scenario, Values, find
from ridgepoint.tasks import Decode, Generate, Prefill
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.attended import attends, cache_of, cached_tokens, steps_of, with_attention
from ridgepoint.techniques.conditions import every, generates, has_mixer, reads_prompts, transformer, wants
from ridgepoint.techniques.products import divided
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import (
    edited,
    labelled,
    prefixed,
    scaled_entries,
    with_entries,
    with_ops,
    with_phases,
)
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Overlap, Repeat, Seq, Work

_caches = has_mixer(SelfAttention, LatentAttention)
_no_encoder = wants(
    lambda given, _: not isinstance(given.model, Model) or given.model.encoder is None,
    "an encoder reads its text both ways: nothing of it can be taken over",
)


def _prefix_pass(given: Scenario, name: str, new: Num, known: Num) -> Work:
    """The prefill of ``new`` tokens behind ``known`` cached ones, with the changes that were made before ``name``."""
    edits = given.edits[: next(i for i, edit in enumerate(given.edits) if edit.name == name)]
    task: Prefill | Generate = replace(_asked(given), prompt=new)
    short = replace(given, task=task, edits=edits).build()

    def behind(op: Op) -> Work:
        if isinstance(op, Attention) and attends(op):
            return replace(op, kv_len=op.kv_len + known)
        if isinstance(op, Gemm) and labelled(op, "layers.attention.key_value_up"):
            return replace(op, m=op.m * (1.0 + known / new))  # latents are expanded for the whole context
        return op

    return next(phase.work for phase in with_ops(short, behind).phases if phase.name == "prefill")


def _asked(given: Scenario) -> Prefill | Generate:
    assert isinstance(given.task, Prefill | Generate)
    return given.task


def _on_prompts(rework: Callable[[Built, Scenario, Values], Built]) -> Callable[[Built, Scenario, Values], Built]:
    """A rework of what reads prompts; a technique that builds single steps of the same scenario is left alone."""

    def change(built: Built, given: Scenario, values: Values) -> Built:
        reads = isinstance(given.task, Prefill | Generate) and any(phase.name == "prefill" for phase in built.phases)
        return rework(built, given, values) if reads else built

    return change


@technique(
    "prefix-reuse",
    title="keys and values of known prefixes are taken over",
    mechanism=("kv_reuse", "kv_offload"),
    papers=("uni-encoder", "long-context-peak-analysis", "hogwild-inference", "voco-llama"),
    quality="exact for a common prefix",
    grade="exact",
    cannot=every(transformer, reads_prompts, _caches, _no_encoder),
    parameters=(
        Parameter("known", 0.5, "part of each prompt whose keys and values are there", 0.0, 0.9999),
        Parameter(
            "sharers", 0.0, "sequences among which one computes the prefix (0: it is there from before)", 0.0, 1e6
        ),
        Parameter("place", "device", "where they lie", choices=("device", "host", "storage")),
    ),
    occupies=("prompt tokens",),
    neutral={"known": 0.0},
    presumes="a known part of each prompt was read before (system prompts, turns of a conversation)",
)
def prefix_reuse(given: Scenario, values: Values) -> Scenario:
    """A prefill computes the new part of the prompt only, which attends to all of it; the known part is read or fetched.

    new tokens = (1 − known) · L, with L·(L + 1)/2 − known part's pairs left; among C ``sharers`` one in C computes the prefix
    (C·(prefix + own) tokens become prefix + C·own). From host memory or storage the known part arrives beside the pass (a
    context switch). Time per further token stays.

    >>> import ridgepoint as rp
    >>> def ttft(*apply: str) -> float:
    ...     task = rp.Prefill(batch=1, prompt=16384)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).ttft_s
    >>> bool(3.0 < ttft() / ttft("prefix-reuse:known=0.75") < 4.0)
    True
    >>> bool(ttft("prefix-reuse:known=0.999,place=storage") > ttft("prefix-reuse:known=0.999"))
    True
    """
    return edited(given, "prefix-reuse", _on_prompts(_reusing), values)


def _reusing(built: Built, given: Scenario, values: Values) -> Built:
    prompt, sharers = _asked(given).prompt, values["sharers"]
    once = np.where(np.asarray(sharers) >= 1.0, 1.0 / np.maximum(sharers, 1.0), 0.0)
    new = plain(np.maximum(np.ceil(np.round(prompt * (1.0 - values["known"]), 6)), 1.0))
    known = prompt - new
    away = values["place"] != "device"

    def change(phase: Phase) -> Phase:
        short = _prefix_pass(given, "prefix-reuse", new, known)
        if away:
            size = cache_of(given, built, known)
            short = Overlap(short, Transfer(bytes=size, tier=values["place"], label="prefix.fetch"))
        return replace(phase, work=divided(plain(once), phase.work, short))

    changed = with_phases(built, change, "prefill")
    shared = plain(np.where(np.asarray(sharers) >= 1.0, 1.0 - 1.0 / np.maximum(sharers, 1.0), 0.0))
    whole = cache_of(given, built, cached_tokens(given))
    return scaled_entries(changed, plain(1.0 - shared * cache_of(given, built, known) / whole), "kv")


@technique(
    "position-corrected-reuse",
    title="after an edit only what was edited is encoded, later keys are rotated",
    mechanism=("kv_reuse",),
    papers=("positional-integrity-encoding",),
    quality="near: keys and values after the edit do not see it (PIE: code completion nearly unchanged)",
    grade="near",
    cannot=every(
        transformer, reads_prompts, _caches, _no_encoder,
        wants(lambda given, _: _rotates(given), "its positions are not rotary: keys cannot be moved"),
    ),
    parameters=(
        Parameter("edited", 0.02, "part of the context that is new", 0.0001, 1.0),
        Parameter("moved", 0.5, "part of the context behind it, whose keys change their positions", 0.0, 1.0),
    ),
    occupies=("prompt tokens",),
    presumes="a cached context is edited and read again",
)  # fmt: skip
def position_corrected_reuse(given: Scenario, values: Values) -> Scenario:
    """A prefill encodes the edited tokens over the cached context; a pass rotates the keys behind the edit to where they are.

    cost = encoding of edited · L tokens + moved · (keys of the cache), read and written once. Compared with encoding the whole
    context; time per further token stays.

    >>> import ridgepoint as rp
    >>> def ttft(*apply: str) -> float:
    ...     task = rp.Prefill(batch=1, prompt=8192)
    ...     return rp.estimate("deepseek-coder-6.7b", on="a100-sxm-80gb", task=task, apply=apply).ttft_s
    >>> bool(1.0 - ttft("position-corrected-reuse") / ttft() > 0.85)
    True
    """
    return edited(given, "position-corrected-reuse", _on_prompts(_rotating), values)


def _rotates(given: Scenario) -> bool:
    if not isinstance(given.model, Model):
        return False
    mixers = [layer.mixer for layer, _ in given.model.main.layers]
    return any(isinstance(m, LatentAttention) or (isinstance(m, SelfAttention) and m.rope) for m in mixers)


def _rotating(built: Built, given: Scenario, values: Values) -> Built:
    prompt = _asked(given).prompt
    new = plain(np.clip(np.ceil(np.round(prompt * values["edited"], 6)), 1.0, prompt))

    def change(phase: Phase) -> Phase:
        keys = cache_of(given, built, np.minimum(values["moved"] * prompt, prompt)) / 2.0
        rotate = Stream(read_bytes=keys, write_bytes=keys, flop=3.0 * keys, label="prefix.rotate")
        return replace(phase, work=Seq(rotate, _prefix_pass(given, "position-corrected-reuse", new, prompt - new)))

    return with_phases(built, change, "prefill")


@technique(
    "shared-prefix-attention",
    title="sequences with a common prefix read its keys together",
    mechanism=("kv_reuse", "batching_scheduling"),
    papers=("hogwild-inference", "ets", "uni-encoder"),
    quality="exact",
    grade="exact",
    cannot=every(transformer, generates, _caches, _no_encoder),
    parameters=(
        Parameter("sequences", 4.0, "sequences that share it (samples, branches, workers on one cache)", 1.0, 1e6),
        Parameter("shared", 0.8, "part of the context that is common", 0.0, 1.0),
    ),
    occupies=("kv reads",),
    neutral={"sequences": 1.0, "shared": 0.0},
    presumes="sequences of a batch share a long prefix",
)
def shared_prefix_attention(given: Scenario, values: Values) -> Scenario:
    """Queries of all sequences that share a prefix meet its keys in one product: they are stored and read once for all.

    keys read per step and sequence = (1 − shared) · L + shared · L/n; two kernels and a merge of their results take the place
    of one. Groups never exceed the batch on a device.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Decode(batch=16, context=4096), apply=apply)
    >>> shared = run("shared-prefix-attention:sequences=16,shared=0.9")
    >>> bool(shared.time_s < 0.7 * run().time_s), bool(shared.memory["kv"] < 0.2 * run().memory["kv"])
    (True, True)
    """
    return edited(given, "shared-prefix-attention", _sharing, values)


def _sharing(built: Built, given: Scenario, values: Values) -> Built:
    shared = values["shared"]

    def group(batch: Num) -> Num:
        return plain(np.minimum(values["sequences"], np.maximum(batch, 1.0)))

    def change(op: Attention) -> Work:
        several = group(op.batch)
        if np.all(np.asarray(shared) == 0.0):
            return op
        known = op.kv_len * shared
        common = replace(op, batch=op.batch / several, q_len=op.q_len * several, kv_len=plain(np.maximum(known, 1.0)))
        common = replace(common, causal=False, label=f"{op.label}.shared")
        own = replace(op, kv_len=plain(np.maximum(op.kv_len - known, op.q_len)))
        out = op.batch * op.q_len * op.heads * op.head_dim
        merge = Stream(read_bytes=8.0 * out, write_bytes=2.0 * out, flop=4.0 * out, label=f"{op.label}.merge")
        return Seq(common, own, merge)

    here = np.ceil(np.asarray(given.task.sizes()["batch"]) / built.layout.dp)
    kept = 1.0 - shared * (1.0 - 1.0 / group(plain(here)))
    return scaled_entries(with_attention(built, change, steps_of(built)), plain(kept), "kv")


def _helper(given: Scenario, values: Values) -> str:
    try:
        small = find(values["model"])
    except RidgepointError as error:
        return error.message
    usable = isinstance(small, Model) and small.decoder is not None and small.encoder is None
    mixers = [layer.mixer for layer, _ in small.main.layers] if isinstance(small, Model) else []
    return (
        ""
        if usable and any(isinstance(m, SelfAttention) for m in mixers)
        else f"{values['model']} has no cache to predict from"
    )


@technique(
    "kv-prediction",
    title="a small model predicts the cache of the large one",
    mechanism=("kv_compression", "distillation", "layer_skip"),
    papers=("kv-prediction",),
    quality="15–50 % above equally fast baselines, below the large model's own prefill",
    grade="changed",
    cannot=every(transformer, reads_prompts, _caches, _no_encoder, _helper),
    parameters=(Parameter("model", "llama-3.2-1b", "the small model, by its name in the catalogue"),),
    occupies=("prompt tokens",),
    training_free=False,
    presumes="answers may start from a predicted cache",
)
def kv_prediction(given: Scenario, values: Values) -> Scenario:
    """The small model reads the prompt; linear maps turn its keys and values into the large one's, which then runs one token.

    operations of the first token = 2·N_small·L + L·layers·4·kv_small·kv_large + one decode step, in place of 2·N_large·L. The
    small model and the maps are kept beside. Time per further token stays.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task = rp.Generate(batch=1, prompt=4096, output=16)
    ...     return rp.estimate("llama-3.1-8b", on="m2-ultra", task=task, apply=apply)
    >>> helped = run("kv-prediction")
    >>> bool(3.0 < run().ttft_s / helped.ttft_s < 8.0), bool(abs(helped.tpot_s / run().tpot_s - 1.0) < 1e-9)
    (True, True)
    """
    return edited(given, "kv-prediction", _on_prompts(_predicted), values)


def _kv_width(model: Model) -> float:
    """Values per token and layer that keys (or values) take; of a latent, which holds both, half."""
    widths = [
        m.kv_heads * m.head_dim if isinstance(m, SelfAttention) else (m.kv_rank + m.rope_dim) / 2.0
        for layer, _ in model.main.layers
        if isinstance(m := layer.mixer, SelfAttention | LatentAttention)
    ]
    return float(max(widths))


def _predicted(built: Built, given: Scenario, values: Values) -> Built:
    small, prompt = find(values["model"]), _asked(given).prompt
    assert isinstance(small, Model)
    assert isinstance(given.model, Model)
    batch = given.task.sizes()["batch"]
    plain_plan = replace(given.plan, speculated=0.0)
    read = replace(given, model=small, task=Prefill(batch=batch, prompt=prompt), plan=plain_plan, edits=()).build()
    one = replace(given, task=Decode(batch=batch, context=prompt), plan=plain_plan, edits=()).build()
    here = np.ceil(np.asarray(batch) / built.layout.dp)
    layers, tp = float(given.model.main.depth), built.layout.tp
    maps = Gemm(m=plain(here * prompt), n=_kv_width(given.model) / tp, k=_kv_width(small), label="predict.kv_map")

    def change(phase: Phase) -> Phase:
        helped = prefixed(read.phases[0].work, "predict.")
        return replace(phase, work=Seq(helped, Repeat(2.0 * layers, maps), one.phases[0].work))

    map_bytes = 2.0 * layers * _kv_width(given.model) * _kv_width(small) * 2.0 / tp
    return with_entries(
        with_phases(built, change, "prefill"), predictor_weights=read.ledger["weights"], predictor_maps=map_bytes
    )
