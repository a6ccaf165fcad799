"""The columns of a sweep: what each holds, in which unit, and whether more of it is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.document import has_tokens
from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.estimates import Estimate

Column = NDArray[Any]
SHARE = "share."
"""What comes before a resource in the columns of shares."""


@dataclass(frozen=True)
class Meaning:
    """What a column says: words for people, unit, and 1 where more is better, −1 where less is."""

    words: str
    unit: str
    better: int = -1


MEANINGS: Mapping[str, Meaning] = {
    "time_s": Meaning("time", "s"),
    "bound_s": Meaning("physical limit", "s"),
    "low_s": Meaning("low end of the 90 % interval", "s"),
    "high_s": Meaning("high end of the 90 % interval", "s"),
    "headroom": Meaning("time over physical limit", "×"),
    "ttft_s": Meaning("time to first token", "s"),
    "tpot_s": Meaning("time per output token", "s"),
    "tokens_per_s": Meaning("throughput", "tokens/s", 1),
    "tokens_per_s_per_device": Meaning("throughput per device", "tokens/s", 1),
    "samples_per_s": Meaning("samples per second", "samples/s", 1),
    "bottleneck": Meaning("bottleneck", ""),
    "memory_gb": Meaning("memory per device", "GB"),
    "usable_gb": Meaning("usable memory per device", "GB", 1),
    "fits": Meaning("fits", "", 1),
    "devices": Meaning("devices", ""),
    "power_w": Meaning("power", "W"),
    "energy_j": Meaning("energy", "J"),
    "energy_j_per_token": Meaning("energy per token", "J"),
    "cost_usd": Meaning("cost", "$"),
    "usd_per_million_tokens": Meaning("cost per million tokens", "$"),
    "error": Meaning("why there is no answer", ""),
}
_TEXTS = ("bottleneck", "error")
ALIASES: Mapping[str, tuple[str, ...]] = {
    "latency": ("tpot_s", "time_s"),
    "time": ("time_s",),
    "throughput": ("tokens_per_s", "samples_per_s"),
    "cost": ("usd_per_million_tokens", "cost_usd"),
    "energy": ("energy_j_per_token", "energy_j"),
    "memory": ("memory_gb",),
    "per-device": ("tokens_per_s_per_device",),
}
"""Words for columns: the first that the sweep has."""


def empty(shape: tuple[int, ...]) -> dict[str, Column]:
    """All columns without answers."""

    def column(name: str) -> Column:
        if name in _TEXTS:
            return np.full(shape, "", dtype=object)
        return np.zeros(shape, dtype=bool) if name == "fits" else np.full(shape, np.nan)

    return {name: column(name) for name in MEANINGS}


def columns_of(est: Estimate) -> dict[str, Any]:
    """The columns of an estimate, each a number or an array over its sweep; None where a column does not apply."""
    ledger, (low, high) = est.memory, est.interval_s
    tokens = est.tokens_per_s if has_tokens(est) else None
    produced = None if tokens is None else tokens * est.time_s
    return {
        "time_s": est.time_s,
        "bound_s": est.bound_s,
        "low_s": low,
        "high_s": high,
        "headroom": est.headroom,
        "ttft_s": est.ttft_s,
        "tpot_s": est.tpot_s,
        "tokens_per_s": tokens,
        "tokens_per_s_per_device": None if tokens is None else tokens / est.devices,
        "samples_per_s": est.samples_per_s,
        "bottleneck": est.bottleneck,
        "memory_gb": ledger.total_bytes / 1e9,
        "usable_gb": ledger.usable_bytes / 1e9,
        "fits": ledger.fits,
        "devices": est.devices,
        "power_w": est.power_w,
        "energy_j": est.energy_j,
        "energy_j_per_token": None if est.energy_j is None or produced is None else est.energy_j / produced,
        "cost_usd": est.cost_usd,
        "usd_per_million_tokens": None if est.cost_usd is None or produced is None else 1e6 * est.cost_usd / produced,
        **{SHARE + resource: share for resource, share in est.shares.items()},
    }


def find_column(name: str, has: Mapping[str, Column]) -> str:
    """The column that a name or a word such as ``latency`` means.

    Errors: ``bad_column`` with the nearest name.
    """
    word = name.strip()
    found = next((c for c in ALIASES.get(word, (word,)) if c in has), None)
    if found is None or has[found].dtype == object:
        known = [n for n, c in has.items() if c.dtype != object] + [a for a, cs in ALIASES.items() if {*cs} & {*has}]
        close = nearest(word, known, count=1)
        hint = f"did you mean {close[0]}?" if close else "use one of " + ", ".join(known)
        raise RidgepointError("bad_column", f"the sweep has no figure called '{word}'", hint)
    return found


def better(column: str) -> int:
    """1 where more is better, −1 where less is."""
    return MEANINGS[column].better if column in MEANINGS else -1
