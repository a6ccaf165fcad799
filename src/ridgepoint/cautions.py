"""What a reader must know before using an estimate: it does not fit, a resource is guessed, part of the work is unknown."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgepoint.cost.ledger import Ledger
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Num
from ridgepoint.scenario import Scenario
from ridgepoint.tasks import Train
from ridgepoint.tasks.layout import Layout

WIDE_SPREAD = 0.25
"""Standard deviation of log(measured / predicted) from which an interval is called wide."""


def cautions(
    given: Scenario, ledger: Ledger, layout: Layout, largest_batch: Num | None, shares: Mapping[str, Num]
) -> tuple[str, ...]:
    """One sentence per thing to know, most important first."""
    said: list[str] = []
    if not np.all(ledger.fits):
        said.append(_does_not_fit(given, ledger, layout, largest_batch))
    limit = given.model.max_context if isinstance(given.model, Model) else 0
    longest = _longest_context(given) if limit else 0.0
    if longest > limit:
        said.append(f"{longest:,.0f} tokens of context exceed the {limit:,} that {given.model.name} was made for")
    said += _guessed_tables(given, shares)
    return tuple(said)


def _does_not_fit(given: Scenario, ledger: Ledger, layout: Layout, largest_batch: Num | None) -> str:
    need, usable = float(np.max(ledger.total_bytes)), ledger.usable_bytes
    sentence = f"does not fit: needs {need / 1e9:.1f} GB of the {usable / 1e9:.1f} GB that may be used per device"
    if largest_batch is not None and np.any(np.asarray(largest_batch) >= 1):
        return f"{sentence}; the largest batch that fits is {np.max(largest_batch):g}"
    fixed = float(np.max(ledger["weights"]))
    if isinstance(given.task, Train):
        hint = "raise --zero, --tp or --pp, use --recompute full or a smaller --micro-batch"
        return f"{sentence}; {hint}"
    if fixed > usable:
        parts = int(np.ceil(fixed * float(np.max(layout.tp * layout.pp)) / usable))
        return f"{sentence}; the weights alone need tp × pp of at least {parts}, or narrower --weights"
    return f"{sentence}; not even one sequence fits: shorten the context, narrow --kv, or raise --tp"


def _longest_context(given: Scenario) -> float:
    sizes = given.task.sizes()
    length = sizes.get("context", sizes.get("prompt", sizes.get("seq", 0.0))) + sizes.get("output", 0.0)
    return float(np.max(length))


def _guessed_tables(given: Scenario, shares: Mapping[str, Num]) -> list[str]:
    """Kernel tables that are neither fitted to this device nor to its family, where they matter."""
    table = given.machine.coefficients.gemm
    if table.provenance.kind == "fitted" or table.spread < WIDE_SPREAD:
        return []
    return [
        f"no measurements of {given.machine.device.name} or its family stand behind the kernel coefficients: "
        "the interval is wide on purpose"
    ]
