"""The memory ledger: what lies in one device's memory, against what it holds (design §3). Not a cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ridgepoint.numeric import Num


@dataclass(frozen=True)
class Ledger:
    """Bytes by purpose on the fullest device. ``usable_bytes`` is the part of the capacity that the engine may use.

    ``away`` holds what a device keeps elsewhere (``host/optimizer``), ``rooms`` one device's share of each such tier, where it
    is known.
    """

    entries: Mapping[str, Num]
    capacity_bytes: float
    usable_bytes: float
    away: Mapping[str, Num] = field(default_factory=dict)
    rooms: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_bytes(self) -> Num:
        """All entries."""
        return sum(self.entries.values(), 0.0)

    def kept_in(self, tier: str) -> Num:
        """All that lies in a tier."""
        return sum((size for name, size in self.away.items() if name.startswith(f"{tier}/")), 0.0)

    @property
    def fits(self) -> bool | np.ndarray:
        """Whether the entries fit into what the engine may use, and what lies elsewhere into its tier."""
        found = np.asarray(self.total_bytes) <= self.usable_bytes
        for tier, room in self.rooms.items():
            found = found & (np.asarray(self.kept_in(tier)) <= room)
        return bool(found) if found.ndim == 0 else found

    def __getitem__(self, entry: str) -> Num:
        return self.entries[entry]
