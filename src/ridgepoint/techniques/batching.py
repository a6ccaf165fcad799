"""How requests share a device: larger batches, prompts between, inside or beside the decode steps of others.

A static batch reads all its prompts, then decodes. An engine in its steady state runs b requests at different stages:
while one writes its o tokens, the prompts of the b − 1 others are read (``serving/loops.py`` has the closed form, with
queues and bursts). Total work is the same; what changes is when the first token comes, and what a step carries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.models.architecture import SelfAttention
from ridgepoint.numeric import Num, ceil_div, plain
from ridgepoint.ops import Attention, Collective, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Sample
from ridgepoint.tasks.build import Built, Phase, times
from ridgepoint.tasks.inference import per_replica
from ridgepoint.techniques.conditions import every, has_mixer, task_is, transformer, wants
from ridgepoint.techniques.reductions import before, fewer_tokens, sometimes
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, with_entries
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Mix, Op, Overlap, Repeat, Seq, Several, Work, mapped

_STEADY = "requests of equal length arrive evenly and find room; each joins the batch when another leaves"


def _several(given: Scenario, values: Values) -> str:
    few = bool(np.all(np.asarray(given.task.sizes()["batch"]) <= given.build().layout.dp))
    return "every replica has one request: there is nothing to interleave" if few else ""


@technique(
    "batch-growth",
    title="a larger batch",
    mechanism=("batching_scheduling",),
    papers=("mind-the-memory-gap", "cpu-llm-inference", "vllm-hyperparameters"),
    quality="the same results",
    grade="exact",
    cannot=task_is(Prefill, Decode, Generate, Forward, Sample),
    parameters=(Parameter("times", 4.0, "batch over the one given", 1.0, 1e6, whole=True),),
    neutral={"times": 1.0},
    occupies=("batch",),
)
def batch_growth(given: Scenario, values: Values) -> Scenario:
    """The batch grows ``times``-fold: weights are read once for more rows, while every sequence reads its own cache.

    Throughput rises until arithmetic binds, or the cache's reads do, which grow with the batch (Mind the Memory Gap); the
    time of a step rises all along, and so does memory.

    >>> import ridgepoint as rp
    >>> def rate(context: int, *apply: str) -> float:
    ...     task = rp.Decode(batch=32, context=context)
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=task, apply=apply).tokens_per_s
    >>> short, long = (rate(c, "batch-growth:times=2") / rate(c) for c in (128, 2048))
    >>> 1.5 < short < 2.0 and 1.0 < long < 1.3
    True
    """
    return replace(given, task=replace(given.task, batch=given.task.sizes()["batch"] * values["times"]))


def alone(given: Scenario, name: str, layout_dp: Num) -> Built:
    """What the technique of that name started from, with one request per replica."""
    start = before(given, name)
    return replace(start, task=replace(start.task, batch=layout_dp)).build()


def _first_work(built: Built) -> Work:
    found = [times(phase.count, phase.work) for phase in built.phases if phase.role == "first"]
    return found[0] if len(found) == 1 else Seq(*found)


def prompts_per_step(given: Scenario, built: Built) -> Num:
    """Prompts of other requests that are read per decode step of one: (b − 1) / (o − 1)."""
    task = given.task
    assert isinstance(task, Generate)
    others = per_replica(task.batch, built.layout) - 1.0
    return plain(others / np.maximum(task.output - 1.0, 1.0))


_several_requests = every(transformer, task_is(Generate), _several)


@technique(
    "continuous-batching",
    title="requests join and leave the batch at every step",
    mechanism=("batching_scheduling",),
    papers=("vllm-hyperparameters", "idealized-runtime", "nexus-intra-gpu"),
    quality="the same results",
    grade="exact",
    cannot=_several_requests,
    occupies=("schedule",),
)
def continuous_batching(given: Scenario, values: Values) -> Scenario:
    """The first token takes one prompt's prefill instead of the batch's; (b − 1)/(o − 1) prefills of others fall between steps.

    service = F₁ + (b − 1) · F₁ + (o − 1) · D, TPOT = D + (b − 1) · F₁ / (o − 1): the work of the static batch, in another
    order. TTFT falls about b-fold, TPOT rises by what others read.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task = rp.Generate(batch=32, prompt=2048, output=256)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply)
    >>> static, joined = run(), run("continuous-batching")
    >>> joined.ttft_s < static.ttft_s / 20, joined.tpot_s > static.tpot_s, 0.9 < joined.time_s / static.time_s < 1.2
    (True, True, True)
    """
    return edited(given, "continuous-batching", _interleaved, values)


def _interleaved(built: Built, given: Scenario, values: Values) -> Built:
    one = alone(given, "continuous-batching", built.layout.dp)
    first = tuple(phase for phase in one.phases if phase.role == "first")
    rest = tuple(phase for phase in built.phases if phase.role != "first")
    often = prompts_per_step(given, built)
    others = tuple(
        replace(phase, name=f"{phase.name}.of_others", role="next", count=phase.count * often) for phase in first
    )
    changed = replace(built, phases=(*first, *rest, *others))
    return assumed(with_entries(changed, activations=one.ledger["activations"]), _STEADY)


def merged(a: Work, b: Work) -> Work:
    """Two passes of equal shape in one: products with the same weights take both sets of rows, the rest runs side by side.

    >>> from ridgepoint.ops import Delay
    >>> up = Gemm(m=2.0, n=8.0, k=8.0, label="up")
    >>> merged(up, replace(up, m=3.0)).m
    5.0
    >>> len(merged(Delay(seconds=1.0, label="a"), Delay(seconds=1.0, label="a")).parts)
    2
    """
    if isinstance(a, Mix):
        return Mix(*((p, merged(case, b)) for p, case in a.cases), label=a.label)
    if isinstance(a, Repeat) and isinstance(b, Repeat) and np.array_equal(a.count, b.count):
        return replace(a, body=merged(a.body, b.body))
    if isinstance(a, Several) and isinstance(b, type(a)) and len(a.parts) == len(b.parts):
        return type(a)(*(merged(x, y) for x, y in zip(a.parts, b.parts, strict=True)), label=a.label)
    if isinstance(a, Op) and type(a) is type(b) and a.label == b.label:
        return _one_kernel(a, b)
    return Seq(a, b)


_SUMMED: dict[type[Op], tuple[str, ...]] = {
    Gemm: ("m",),
    Stream: ("read_bytes", "write_bytes", "flop", "special", "rows", "saved_bytes"),
    Collective: ("bytes",),
}


def _one_kernel(a: Any, b: Any) -> Work:
    """One op over the rows of both; groups of experts keep the larger count of groups, and all rows."""
    names = _SUMMED.get(type(a))
    if names is None:
        return Seq(a, b)
    if isinstance(a, Gemm) and (a.grouped or not np.array_equal(a.batch, b.batch)):
        groups = np.maximum(a.batch, b.batch)
        both: Work = replace(a, batch=plain(groups), m=plain((a.m * a.batch + b.m * b.batch) / groups))
        return both
    summed: Work = replace(a, **{name: getattr(a, name) + getattr(b, name) for name in names})
    return summed


@technique(
    "chunked-prefill",
    title="prompts cut into chunks that ride in decode steps",
    mechanism=("batching_scheduling",),
    papers=("nexus-intra-gpu", "vllm-hyperparameters"),
    quality="the same results",
    grade="exact",
    cannot=every(
        _several_requests,
        has_mixer(SelfAttention),
        wants(lambda given, _: bool(np.all(np.asarray(given.plan.pp or 1.0) == 1.0)), "stages of a pipeline take chunks apart"),
    ),
    parameters=(Parameter("chunk", 512.0, "prompt tokens that a step takes in", 1.0, 1e6, whole=True),),
    occupies=("schedule",),
)  # fmt: skip
def chunked_prefill(given: Scenario, values: Values) -> Scenario:
    """A prompt of P tokens becomes ⌈P/c⌉ chunks; each rides in a decode step, whose weights are read once for both.

    The first token waits for the steps that its own chunks ride in; between two tokens lie (b − 1) · ⌈P/c⌉ / (o − 1) chunks
    of others. A chunk reads the keys and values of those before it again. Against prompts between the steps weights are
    read less often, no step is longer than one chunk makes it, and the first token comes a little later.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task = rp.Generate(batch=64, prompt=2048, output=512)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply)
    >>> between, inside = run("continuous-batching"), run("chunked-prefill:chunk=512")
    >>> between.ttft_s < inside.ttft_s < run().ttft_s / 10, inside.tpot_s < between.tpot_s
    (True, True)
    """
    return edited(given, "chunked-prefill", _chunked, values)


def _chunked(built: Built, given: Scenario, values: Values) -> Built:
    task = given.task
    assert isinstance(task, Generate)
    chunk = np.minimum(values["chunk"], task.prompt)
    pieces = plain(ceil_div(task.prompt, chunk))
    one = alone(given, "chunked-prefill", built.layout.dp)
    step = _next_work(built)
    mixed = merged(step, mapped(_first_work(one), lambda op: _chunk_of(op, pieces, task.prompt)))
    often = prompts_per_step(given, built) * pieces
    plainly = sometimes(plain(np.maximum(1.0 - often, 0.0)), step)
    phases = (
        Phase("prefill.chunks", mixed, count=pieces, role="first", captured=False),
        Phase("decode", plainly, role="next", captured=True),
        Phase("decode.with_chunk", mixed, count=often, role="next", captured=False),
    )
    changed = replace(built, phases=phases)
    activations = np.maximum(one.ledger["activations"] * chunk / task.prompt, 0.0)
    return assumed(with_entries(changed, activations=plain(activations)), _STEADY)


def _next_work(built: Built) -> Work:
    found = [times(phase.count, phase.work) for phase in built.phases if phase.role == "next"]
    return found[0] if len(found) == 1 else Seq(*found)


def _chunk_of(op: Op, pieces: Num, prompt: Num) -> Work:
    """``op`` for one of ``pieces`` chunks: its rows, over the mean of what lies before; the head waits for the last chunk."""
    if op.label.startswith("head."):
        return fewer_tokens(op, 1.0 / pieces)
    if isinstance(op, Attention):
        size = op.q_len / pieces
        return replace(op, q_len=size, kv_len=plain((prompt + size) / 2.0))
    return fewer_tokens(op, 1.0 / pieces)


@technique(
    "prefill-beside-decode",
    title="prefill and decode at the same time on parts of one device",
    mechanism=("disaggregation", "batching_scheduling"),
    papers=("nexus-intra-gpu",),
    quality="the same results",
    grade="exact",
    cannot=_several_requests,
    occupies=("schedule",),
)
def prefill_beside_decode(given: Scenario, values: Values) -> Scenario:
    """Two streams share the device: decode steps read, prefills compute; they slow each other where they meet.

    While a prompt is read (o − 1)/(b − 1) decode steps run beside it; a partition that keeps both streams in step is taken
    as found (Nexus: proactively, from a cost model). Arithmetic and bandwidth each serve both: time = max over resources of
    the summed demand, never more than one after the other.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task = rp.Generate(batch=64, prompt=2048, output=256)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply)
    >>> between, beside = run("continuous-batching"), run("prefill-beside-decode")
    >>> beside.tpot_s < between.tpot_s, beside.ttft_s >= between.ttft_s
    (True, True)
    """
    return edited(given, "prefill-beside-decode", _beside, values)


def _beside(built: Built, given: Scenario, values: Values) -> Built:
    one = alone(given, "prefill-beside-decode", built.layout.dp)
    prompt, often = _first_work(one), prompts_per_step(given, built)
    rest = [phase for phase in built.phases if phase.role == "next"]
    steps = plain(np.where(np.asarray(often) > 0.0, 1.0 / np.where(np.asarray(often) > 0.0, often, 1.0), 0.0))
    step = _next_work(built)
    phases = (
        Phase("prefill.beside_decode", Overlap(prompt, times(steps, step)), role="first"),
        Phase("decode.beside_prefill", Overlap(step, times(often, prompt)), role="next", captured=rest[0].captured),
    )
    changed = replace(built, phases=phases)
    return assumed(with_entries(changed, activations=one.ledger["activations"]), _STEADY)
