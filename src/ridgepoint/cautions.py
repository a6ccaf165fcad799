"""What a reader must know before using an estimate: it does not fit, a resource is guessed, part of the work is unknown."""

from __future__ import annotations

import numpy as np

from ridgepoint.cost.ledger import Ledger
from ridgepoint.machines.coefficients import table_origin
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Num
from ridgepoint.scenario import Scenario
from ridgepoint.tasks import Train
from ridgepoint.tasks.layout import Layout

def cautions(
    given: Scenario, ledger: Ledger, layout: Layout, largest_batch: Num | None
) -> tuple[str, ...]:
    """One sentence per thing to know, most important first."""
    said: list[str] = []
    if not np.all(ledger.fits):
        said.append(_does_not_fit(given, ledger, layout, largest_batch))
    limit = given.model.max_context if isinstance(given.model, Model) else 0
    longest = _longest_context(given) if limit else 0.0
    if longest > limit:
        said.append(f"{longest:,.0f} tokens of context exceed the {limit:,} that {given.model.name} was made for")
    said += _guessed_tables(given)
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


def _guessed_tables(given: Scenario) -> list[str]:
    """Whether the kernel tables come from other architectures' measurements."""
    device = given.machine.device
    if table_origin(device, "gemm") != "generic":
        return []
    return [
        f"nobody measured {device.name} or its architecture ({device.family}): kernel coefficients are those of other "
        "machines, and the interval is wide on purpose"
    ]
