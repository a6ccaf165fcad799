"""The batch beyond which more data parallelism is wasted (McCandlish et al. 2018, Kaplan et al. 2020).

At loss L the gradient's noise makes a batch of B_crit(L) = B* / L^(1/α) tokens worth about half of its tokens; training then
takes S = S_min · (1 + B_crit/B) steps and E = E_min · (1 + B/B_crit) tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from ridgepoint.laws.scaling import batch_trade, loss

SCALE_TOKENS, EXPONENT = 2e8, 1.0 / 0.21
"""B* and 1/α of language models (Kaplan et al. 2020, eq. 1.4)."""
TOKENS_PER_PARAMETER = 20.0
"""A compute-optimal run (Hoffmann et al. 2022), where the number of tokens is not said."""


def critical_batch_tokens(reached: float) -> float:
    """B_crit in tokens at a loss.

    >>> round(critical_batch_tokens(2.0) / 1e6, 1)
    7.4
    """
    return float(SCALE_TOKENS / reached**EXPONENT)


@dataclass(frozen=True)
class CriticalBatch:
    """The critical batch of a run, and what its batch costs beside it."""

    loss: float
    tokens: float
    batch_tokens: float

    @property
    def more_tokens(self) -> float:
        """Tokens over those of a small batch, to the same loss: 1 + B/B_crit."""
        return float(batch_trade(self.batch_tokens, self.tokens)["examples_over_least"])

    @property
    def more_steps(self) -> float:
        """Steps over those of a large batch: 1 + B_crit/B."""
        return float(batch_trade(self.batch_tokens, self.tokens)["steps_over_least"])

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {
            "loss": self.loss,
            "critical_batch_tokens": self.tokens,
            "batch_tokens": self.batch_tokens,
            "more_tokens": self.more_tokens,
            "more_steps": self.more_steps,
        }


def critical_batch(parameters: float, batch_tokens: float, tokens: float | None = None) -> CriticalBatch:
    """The critical batch at the end of a run of ``tokens`` (20 per parameter where not said)."""
    reached = float(loss(parameters, tokens or TOKENS_PER_PARAMETER * parameters))
    return CriticalBatch(reached, critical_batch_tokens(reached), batch_tokens)
