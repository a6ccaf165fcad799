"""What a scheduler of a serving engine may decide, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.numeric import Num
from ridgepoint.serving.engines import Engine

MIXED, PREFILL_FIRST, STATIC = "mixed", "prefill_first", "static"
POLICIES = (MIXED, PREFILL_FIRST, STATIC)
GROW, RATIO, FULL = "grow", "ratio", "full"


@dataclass(frozen=True)
class Scheduling:
    """How an engine fills its steps.

    ``policy``: ``mixed`` (vLLM V1: one token budget per step, decode tokens first, prompts in pieces beside them),
    ``prefill_first`` (SGLang: waiting prompts get steps of their own, decoding pauses meanwhile) or ``static`` (a batch runs
    to its end before the next begins; short prompts and outputs are padded to the longest).
    ``admits``: ``grow`` (a prompt must fit; caches grow, and the request admitted last is put back and computed again when
    room ends), ``ratio`` (SGLang: also a part of what the outputs may still take, learnt from retractions) or ``full``
    (TensorRT-LLM's guaranteed completion: the whole output must fit).
    ``chunked``: whether prompts are cut to what is left of the budget; else whole ones enter a step as long as they fit, and
    the first one always. ``max_waiting``: requests that wait on a replica before further ones are refused.
    ``shed_after_s``: a request that has waited that long and was never begun is dropped: nobody waits for its answer any
    more.
    """

    policy: str = MIXED
    admits: str = GROW
    token_budget: int = 8192
    max_sequences: int = 1024
    prefix_cache: bool = True
    max_waiting: int | None = None
    static_batch: int = 32
    static_wait_s: float = 0.1
    shed_after_s: float | None = None
    chunked: bool = True

    def __post_init__(self) -> None:
        for name, value, known in (("policy", self.policy, POLICIES), ("admits", self.admits, (GROW, RATIO, FULL))):
            if value not in known:
                raise RidgepointError("bad_scheduling", f"{name} is '{value}'", "use one of " + ", ".join(known))
        for name in ("token_budget", "max_sequences", "static_batch"):
            if getattr(self, name) < 1:
                raise RidgepointError("bad_scheduling", f"{name} is {getattr(self, name)}", "use at least 1")
        if self.shed_after_s is not None and not self.shed_after_s > 0.0:
            raise RidgepointError(
                "bad_scheduling", f"requests are dropped after {self.shed_after_s:g} s", "give a positive time, like 2s"
            )
        if self.policy == MIXED and self.max_sequences > self.token_budget:
            raise RidgepointError(
                "bad_scheduling",
                f"{self.max_sequences} sequences that decode do not fit a token budget of {self.token_budget}",
                "raise the budget or lower --max-sequences",
            )

    def step_tokens(self, prompt: Num) -> Num:
        """Tokens of one step that may be those of a prompt of that length.

        >>> float(Scheduling().step_tokens(20000.0)), float(Scheduling(chunked=False).step_tokens(20000.0))
        (8192.0, 20000.0)
        """
        return float(self.token_budget) if self.chunked else np.maximum(self.token_budget, prompt)


DEFAULT_SEQUENCES = 1024
"""vLLM's default of sequences at once on devices with at least 70 GB; others have ``SMALL_SEQUENCES``."""
SMALL_SEQUENCES = 256
LARGE_DEVICE = 70e9


def scheduling_of(engine: Engine, memory_bytes: float) -> Scheduling:
    """The defaults of an engine of the catalogue on a device with that much memory."""
    usual = DEFAULT_SEQUENCES if memory_bytes >= LARGE_DEVICE else SMALL_SEQUENCES
    if engine.reserves:
        admits = FULL
    else:
        admits = GROW if engine.mixed else RATIO
    return Scheduling(
        policy=MIXED if engine.mixed else PREFILL_FIRST,
        admits=admits,
        token_budget=int(engine.token_budget),
        max_sequences=int(min(engine.max_sequences, usual)),
    )


@dataclass(frozen=True)
class Speculation:
    """``drafted`` tokens are proposed and verified in one pass. ``accepted[j]`` is the probability that exactly j of them
    are kept, j = 0 … drafted; every pass makes one token more than it keeps. ``draft``: the model that proposes (none:
    proposals cost nothing, as n-grams).

    >>> Speculation.geometric(2, 0.5).accepted
    (0.5, 0.25, 0.25)
    """

    drafted: int
    accepted: tuple[float, ...]
    draft: str | None = None

    def __post_init__(self) -> None:
        good = len(self.accepted) == self.drafted + 1 and all(p >= 0.0 for p in self.accepted)
        if self.drafted < 1 or not good or abs(sum(self.accepted) - 1.0) > 1e-9:
            raise RidgepointError(
                "bad_speculation",
                f"{len(self.accepted)} probabilities that sum to {sum(self.accepted):g} for {self.drafted} drafted tokens",
                "give one for 0, 1, … drafted tokens accepted; they sum to 1",
            )

    @staticmethod
    def geometric(drafted: int, rate: float, draft: str | None = None) -> Speculation:
        """Every drafted token is accepted with probability ``rate``, and only when those before it were (Leviathan et al.
        2023): P(j) = rate^j · (1 − rate), the rest for all.
        """
        return Speculation.by_position(drafted, [rate], draft)

    @staticmethod
    def by_position(drafted: int, rates: Sequence[float], draft: str | None = None) -> Speculation:
        """The j-th drafted token is accepted with probability ``rates[j]`` when those before it were; the last one holds for
        all further positions.

        >>> Speculation.by_position(2, [0.8, 0.5]).tokens_per_step
        2.2
        """
        wrong = [rate for rate in rates if not 0.0 <= rate <= 1.0]
        if wrong or not rates or len(rates) > drafted:
            said = f"an acceptance of {wrong[0]:g}" if wrong else f"{len(rates)} acceptances"
            raise RidgepointError(
                "bad_speculation",
                f"{said} for {drafted} drafted tokens",
                "give at most one each, probabilities from 0 to 1",
            )
        reached, kept = 1.0, []
        for rate in [*rates, *([rates[-1]] * (drafted - len(rates)))]:
            kept.append(reached * (1.0 - rate))
            reached *= rate
        return Speculation(drafted, (*kept, reached), draft)

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens that a pass makes."""
        return 1.0 + sum(j * p for j, p in enumerate(self.accepted))
