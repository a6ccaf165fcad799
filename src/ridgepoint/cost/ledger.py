"""The memory ledger: what lies in one device's memory, against what it holds (design §3). Not a cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ridgepoint.numeric import Num


@dataclass(frozen=True)
class Ledger:
    """Bytes by purpose on the fullest device. ``usable_bytes`` is the part of the capacity that the engine may use."""

    entries: Mapping[str, Num]
    capacity_bytes: float
    usable_bytes: float

    @property
    def total_bytes(self) -> Num:
        """All entries."""
        return sum(self.entries.values(), 0.0)

    @property
    def fits(self) -> bool | np.ndarray:
        """Whether the entries fit into what the engine may use."""
        found = np.asarray(self.total_bytes) <= self.usable_bytes
        return bool(found) if found.ndim == 0 else found

    def __getitem__(self, entry: str) -> Num:
        return self.entries[entry]
