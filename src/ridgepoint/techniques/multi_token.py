"""Several tokens per pass from the model itself: extra heads, mask tokens, prompt tokens, look-ahead tokens.

Guesses are verified in the same pass as the next guesses are made (or in one of their own), so that a step processes more
rows and yields E = (1 − α^(k+1)) / (1 − α) tokens of k guesses (``speculative.accepted_tokens``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Num
from ridgepoint.ops import Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.conditions import every, generates, transformer
from ridgepoint.techniques.products import is_linear
from ridgepoint.techniques.reductions import step_rows
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, with_entries, with_phases, with_plan
from ridgepoint.techniques.self_speculation import plain_step, rounds, steps_of
from ridgepoint.techniques.speculative import ACCEPTANCE, accepted_tokens, yielding
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Repeat, Seq, Work, mapped

_GUESSES = Parameter("guesses", 3.0, "tokens guessed beyond the next one", 0.0, 64.0, whole=True)
_VERIFIED = "acceptances of the guesses are independent of each other"


def _sequences(given: Scenario, built: Built) -> Num:
    """Sequences of one decode step on a device."""
    return step_rows(given, built.layout) / (1.0 + given.plan.speculated)


def _with_steps(built: Built, tokens: Num, extra: Work, rule: Any = None) -> Built:
    """Decode steps followed by ``extra`` work, changed by ``rule``, that yield ``tokens`` tokens each."""

    def change(phase: Phase) -> Phase:
        if phase.role != "next":
            return phase
        work = phase.work if rule is None else mapped(phase.work, rule)
        return yielding(replace(phase, work=Seq(work, extra)), tokens)

    return assumed(with_phases(built, change), _VERIFIED)


@technique(
    "multi-token-heads",
    title="extra heads guess the tokens after the next",
    mechanism=("speculative_decoding", "parallel_decoding"),
    papers=("llm-knows-future-mtp", "parallel-prompt-decoding"),
    quality="same tokens as the model's own decoding where guesses are verified exactly",
    grade="exact",
    cannot=every(transformer, generates),
    parameters=(
        _GUESSES,
        Parameter("nodes", 0.0, "tokens that a step verifies: a tree of the heads' best guesses (0: as many as guesses)", 0.0,
                  1024.0, whole=True),
        replace(ACCEPTANCE, default=0.6),
        Parameter("own_output", True, "each head has an output matrix of its own, besides its hidden layer"),
    ),
    occupies=("decode step",),
    training_free=False,
)  # fmt: skip
def multi_token_heads(given: Scenario, values: Values) -> Scenario:
    """k heads (a hidden layer and an output matrix each) guess k tokens from the last hidden state, verified by the next step.

    A step processes 1 + nodes tokens per sequence and yields E(α, k): no draft passes, but k heads' weights are read each
    step and lie in memory. With an output matrix of its own (Medusa) a head of a 128 k vocabulary weighs as much as layers.

    >>> import ridgepoint as rp
    >>> def tpot(batch: int, *apply: str) -> float:
    ...     task = rp.Decode(batch=batch, context=64)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).tpot_s
    >>> gains = [tpot(b) / tpot(b, "multi-token-heads:acceptance=0.7") for b in (1, 1024)]
    >>> gains[0] > 1.5 > 1.0 > gains[1]
    True
    """
    nodes = values["nodes"] + (values["nodes"] == 0.0) * values["guesses"]
    return edited(with_plan(given, speculated=nodes), "multi-token-heads", _heads, values)


def _heads(built: Built, given: Scenario, values: Values) -> Built:
    model, count = given.model, values["guesses"]
    assert isinstance(model, Model)
    rows, tp = _sequences(given, built), built.layout.tp
    layer = Gemm(m=rows, n=model.hidden / tp, k=float(model.hidden), label="heads.hidden")
    output = Gemm(m=rows, n=model.embedding.vocab / tp, k=float(model.hidden), label="heads.logits")
    pick = Stream(
        read_bytes=4.0 * rows * model.embedding.vocab / tp, write_bytes=64.0 * rows, flop=rows * model.embedding.vocab / tp,
        pattern="sample", rows=rows, label="heads.top_k",
    )  # fmt: skip
    weights = model.hidden**2.0 + (model.embedding.vocab * model.hidden if values["own_output"] else 0.0)
    changed = _with_steps(built, accepted_tokens(values["acceptance"], count), Repeat(count, Seq(layer, output, pick)))
    return with_entries(changed, head_weights=count * weights * FORMATS["bf16"].bytes / tp)


@technique(
    "mask-token-drafting",
    title="mask tokens behind the text are filled in with guesses, by adapters and a small sampler",
    mechanism=("speculative_decoding", "parallel_decoding", "peft"),
    papers=("llm-knows-future-mtp",),
    quality="gated adapters leave the model's own next-token output unchanged",
    grade="exact",
    cannot=every(transformer, generates),
    parameters=(
        replace(_GUESSES, default=4.0),
        replace(ACCEPTANCE, default=0.6),
        Parameter(
            "quadratic", True, "masks behind every guess, so that a partly accepted step has its next guesses ready"
        ),
        Parameter("rank", 128.0, "rank of the gated adapters (0: none)", 0.0, 65536.0, whole=True),
    ),
    occupies=("decode step",),
    training_free=False,
)
def mask_token_drafting(given: Scenario, values: Values) -> Scenario:
    """k mask tokens yield k guesses per pass; verifying and guessing share it: (k + 1)² rows quadratic, 2k + 1 linear.

    Quadratic: the token, k guesses to verify and k masks behind each of these k + 1 positions. Linear: masks only behind the
    last, so that guesses are lost whenever one is rejected: a step then yields E only if the step before was accepted
    whole, with probability α^k, else 1. Adapters of all linear layers and a two-layer sampler are read in every step.

    >>> import ridgepoint as rp
    >>> def tpot(batch: int, *apply: str) -> float:
    ...     task = rp.Decode(batch=batch, context=256)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).tpot_s
    >>> wide, narrow = (tpot(1, f"mask-token-drafting:acceptance=0.8,quadratic={q}") for q in ("true", "false"))
    >>> wide < narrow < tpot(1), tpot(64, "mask-token-drafting:guesses=8") > tpot(64)
    (True, True)
    """
    k = values["guesses"]
    width = (k + 1.0) ** 2.0 - 1.0 if values["quadratic"] else 2.0 * k
    return edited(with_plan(given, speculated=width), "mask-token-drafting", _masks, values)


def linear_yield(acceptance: Num, guesses: Num) -> Num:
    """Tokens per step when guesses are made only behind the last token: E with probability α^k, else 1.

    >>> linear_yield(1.0, 3.0), linear_yield(0.0, 3.0)
    (4.0, 1.0)
    """
    whole = acceptance**guesses
    return whole * accepted_tokens(acceptance, guesses) + (1.0 - whole)


def _masks(built: Built, given: Scenario, values: Values) -> Built:
    model, k, rank = given.model, values["guesses"], values["rank"]
    assert isinstance(model, Model)
    rows, linear = _sequences(given, built), is_linear(given)
    h = float(model.hidden)
    sampler = (
        Gemm(m=rows * k, n=h, k=2.0 * h, label="sampler.hidden1"),
        Gemm(m=rows * k, n=h, k=h, label="sampler.hidden2"),
        Gemm(m=rows * k, n=model.embedding.vocab / built.layout.tp, k=h, label="sampler.logits"),
    )

    def adapted(op: Op) -> Work:
        if not linear(op) or not isinstance(op, Gemm) or (isinstance(rank, float) and rank == 0.0):
            return op
        down = replace(op, n=rank, weights=op.acts, label=f"{op.label}.adapter_in")
        return Seq(op, down, replace(op, k=rank, weights=op.acts, label=f"{op.label}.adapter_out"))

    yields = accepted_tokens if values["quadratic"] else linear_yield
    changed = _with_steps(built, yields(values["acceptance"], k), Seq(*sampler), adapted)
    return with_entries(changed, sampler_weights=3.0 * h * h * FORMATS["bf16"].bytes)


@technique(
    "parallel-prompt-decoding",
    title="trained prompt tokens guess ahead, verified in a tree sized for the hardware",
    mechanism=("parallel_decoding", "speculative_decoding", "peft"),
    papers=("parallel-prompt-decoding",),
    quality="same tokens as the model's own decoding where guesses are verified exactly",
    grade="exact",
    cannot=every(transformer, generates),
    parameters=(
        _GUESSES,
        Parameter("nodes", 24.0, "tokens that a step processes besides its own: guesses of the tree and prompt tokens", 0.0,
                  1024.0, whole=True),
        replace(ACCEPTANCE, default=0.6),
    ),
    occupies=("decode step",),
    training_free=False,
)  # fmt: skip
def parallel_prompt_decoding(given: Scenario, values: Values) -> Scenario:
    """Embeddings of a few prompt tokens, all that is trained, guess k tokens; a step over 1 + nodes rows yields E(α, k).

    Memory and weights stay as they are; rows are free until arithmetic or the cache's reads bind, which is where the best
    size of the tree lies on each machine.

    >>> import ridgepoint as rp
    >>> def tpot(machine: str, nodes: int) -> float:
    ...     apply = [f"parallel-prompt-decoding:nodes={nodes}"]
    ...     return rp.estimate("llama-2-7b", on=machine, task="decode", apply=apply).tpot_s
    >>> tpot("a100-sxm-40gb", 128) / tpot("a100-sxm-40gb", 8) < tpot("m2-ultra", 128) / tpot("m2-ultra", 8)
    True
    """
    return edited(with_plan(given, speculated=values["nodes"]), "parallel-prompt-decoding", _prompted, values)


def _prompted(built: Built, given: Scenario, values: Values) -> Built:
    return _with_steps(built, accepted_tokens(values["acceptance"], values["guesses"]), Seq())


@technique(
    "look-ahead-tokens",
    title="look-ahead embeddings draft in one pass, a second pass verifies",
    mechanism=("parallel_decoding", "speculative_decoding"),
    papers=("pass-speculative",),
    quality="same distribution as the model's own sampling",
    grade="exact",
    cannot=every(transformer, generates),
    parameters=(replace(_GUESSES, default=4.0), replace(ACCEPTANCE, default=0.6)),
    occupies=("decode step",),
    training_free=False,
)
def look_ahead_tokens(given: Scenario, values: Values) -> Scenario:
    """One pass over the token and L look-ahead tokens drafts, one pass over L + 1 tokens verifies: two passes per round.

    The drafting pass yields the next token for certain and L guesses; the verifying pass yields what it accepts and one
    more: 1 + E(α, L) tokens for two passes. Only the look-ahead embeddings are added.

    >>> import ridgepoint as rp
    >>> def tpot(*apply: str) -> float:
    ...     return rp.estimate("llama-2-13b", on="a100-sxm-80gb", task="decode", apply=apply).tpot_s
    >>> 1.1 < tpot() / tpot("look-ahead-tokens:acceptance=0.5") < 1.6
    True
    """
    return edited(with_plan(given, speculated=values["guesses"]), "look-ahead-tokens", _ahead, values)


def _ahead(built: Built, given: Scenario, values: Values) -> Built:
    tokens = 1.0 + accepted_tokens(values["acceptance"], values["guesses"])
    start = plain_step(given, "look-ahead-tokens")
    wide = replace(start, plan=replace(start.plan, speculated=values["guesses"])).build()
    return assumed(rounds(built, steps_of(wide), 1.0, tokens), _VERIFIED)
