"""Speculation without a second model: the model itself, thinner, drafts; or the text does.

All verify γ drafts in one pass and yield E = (1 − α^(γ+1)) / (1 − α) tokens (``speculative.accepted_tokens``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ridgepoint.formats import FORMATS
from ridgepoint.numeric import Num
from ridgepoint.ops import Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built, Phase, times
from ridgepoint.tasks.inference import per_replica
from ridgepoint.techniques.conditions import every, generates, transformer
from ridgepoint.techniques.products import linear_format
from ridgepoint.techniques.reductions import before, layer_rule, prompt_tokens, sometimes
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, prefixed, with_entries, with_phases, with_plan
from ridgepoint.techniques.speculative import ACCEPTANCE, DRAFTS, accepted_tokens, yielding
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Mix, Seq, Work


def plain_step(given: Scenario, name: str) -> Scenario:
    """What the technique of that name started from, with steps of one token per sequence."""
    start = before(given, name)
    return replace(start, plan=replace(start.plan, speculated=0.0))


def steps_of(built: Built) -> dict[str, Work]:
    """The work of the decode steps by the name of their phase."""
    return {phase.name: phase.work for phase in built.phases if phase.role == "next"}


def rounds(built: Built, drafting: Mapping[str, Work], drafts: Num, tokens: Num, reader: Built | None = None) -> Built:
    """Every decode step becomes a round: ``drafts`` draft passes, then the step that verifies; it yields ``tokens``.

    A draft model of its own, ``reader``, reads the prompts too.
    """
    reading = {} if reader is None else {phase.name: phase for phase in reader.phases if phase.role == "first"}

    def change(phase: Phase) -> tuple[Phase, ...]:
        if phase.name in reading:
            prompt = reading[phase.name]
            return phase, replace(prompt, name="draft.prefill", work=prefixed(prompt.work, "draft."))
        if phase.role != "next" or phase.name not in drafting:
            return (phase,)
        draft = replace(phase, name="draft", work=times(drafts, prefixed(drafting[phase.name], "draft.")))
        return yielding(draft, tokens), yielding(phase, tokens)

    return with_phases(built, change)


@technique(
    "self-speculation",
    title="the model drafts with some of its layers skipped",
    mechanism=("speculative_decoding", "layer_skip"),
    papers=("swift-self-spec",),
    quality="same distribution as the model's own sampling",
    grade="exact",
    cannot=every(transformer, generates),
    parameters=(
        Parameter("skip", 0.45, "part of the layers that a draft pass leaves out", 0.0, 1.0),
        DRAFTS,
        ACCEPTANCE,
    ),
    occupies=("decode step",),
)
def self_speculation(given: Scenario, values: Values) -> Scenario:
    """γ passes through 1 − s of the layers draft, one pass over γ + 1 tokens verifies: E(α, γ) tokens a round.

    Nothing is added to memory: drafts share weights and cache. Where reading weights binds, a round takes γ · (1 − s) + 1
    steps, so that the best γ is small and the gain ends near E / (γ · (1 − s) + 1).

    >>> import ridgepoint as rp
    >>> def tpot(*apply: str) -> float:
    ...     return rp.estimate("llama-2-13b", on="a100-sxm-80gb", task="decode", apply=apply).tpot_s
    >>> gain = tpot() / tpot("self-speculation:skip=0.5,drafts=3,acceptance=0.9")
    >>> 1.2 < gain < 1.6
    True
    >>> tpot("self-speculation:acceptance=0") > tpot()
    True
    """
    return edited(with_plan(given, speculated=values["drafts"]), "self-speculation", _thin_drafts, values)


def _thin_drafts(built: Built, given: Scenario, values: Values) -> Built:
    used = 1.0 - values["skip"]
    thin = layer_rule(given, lambda op: sometimes(used, op))
    drafting = {name: thin(work) for name, work in steps_of(plain_step(given, "self-speculation").build()).items()}
    return rounds(built, drafting, values["drafts"], accepted_tokens(values["acceptance"], values["drafts"]))


def _wider(given: Scenario, values: Values) -> str:
    present = linear_format(given)
    wide = FORMATS[present].bits > FORMATS[values["format"]].bits
    return "" if wide else f"the weights are {present} already: no draft reads fewer bytes"


@technique(
    "quantized-self-speculation",
    title="the model drafts with 4-bit weights and a 4-bit cache",
    mechanism=("speculative_decoding", "kv_compression", "weight_quantization"),
    papers=("quantspec",),
    quality="same distribution as the model's own sampling; QuantSpec accepts more than 90 % of the drafts",
    grade="exact",
    cannot=every(transformer, generates, _wider),
    parameters=(
        Parameter("format", "int4", "draft weights", choices=("int4", "int8", "int3", "nf4", "fp4", "mxfp4")),
        Parameter("kv", "int4", "what a draft pass reads of the cache", choices=("int4", "int8", "fp8")),
        Parameter("hierarchical", True, "one cache of twice the bits, of which drafts read half; otherwise two caches"),
        DRAFTS,
        replace(ACCEPTANCE, default=0.9),
    ),
    occupies=("decode step", "kv format"),
)  # fmt: skip
def quantized_self_speculation(given: Scenario, values: Values) -> Scenario:
    """Draft passes read ``format`` weights and ``kv`` values, the verifying pass reads everything: E(α, γ) tokens a round.

    Memory holds a second, narrow copy of the weights. A hierarchical cache (QuantSpec) keeps each value as two halves: the
    draft reads the upper one, verification both, so that the cache itself shrinks to twice the draft's bits.

    >>> import ridgepoint as rp
    >>> def tpot(context: int, *apply: str) -> float:
    ...     task = rp.Decode(batch=1, context=context)
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=task, apply=apply).tpot_s
    >>> 1.5 < tpot(65536) / tpot(65536, "quantized-self-speculation") < 3.0
    True
    """
    whole = {"int4": "int8", "int8": "bf16", "fp8": "bf16"}[values["kv"]]
    changed = with_plan(given, speculated=values["drafts"])
    if values["hierarchical"]:
        changed = with_plan(changed, kv=whole)
    return edited(changed, "quantized-self-speculation", _narrow_drafts, values)


def _narrow_drafts(built: Built, given: Scenario, values: Values) -> Built:
    start = plain_step(given, "quantized-self-speculation")
    narrow = replace(start, plan=replace(start.plan, weights=values["format"], kv=values["kv"])).build()
    tokens = accepted_tokens(values["acceptance"], values["drafts"])
    changed = rounds(built, steps_of(narrow), values["drafts"], tokens)
    kept = {} if values["hierarchical"] else {"draft_kv": narrow.ledger["kv"]}
    return with_entries(changed, draft_weights=narrow.ledger["weights"], **kept)


@technique(
    "lookup-decoding",
    title="drafts copied from the text so far",
    mechanism=("speculative_decoding", "parallel_decoding"),
    papers=("copyspec",),
    quality="same tokens as the model's own decoding",
    grade="exact",
    cannot=every(transformer, generates),
    parameters=(
        replace(DRAFTS, default=8.0),
        Parameter(
            "match",
            0.4,
            "probability that the last tokens occurred before, so that there is something to copy",
            0.0,
            1.0,
        ),
        ACCEPTANCE,
    ),
    occupies=("decode step",),
    presumes="the output copies from its context (code edits, summaries, retrieval)",
)
def lookup_decoding(given: Scenario, values: Values) -> Scenario:
    """With probability ``match`` a step verifies γ copied tokens and yields E(α, γ); otherwise it is a plain step.

    Drafts cost a search of the context for the last tokens (a pass over token ids); there is no model besides. Tokens per
    step: match · E + (1 − match). All sequences of a batch are taken to match together.

    >>> import ridgepoint as rp
    >>> def tpot(batch: int, *apply: str) -> float:
    ...     task = rp.Decode(batch=batch, context=4096)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).tpot_s
    >>> gains = [tpot(1) / tpot(1, f"lookup-decoding:match={m}") for m in (0, 0.5, 1)]
    >>> 0.98 < gains[0] < 1.0 < gains[1] < gains[2]
    True
    """
    return edited(with_plan(given, speculated=values["drafts"]), "lookup-decoding", _copied, values)


def _copied(built: Built, given: Scenario, values: Values) -> Built:
    match = values["match"]
    tokens = match * accepted_tokens(values["acceptance"], values["drafts"]) + 1.0 - match
    single = steps_of(plain_step(given, "lookup-decoding").build())
    scanned = per_replica(given.task.sizes()["batch"], built.layout) * prompt_tokens(given)
    search = Stream(read_bytes=4.0 * scanned, write_bytes=4.0, flop=6.0 * scanned, launches=2.0, label="lookup.search")

    def change(phase: Phase) -> Phase:
        if phase.role != "next":
            return phase
        step = Mix((match, phase.work), (1.0 - match, single[phase.name]))
        return yielding(replace(phase, work=Seq(search, step)), tokens)

    return assumed(with_phases(built, change), "acceptances are independent of each other and of the match")
