"""Speculative decoding: cheap drafts, verified together by one step of the model.

With acceptance α per draft token (independent), a step over γ drafts yields E = (1 − α^(γ+1)) / (1 − α) tokens (Leviathan,
Kalman, Matias 2023, eq. 1), and costs one pass over γ + 1 tokens plus γ passes of the draft model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Num, plain
from ridgepoint.scenario import Scenario, Values, find
from ridgepoint.tasks.build import Built, Phase, times
from ridgepoint.techniques.conditions import every, generates, transformer
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, prefixed, with_entries, with_phases, with_plan
from ridgepoint.techniques.technique import Parameter

ACCEPTANCE = Parameter("acceptance", 0.7, "probability that a draft token is accepted", 0.0, 1.0)
DRAFTS = Parameter("drafts", 4.0, "draft tokens per step", 0.0, 64.0, whole=True)


def accepted_tokens(acceptance: Num, drafts: Num) -> Num:
    """Tokens that one verified step yields: (1 − α^(γ+1)) / (1 − α), γ + 1 for α = 1.

    Leviathan, Kalman, Matias 2023, eq. 1; it takes acceptances as independent.

    >>> accepted_tokens(0.0, 4.0), accepted_tokens(1.0, 4.0), round(accepted_tokens(0.8, 5.0), 3)
    (1.0, 5.0, 3.689)
    """
    a = np.asarray(acceptance, dtype=float)
    safe = np.where(a < 1.0, a, 0.5)
    return plain(np.where(a < 1.0, (1.0 - safe ** (np.asarray(drafts) + 1.0)) / (1.0 - safe), np.asarray(drafts) + 1.0))


def yielding(phase: Phase, tokens: Num) -> Phase:
    """``phase`` when each of its steps yields ``tokens`` tokens of a sequence: it happens that much less often."""
    return replace(phase, count=phase.count / tokens)


def is_drafter(given: Scenario, values: Values) -> str:
    """The parameter ``draft`` names a model that generates tokens."""
    name = values["draft"]
    try:
        found = find(name)
    except RidgepointError as error:
        return error.message
    return "" if isinstance(found, Model) and found.decoder is not None else f"{name} generates no tokens"


@technique(
    "speculative-decoding",
    title="drafts of a small model, verified by the large one",
    mechanism=("speculative_decoding", "parallel_decoding"),
    papers=("lantern", "triforce", "quantspec"),
    quality="same distribution as the model's own sampling",
    grade="exact",
    cannot=every(transformer, generates, is_drafter),
    parameters=(
        Parameter("draft", "llama-3.2-1b", "draft model, by its name in the catalogue"),
        DRAFTS,
        ACCEPTANCE,
    ),
    occupies=("decode step",),
)
def speculative_decoding(given: Scenario, values: Values) -> Scenario:
    """A draft model proposes γ tokens, one pass of the model over γ + 1 tokens verifies them: E(α, γ) tokens a step.

    The step costs γ steps of the draft (same batch, context and formats, on the same devices) and one of the model, and
    yields (1 − α^(γ+1)) / (1 − α) tokens. The draft's weights and cache are kept too. Gains where reading weights binds;
    at batches where arithmetic binds, verifying γ + 1 tokens costs γ + 1 times as much.

    >>> import ridgepoint as rp
    >>> def tpot(*apply: str, batch: float = 1.0) -> float:
    ...     task = rp.Decode(batch=batch, context=1024)
    ...     return rp.estimate("llama-3.1-70b", on="4xh100-sxm", task=task, apply=apply).tpot_s
    >>> tpot("speculative-decoding:acceptance=0.8") < tpot() < tpot("speculative-decoding:acceptance=0")
    True
    """
    return edited(with_plan(given, speculated=values["drafts"]), "speculative-decoding", _with_draft, values)


def _with_draft(built: Built, given: Scenario, values: Values) -> Built:
    drafts = values["drafts"]
    plan = replace(given.plan, speculated=0.0, ep=None)
    small = replace(given, model=find(values["draft"]), plan=plan, edits=()).build()
    tokens = accepted_tokens(values["acceptance"], drafts)
    ahead = {phase.name: phase for phase in small.phases}

    def change(phase: Phase) -> tuple[Phase, ...]:
        if phase.name not in ahead:  # of another technique, such as a cascade's small model
            return (phase,)
        draft = ahead[phase.name]
        draft = replace(draft, work=prefixed(draft.work, "draft."))
        if phase.role == "first":
            return phase, replace(draft, name="draft.prefill")
        proposing = replace(draft, name="draft", work=times(drafts, draft.work))
        return yielding(proposing, tokens), yielding(phase, tokens)

    changed = with_entries(
        with_phases(built, change), draft_weights=small.ledger["weights"], draft_kv=small.ledger["kv"]
    )
    said = f"each step yields {np.mean(tokens):.2f} tokens in the mean, acceptances taken as independent"
    return assumed(changed, said)
