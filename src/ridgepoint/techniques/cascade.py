"""Another model for all or some of the queries: swaps, cascades, routing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Num
from ridgepoint.scenario import Scenario, Values, find
from ridgepoint.tasks import Forward
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.conditions import every, has_experts, infers, transformer
from ridgepoint.techniques.reductions import before, prompt_tokens
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, prefixed, with_entries, with_phases
from ridgepoint.techniques.technique import Condition, Parameter

_SMALL = Parameter("small", "llama-3.2-1b", "the small model, by its name in the catalogue")
_QUEUES = "each model works on batches of its own queries, as large as the batch given"
_SEES = 512.0


def runs_instead(parameter: str) -> Condition:
    """The model that a parameter names can do the task on this machine under this plan."""

    def cannot(given: Scenario, values: Values) -> str:
        name = values[parameter]
        try:
            found = find(name)
            if found.name == given.model.name:
                return f"{name} is the model itself"
            replace(given, model=found, plan=replace(given.plan, ep=None), edits=()).build()
        except RidgepointError as error:
            return error.message
        same = isinstance(found, Model) == isinstance(given.model, Model)
        return "" if same else f"{name} is another kind of model than {given.model.name}"

    return cannot


@technique(
    "model-swap",
    title="another model in its place: distilled, searched for, or of a leaner architecture",
    mechanism=("efficient_architecture", "distillation", "nas"),
    papers=(
        "genet", "fasternet", "mobileone", "tresnet", "squeezesam", "leyolo", "litepose", "rt-detr", "pvt",
        "convnet-efficiency", "nemotron-flash", "llama-nas", "puzzle", "transkd", "compressor-3mb", "sid-protein",
        "instaflow", "adcsr", "proxylessnas", "fast-compound-scaling", "pangu-pi", "turbo-vaed",
    ),
    quality="that of the other model",
    grade="changed",
    cannot=runs_instead("to"),
    parameters=(Parameter("to", "llama-3.2-1b", "the model that takes its place, by its name or the path of a description"),),
    occupies=("model",),
    training_free=False,
)  # fmt: skip
def model_swap(given: Scenario, values: Values) -> Scenario:
    """The same task with the model ``to``: its own shapes, weights, cache.

    Everything follows from the other architecture. What distilling or searching cost is not part of the run.

    >>> import ridgepoint as rp
    >>> big, small = (rp.estimate("llama-3.1-8b", on="h100-sxm", task="decode", apply=a) for a in ((), ("model-swap",)))
    >>> small.time_s < big.time_s / 3, small.scenario.model.name
    (True, 'llama-3.2-1b')
    """
    found = find(values["to"])
    keeps = has_experts(replace(given, model=found), {}) == ""
    return replace(given, model=found, plan=given.plan if keeps else replace(given.plan, ep=None))


@technique(
    "cascade",
    title="a small model answers first; unsure answers go on to the large one",
    mechanism=("routing_cascade", "adaptive_compute"),
    papers=("adaptive-nanodrone-pose", "llm-routing-survey", "adaptive-lm-compute", "archon"),
    quality="that of the large model where the gate is right; depends on its threshold",
    grade="changed",
    cannot=every(infers, runs_instead("small")),
    parameters=(_SMALL, Parameter("escalate", 0.3, "part of the queries that the large model answers too", 0.0, 1.0)),
    occupies=("model choice",),
    presumes="a small model answers most queries well enough, and knows when",
)
def cascade(given: Scenario, values: Values) -> Scenario:
    """Every query runs the small model, a part p the large one as well: t_small + p · t_large in the mean.

    The gate (a margin, or agreement with the frame before) is read off the small model's output and costs nothing.
    Both models stay in memory.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Forward(batch=8)
    ...     return rp.estimate("resnet152", on="h100-sxm", task=task, apply=apply).time_s
    >>> time("cascade:small=resnet18,escalate=0") < time("cascade:small=resnet18,escalate=0.3") < time()
    True
    >>> time("cascade:small=resnet18,escalate=1") > time()
    True
    """
    return edited(given, "cascade", _cascaded, values)


def _other(given: Scenario, technique_name: str, model_name: str) -> Built:
    plan = replace(given.plan, speculated=0.0, ep=None)
    return replace(before(given, technique_name), model=find(model_name), plan=plan, edits=()).build()


def _beside(built: Built, small: Built, of_small: Num, of_large: Num) -> Built:
    """The phases of both models, each as often as its part of the queries says, and both in memory."""

    def scaled(phase: Phase, share: Num) -> Phase:
        return replace(phase, count=phase.count * share)

    ahead = tuple(
        replace(scaled(phase, of_small), name=f"small.{phase.name}", work=prefixed(phase.work, "small."))
        for phase in small.phases
    )
    large = with_phases(built, lambda phase: scaled(phase, of_large))
    entries = {f"small_{name}": size for name, size in small.ledger.entries.items() if name in ("weights", "kv")}
    return assumed(with_entries(replace(large, phases=(*ahead, *large.phases)), **entries), _QUEUES)


def _cascaded(built: Built, given: Scenario, values: Values) -> Built:
    return _beside(built, _other(given, "cascade", values["small"]), 1.0, values["escalate"])


def _router(given: Scenario, values: Values) -> str:
    if values["router"] == "none":
        return ""
    try:
        return "" if isinstance(find(values["router"]), Model) else f"{values['router']} reads no text"
    except RidgepointError as error:
        return error.message


@technique(
    "query-routing",
    title="a router sends each query to a small or the large model",
    mechanism=("routing_cascade",),
    papers=("llm-routing-survey", "adaptive-lm-compute", "archon", "agenttts"),
    quality="depends on the router's errors; unknown in general",
    grade="changed",
    cannot=every(transformer, infers, runs_instead("small"), _router),
    parameters=(
        _SMALL,
        Parameter("share", 0.5, "part of the queries that the small model answers", 0.0, 1.0),
        Parameter("router", "bert-base", "encoder that reads (the first 512 tokens of) every query to decide, or none"),
    ),
    occupies=("model choice",),
    presumes="most queries are easy, and a router tells which",
)
def query_routing(given: Scenario, values: Values) -> Scenario:
    """The mean query costs router + share · small + (1 − share) · large.

    The router is a forward pass of an encoder over each prompt, before anything else. Both models stay in memory.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Generate(batch=8, prompt=512, output=128)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).time_s
    >>> time("query-routing:share=0.8") < time("query-routing:share=0.2") < time() < time("query-routing:share=0")
    True
    """
    return edited(given, "query-routing", _routed, values)


def _routed(built: Built, given: Scenario, values: Values) -> Built:
    small = _other(given, "query-routing", values["small"])
    changed = _beside(built, small, values["share"], 1.0 - values["share"])
    if values["router"] == "none":
        return changed
    reads = Forward(batch=given.task.sizes()["batch"], seq=np.minimum(prompt_tokens(given), _SEES))
    plan = replace(given.plan, tp=1.0, pp=1.0, dp=None, ep=None, cp=None, weights=None, acts=None, speculated=0.0)
    router = replace(given, model=find(values["router"]), task=reads, plan=plan, edits=()).build()
    if any(phase.role == "first" for phase in built.phases):
        first = [Phase("router", prefixed(router.device, "router."), role="first")]
    else:
        first = []
    said = () if first else ("queries were routed before: the router is not part of a decode step",)
    changed = assumed(replace(changed, phases=(*first, *changed.phases)), *said)
    return with_entries(changed, router_weights=router.ledger["weights"])
