"""How many tokens are generated: shorter chains of thought, repeated samples and who judges them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import plain
from ridgepoint.scenario import Scenario, Values, find
from ridgepoint.tasks import Generate, Prefill
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.conditions import every, task_is, transformer
from ridgepoint.techniques.reductions import before
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, prefixed, with_entries, with_phases
from ridgepoint.techniques.technique import Parameter


@technique(
    "shorter-reasoning",
    title="fewer tokens of thought",
    mechanism=("test_time_scaling", "token_reduction", "adaptive_compute"),
    papers=("overthinking-o1", "plan-and-budget"),
    quality="Plan-and-Budget: up to 39 % fewer tokens with higher accuracy; truncation without a budget loses accuracy",
    grade="changed",
    cannot=every(transformer, task_is(Generate)),
    parameters=(Parameter("cut", 0.39, "part of the generated tokens that are not generated", 0.0, 0.99),),
    neutral={"cut": 0.0},
    occupies=("output length",),
    presumes="the output is reasoning that can be shorter",
)
def shorter_reasoning(given: Scenario, values: Values) -> Scenario:
    """``output`` tokens become output · (1 − cut), rounded up: decode steps and cache shrink, the prefill stays.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Generate(batch=8, prompt=512, output=4096)
    ...     return rp.estimate("qwen3-32b", on="2xh100-sxm", task=task, apply=apply).time_s
    >>> 1.6 < time() / time("shorter-reasoning:cut=0.39") < 1.7
    True
    """
    task = given.task
    assert isinstance(task, Generate)
    fewer = np.maximum(np.ceil(task.output * (1.0 - np.asarray(values["cut"]))), 1.0)
    return replace(given, task=replace(task, output=plain(fewer)))


@technique(
    "output-cap",
    title="generation ends at a number of tokens",
    mechanism=("cost_attack", "token_reduction"),
    papers=("verbose-images",),
    quality="answers that are longer are cut; against inputs made to delay the end (8 times longer, as reported)",
    grade="changed",
    cannot=every(transformer, task_is(Generate)),
    parameters=(Parameter("tokens", 512.0, "tokens that an answer has at most", 1.0, 1e9, whole=True),),
    neutral={"tokens": 1e9},
    occupies=("output length",),
    presumes="longer answers are not wanted",
)
def output_cap(given: Scenario, values: Values) -> Scenario:
    """``output`` becomes min(output, tokens): what a request can cost at most, whatever makes the model go on.

    cost = prefill + min(output, tokens) · step. Inputs that delay the end of an answer make the output longer and nothing else.

    >>> import ridgepoint as rp
    >>> def time(output: float, *apply: str) -> float:
    ...     task = rp.Generate(batch=1, prompt=576, output=output)
    ...     return rp.estimate("llama-2-7b", on="a100-sxm-80gb", task=task, apply=apply).time_s
    >>> attacked, capped, usual = time(787), time(787, "output-cap:tokens=100"), time(100)
    >>> capped == usual < attacked / 5
    True
    """
    task = given.task
    assert isinstance(task, Generate)
    return replace(given, task=replace(task, output=plain(np.minimum(task.output, values["tokens"]))))


def _judge(given: Scenario, values: Values) -> str:
    name = values["judge"]
    if name == "none":
        return ""
    try:
        found = find(name)
    except RidgepointError as error:
        return error.message
    return "" if isinstance(found, Model) else f"{name} reads no text"


@technique(
    "repeated-sampling",
    title="several answers per prompt, of which one is chosen",
    mechanism=("test_time_scaling", "adaptive_compute", "routing_cascade"),
    papers=(
        "adaptive-lm-compute", "compute-optimal-tts", "test-time-compute-optimal", "plansearch", "kinetics", "ttspm",
        "inference-scaling-complex-tasks", "multilingual-inference-scaling", "agenttts",
    ),
    quality="success rises as 1 − (1 − p)^n with a perfect judge; majority votes gain less",
    grade="changed",
    cannot=every(transformer, task_is(Generate), _judge),
    parameters=(
        Parameter("samples", 4.0, "answers per prompt", 1.0, 1e5, whole=True),
        Parameter("spent", 1.0, "part of the samples drawn in the mean, where a budget follows difficulty", 0.0, 1.0),
        Parameter("judge", "none", "model that reads every answer once to score it, or none"),
    ),
    neutral={"samples": 1.0, "spent": 1.0, "judge": "none"},
    occupies=("samples",),
    presumes="several answers are wanted per prompt",
)  # fmt: skip
def repeated_sampling(given: Scenario, values: Values) -> Scenario:
    """n answers of a prompt: one prefill, then decode steps of n · spent times the sequences; throughput counts the chosen.

    While reading weights binds, n samples cost far less than n times one; the cache, which each sample keeps of its own
    tokens and of the prompt, grows with n. A judge reads all answers in one pass. This adds cost: it competes with a
    larger model (``model-swap``) or longer thought.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Generate(batch=1, prompt=512, output=256)
    ...     return rp.estimate("llama-3.2-3b", on="h100-sxm", task=task, apply=apply).time_s
    >>> 1.0 < time("repeated-sampling:samples=8") / time() < 2.0
    True
    """
    return edited(given, "repeated-sampling", _sampled, values)


def _sampled(built: Built, given: Scenario, values: Values) -> Built:
    task = given.task
    assert isinstance(task, Generate)
    drawn = np.ceil(np.asarray(task.batch) * values["samples"] * values["spent"])
    start = before(given, "repeated-sampling")
    wide = replace(start, task=replace(task, batch=plain(np.maximum(drawn, 1.0)))).build()
    steps = {phase.name: phase for phase in wide.phases}
    changed = with_phases(built, lambda phase: steps.get(phase.name, phase) if phase.role == "next" else phase)
    changed = with_entries(changed, kv=wide.ledger["kv"])
    if values["judge"] != "none":
        reader = Prefill(batch=plain(np.maximum(drawn, 1.0)), prompt=task.prompt + task.output)
        judged = replace(start, model=find(values["judge"]), task=reader, edits=()).build()
        scoring = Phase("judge", prefixed(judged.phases[0].work, "judge."), captured=judged.phases[0].captured)
        changed = replace(changed, phases=(*changed.phases, scoring))
        changed = with_entries(changed, judge_weights=judged.ledger["weights"], judge_kv=judged.ledger["kv"])
    return assumed(changed, "throughput counts one answer per prompt; every sample keeps the prompt's keys and values")
