"""Many positions or drafts per pass: fixed-point iteration, denoising, superposed drafts, workers on one cache, streams."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.numeric import plain
from ridgepoint.ops import Attention, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Train
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.tasks.inference import per_replica
from ridgepoint.techniques.conditions import every, generates, softmax_attention, task_is, transformer
from ridgepoint.techniques.reductions import before, fewer_sequences
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, scaled_entries, with_entries, with_phases, with_plan
from ridgepoint.techniques.speculative import yielding
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work, mapped


def _settles(given: Scenario, values: Values) -> str:
    more = bool(np.any(np.asarray(values["settled"]) > np.asarray(values["window"])))
    return "more tokens settle in a pass than it computes" if more else ""


@technique(
    "jacobi-decoding",
    title="a window of tokens is iterated to its fixed point",
    mechanism=("parallel_decoding", "step_reduction"),
    papers=("gs-jacobi-tarflow", "deer", "pararnn"),
    quality="same tokens as greedy decoding once converged; samplers of flows are stopped at a tolerance",
    grade="exact",
    cannot=every(transformer, generates, _settles),
    parameters=(
        Parameter("window", 16.0, "tokens that a pass computes at once", 1.0, 1e5, whole=True),
        Parameter("settled", 2.0, "tokens that reach their final value in a pass, in the mean", 1.0, 1e5),
    ),
    neutral={"window": 1.0, "settled": 1.0},
    occupies=("decode step",),
    presumes="several positions settle per pass, as in flows and models trained for it",
)
def jacobi_decoding(given: Scenario, values: Values) -> Scenario:
    """Each pass computes a window of W tokens from their previous guesses; ``settled`` of them are final afterwards.

    L sequential steps become L/settled passes over W tokens. There are no drafts to pay for; the price is W rows per pass. A
    sequence of L tokens in s segments of n iterations each settles L/(s · n) tokens per pass (Gauss–Seidel–Jacobi).

    >>> import ridgepoint as rp
    >>> def tpot(batch: int, *apply: str) -> float:
    ...     task = rp.Decode(batch=batch, context=256)
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=task, apply=apply).tpot_s
    >>> tpot(1, "jacobi-decoding") < tpot(1), tpot(256, "jacobi-decoding") > tpot(256)
    (True, True)
    """
    return edited(with_plan(given, speculated=values["window"] - 1.0), "jacobi-decoding", _iterated, values)


def _iterated(built: Built, given: Scenario, values: Values) -> Built:
    tokens = values["settled"]
    return with_phases(built, lambda phase: yielding(phase, tokens) if phase.role == "next" else phase)


@technique(
    "diffusion-decoding",
    title="text is denoised in parallel instead of written token by token",
    mechanism=("parallel_decoding", "feature_caching", "kv_compression"),
    papers=("dkv-cache", "phenaki", "magnets"),
    quality="another kind of model, trained as such; caching delayed by a step (dKV-Cache) is reported as nearly lossless",
    grade="changed",
    cannot=every(transformer, task_is(Generate), softmax_attention),
    parameters=(
        Parameter("steps", 64.0, "denoising passes", 1.0, 1e6, whole=True),
        Parameter("cached", True, "prompt and decided tokens keep their keys and values; else passes compute all"),
        Parameter("refresh", 8.0, "passes from one complete recomputation of the cache to the next", 1.0, 1e6, whole=True),
    ),
    occupies=("decode step", "schedule", "prompt tokens"),
    training_free=False,
)  # fmt: skip
def diffusion_decoding(given: Scenario, values: Values) -> Scenario:
    """``steps`` passes of a bidirectional model of this shape over prompt and output decide all output tokens.

    Without a cache a pass has prompt + output rows. With one it has the undecided tokens, output/2 in the mean, and every
    ``refresh``-th pass everything. Attention is not causal. There is no first token before the last. Against decoding token by
    token it wins while steps · cost(pass) < output · cost(step): few steps, small batches.

    >>> import ridgepoint as rp
    >>> def time(batch: int, *apply: str) -> float:
    ...     task = rp.Generate(batch=batch, prompt=256, output=256)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).time_s
    >>> whole, kept = (time(8, f"diffusion-decoding:cached={c}") for c in ("false", "true"))
    >>> 1.5 < whole / kept < 4.0, time(1, "diffusion-decoding:steps=32") < time(1)
    (True, True)
    """
    return edited(given, "diffusion-decoding", _denoised, values)


def _denoised(built: Built, given: Scenario, values: Values) -> Built:
    task = given.task
    assert isinstance(task, Generate)
    start, whole = before(given, "diffusion-decoding"), task.prompt + task.output

    def one_pass(rows: Any) -> Work:
        last = replace(task, prompt=whole - 1.0, output=2.0)  # its one decode step sees all tokens
        step = replace(start, task=last, plan=replace(start.plan, speculated=rows - 1.0)).build()
        return mapped(next(phase.work for phase in step.phases if phase.role == "next"), _both_ways)

    full, few = one_pass(whole), one_pass(np.maximum(task.output / 2.0, 1.0))
    often = 1.0 / values["refresh"] if values["cached"] else 1.0
    steps = values["steps"]
    how = next(phase for phase in built.phases if phase.role == "next")  # how the plan's software starts kernels

    def passes(name: str, work: Work, count: Any) -> Phase:
        return Phase(name, work, count, captured=how.captured, eager=how.eager)

    phases = [passes("denoise", full, steps * often)]
    if values["cached"]:
        phases.append(passes("denoise.cached", few, steps * (1.0 - often)))
    changed = replace(built, phases=tuple(phases), steps=1.0)
    return changed if values["cached"] else with_entries(changed, kv=0.0)


def _both_ways(op: Op) -> Work:
    return replace(op, causal=False) if isinstance(op, Attention) else op


@technique(
    "superposed-decoding",
    title="one pass writes several drafts of the same text",
    mechanism=("parallel_decoding",),
    papers=("superposed-decoding",),
    quality="Superposed Decoding: drafts as good as separate samples when an n-gram model filters them",
    grade="near",
    cannot=every(transformer, generates),
    parameters=(Parameter("drafts", 3.0, "drafts that a pass carries on", 1.0, 64.0, whole=True),),
    occupies=("samples",),
    presumes="several drafts of each text are wanted",
)
def superposed_decoding(given: Scenario, values: Values) -> Scenario:
    """The batch's sequences are drafts, k of each prompt: a pass over a weighted mix of their tokens does the work of k.

    Rows and cache fall by k; the vocabulary's scores are expanded to k · k candidates per mix, which n-gram tables rank (a
    random access each). Against a batch of k separate drafts little is gained while reading weights binds.

    >>> import ridgepoint as rp
    >>> def time(batch: int, *apply: str) -> float:
    ...     task = rp.Decode(batch=batch, context=2048)
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=task, apply=apply).time_s
    >>> gains = [time(b) / time(b, "superposed-decoding:drafts=3") for b in (3, 96)]
    >>> 1.0 < gains[0] < gains[1] < 3.0
    True
    """
    return edited(given, "superposed-decoding", _superposed, values)


def _superposed(built: Built, given: Scenario, values: Values) -> Built:
    k = values["drafts"]
    here = per_replica(given.task.sizes()["batch"], built.layout)
    part = np.ceil(here / k) / here
    lookups = Stream(
        read_bytes=64.0 * here * k, write_bytes=8.0 * here * k, flop=8.0 * here * k, pattern="gather", launches=2.0,
        label="drafts.n_grams",
    )  # fmt: skip

    def change(phase: Phase) -> Phase:
        work = mapped(phase.work, lambda op: fewer_sequences(op, part))
        return replace(phase, work=Seq(work, lookups) if phase.role == "next" else work)

    changed = with_phases(built, change)
    return assumed(
        scaled_entries(changed, part, "kv", "activations"), f"the batch counts drafts, {np.mean(k):g} of a prompt"
    )


@technique(
    "workers-on-one-cache",
    title="several instances work on one request, over one shared cache",
    mechanism=("parallel_decoding", "kv_reuse", "test_time_scaling"),
    papers=("hogwild-inference", "ets", "dta-llama"),
    quality="Hogwild: reasoning models collaborate without training; what splits well is not known beforehand",
    grade="changed",
    cannot=every(transformer, task_is(Generate)),
    parameters=(
        Parameter("workers", 2.0, "instances that write at once", 1.0, 256.0, whole=True),
        Parameter("overhead", 0.2, "tokens that coordination adds, over those of a single trace", 0.0, 100.0),
    ),
    neutral={"workers": 1.0, "overhead": 0.0},
    occupies=("decode step", "output length"),
    presumes="a request divides into parts that workers solve side by side",
)
def workers_on_one_cache(given: Scenario, values: Values) -> Scenario:
    """n workers share weights and cache in each step: output · (1 + overhead) tokens take a n-th as many steps of n rows.

    Keys and values are read once for all workers of a request (positions are rotated, not recomputed), so that a step costs
    little more than one row's until arithmetic binds.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Generate(batch=1, prompt=512, output=4096)
    ...     return rp.estimate("qwen3-32b", on="h100-sxm", task=task, apply=apply).time_s
    >>> 1.5 < time() / time("workers-on-one-cache:workers=2,overhead=0.2") < 2.0 / 1.2 + 0.01
    True
    """
    task = given.task
    assert isinstance(task, Generate)
    steps = np.maximum(np.ceil(task.output * (1.0 + values["overhead"]) / values["workers"]), 1.0)
    split = replace(given, task=replace(task, output=plain(steps)))
    edit = {**values, "output": task.output}
    return edited(with_plan(split, speculated=values["workers"] - 1.0), "workers-on-one-cache", _joint, edit)


def _joint(built: Built, given: Scenario, values: Values) -> Built:
    task = given.task
    assert isinstance(task, Generate)
    per_token = task.output / values["output"]
    written = (task.prompt + values["output"] * (1.0 + values["overhead"])) / (task.prompt + task.output)
    changed = with_phases(
        built, lambda phase: replace(phase, count=phase.count * per_token) if phase.role == "next" else phase
    )
    changed = replace(changed, tokens=built.tokens / per_token, steps=np.maximum(values["output"] - 1.0, 0.0))
    return assumed(scaled_entries(changed, written, "kv"), "tokens count those of one trace, without coordination")


@technique(
    "parallel-streams",
    title="a model run in several learned streams at once, whose outputs are joined",
    mechanism=("test_time_scaling", "efficient_architecture"),
    papers=("parscale",),
    quality="P streams are worth O(log P) of the parameters (ParScale): compare with model-swap to a larger model",
    grade="changed",
    cannot=every(transformer, task_is(Prefill, Decode, Generate, Forward, Train)),
    parameters=(Parameter("streams", 4.0, "streams", 1.0, 64.0, whole=True),),
    neutral={"streams": 1.0},
    occupies=("samples",),
    training_free=False,
)
def parallel_streams(given: Scenario, values: Values) -> Scenario:
    """Every sequence is computed P times with prefixes of its own; outputs are summed by learned weights.

    Rows and cache grow by P, weights do not: nearly free for one sequence on a fast chip, P-fold work for large batches.
    Prefixes and the joining weights are small and not counted.

    >>> import ridgepoint as rp
    >>> def time(batch: int, *apply: str) -> float:
    ...     task = rp.Decode(batch=batch, context=128)
    ...     return rp.estimate("llama-3.2-3b", on="h100-sxm", task=task, apply=apply).time_s
    >>> 1.0 < time(1, "parallel-streams:streams=8") / time(1) < 1.2 < time(512, "parallel-streams:streams=8") / time(512)
    True
    """
    wide = replace(given, task=replace(given.task, batch=given.task.sizes()["batch"] * values["streams"]))
    return edited(wide, "parallel-streams", _joined, values)


def _joined(built: Built, given: Scenario, values: Values) -> Built:
    return replace(built, tokens=built.tokens / values["streams"], samples=built.samples / values["streams"])
