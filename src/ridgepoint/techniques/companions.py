"""What a small model is given beside its own weights: parameters fetched for the context, logits of tuned siblings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import FeedForward, Layer, Model
from ridgepoint.numeric import plain
from ridgepoint.ops import Stream, Transfer
from ridgepoint.scenario import Scenario, Values, find
from ridgepoint.tasks.build import Built, Phase, times
from ridgepoint.tasks.inference import per_replica
from ridgepoint.techniques.conditions import every, generates, has_host, infers, transformer
from ridgepoint.techniques.products import linear_format
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, prefixed, with_entries, with_layers, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Seq


def _one_context(given: Scenario, values: Values) -> str:
    batch = given.task.sizes().get("batch", 1.0)
    return (
        "" if np.all(np.asarray(batch) == 1.0) else "every context has parameters of its own: describe a batch of one"
    )


def _dense(given: Scenario, values: Values) -> str:
    assert isinstance(given.model, Model)
    dense = all(isinstance(layer.feed, FeedForward) for layer, _ in given.model.main.layers)
    return "" if dense else f"the feed-forward parts of {given.model.name} are not dense"


def _bank_in_reach(given: Scenario, values: Values) -> str:
    return has_host(given, values) if values["tier"] == "host" else ""


@technique(
    "fetched-parameters",
    title="a block of feed-forward weights fetched from a large bank for the context",
    mechanism=("retrieval_memory", "offload_ssd", "efficient_architecture"),
    papers=("hierarchical-memory-pretraining",),
    quality="a 160M model with 18M fetched parameters matches one of more than twice its size (as reported)",
    grade="changed",
    cannot=every(transformer, infers, _dense, _one_context, _bank_in_reach),
    parameters=(
        Parameter("fetched", 18e6, "parameters fetched for a context", 0.0, 1e12, one_value=True),
        Parameter("bank", 4.6e9, "parameters of the bank", 0.0, 1e15, one_value=True),
        Parameter("tier", "storage", "where the bank lies", choices=("host", "storage")),
        Parameter(
            "tokens", 0.0, "tokens for which a decode step's context keeps its block; 0: fetched before", 0.0, 1e9
        ),
    ),
    occupies=("feed",),
    training_free=False,
    neutral={"fetched": 0.0},
)
def fetched_parameters(given: Scenario, values: Values) -> Scenario:
    """Feed-forward parts grow by ``fetched`` parameters over all layers, which one read of the bank brings for each context.

    Active parameters: anchor + fetched. A prefill reads fetched · bytes from the bank before it; a decode step its part of
    that where ``tokens`` says how long a block is kept. The device holds anchor and block, the tier the bank.

    >>> import ridgepoint as rp
    >>> def run(model: str, *apply: str) -> rp.Estimate:
    ...     task = rp.Generate(batch=1, prompt=512, output=128)
    ...     return rp.estimate(model, on="snapdragon-8-gen-3@storage=2G", task=task, apply=apply)
    >>> small, large = run("smollm2-135m", "fetched-parameters"), run("smollm2-360m")
    >>> run("smollm2-135m").time_s < small.time_s < large.time_s
    True
    """
    model = given.model
    assert isinstance(model, Model)
    return edited(
        replace(given, model=_wider(model, float(values["fetched"]))), "fetched-parameters", _fetching, values
    )


def _wider(model: Model, parameters: float) -> Model:
    """Feed-forward parts wider by their share of further parameters; widths are whole numbers."""
    products = [
        3.0 if layer.feed.gated else 2.0
        for layer, n in model.main.layers
        if isinstance(layer.feed, FeedForward)
        for _ in range(int(n))
    ]
    share = parameters / sum(products) / model.hidden

    def wider(layer: Layer) -> Layer:
        assert isinstance(layer.feed, FeedForward)
        return replace(layer, feed=replace(layer.feed, width=layer.feed.width + round(share)))

    return with_layers(model, wider)


def _fetching(built: Built, given: Scenario, values: Values) -> Built:
    size = np.asarray(values["fetched"]) * FORMATS[linear_format(given)].bytes
    kept = np.asarray(values["tokens"], dtype=float)
    part = np.where(kept > 0.0, 1.0 / np.maximum(kept, 1.0), 0.0)
    prefills = any(phase.role == "first" for phase in built.phases)

    def change(phase: Phase) -> Phase:
        read = size if phase.role == "first" else size * (0.0 if prefills else part)
        if not np.any(np.asarray(read) > 0.0):
            return phase
        return replace(
            phase, work=Seq(Transfer(bytes=plain(read), tier=values["tier"], label="bank.fetch"), phase.work)
        )

    bank = values["bank"] * FORMATS[linear_format(given)].bytes
    return assumed(with_phases(built, change), f"a bank of {bank / 1e9:.3g} GB lies in {values['tier']}")


def _siblings(given: Scenario, values: Values) -> str:
    name = values["small"]
    try:
        found = find(name)
    except RidgepointError as error:
        return error.message
    if not isinstance(found, Model) or found.decoder is None:
        return f"{name} generates no tokens"
    assert isinstance(given.model, Model)
    same = found.embedding.vocab == given.model.embedding.vocab
    return "" if same else f"{name} has another vocabulary than {given.model.name}: their logits cannot be added"


@technique(
    "logits-fusion",
    title="the shift that tuning made in small models added to the logits of the large one",
    mechanism=("logit_arithmetic", "peft"),
    papers=("dynamic-logits-fusion",),
    quality="closes 96 % (one task) and 86 % (several) of the gap to tuning a 13B model (as reported)",
    grade="changed",
    cannot=every(transformer, generates, _siblings),
    parameters=(
        Parameter("small", "llama-3.2-1b", "the small model, once as it is and once tuned for each task"),
        Parameter("experts", 1.0, "tuned small models", 0.0, 64.0, whole=True),
        Parameter("trials", 20.0, "weights of the experts that are tried for every token", 1.0, 1e4, whole=True),
    ),
    occupies=("logits",),
    neutral={"experts": 0.0},
    presumes="the large model was to be tuned, and small ones are",
)
def logits_fusion(given: Scenario, values: Values) -> Scenario:
    """Every pass of the large model goes with experts + 1 passes of the small one; logits are mixed anew for every token.

    Tuning the large model is spared; decoding costs (experts + 1) · small/large more where weights bind, and
    ``trials`` passes over the experts' logits, which search the mixture that moves the large model as the small ones moved.

    >>> import ridgepoint as rp
    >>> def tpot(*apply: str) -> float:
    ...     return rp.estimate("llama-3.1-70b", on="4xh100-sxm", task=rp.Decode(batch=1, context=1024), apply=apply).tpot_s
    >>> tpot() < tpot("logits-fusion") < tpot("logits-fusion:experts=4")
    True
    """
    return edited(given, "logits-fusion", _with_siblings, values)


def _with_siblings(built: Built, given: Scenario, values: Values) -> Built:
    experts = np.asarray(values["experts"], dtype=float)
    copies = plain(np.where(experts > 0.0, experts + 1.0, 0.0))
    small = replace(given, model=find(values["small"]), plan=replace(given.plan, ep=None), edits=()).build()
    beside = {phase.name: phase for phase in small.phases}
    assert isinstance(given.model, Model)
    rows = per_replica(given.task.sizes()["batch"], built.layout)
    logits = 4.0 * rows * given.model.embedding.vocab / np.asarray(built.layout.tp)

    def change(phase: Phase) -> tuple[Phase, ...]:
        if phase.name not in beside or not np.any(experts > 0.0):
            return (phase,)
        passes = times(copies, prefixed(beside[phase.name].work, "sibling."))
        mixing = Stream(
            read_bytes=plain(values["trials"] * experts * logits),
            write_bytes=plain(logits * np.minimum(experts, 1.0)),
            flop=plain(values["trials"] * experts * logits),
            label="logits.mix",
        )
        return (replace(phase, work=Seq(phase.work, passes, mixing)),)

    return with_entries(
        with_phases(built, change),
        sibling_weights=copies * small.ledger["weights"],
        sibling_kv=copies * small.ledger["kv"],
    )
