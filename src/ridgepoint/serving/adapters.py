"""Many low-rank adapters of one model served together (S-LoRA, Sheng et al. 2023; Punica, Chen et al. 2023).

A replica keeps ``slots`` adapters on the device; others wait in host memory and are copied over the host's link when a
request that names them is admitted, in place of the one not used for longest. Requests whose adapter finds no slot wait, and
others behind them go first. Every step adds two thin products beside each dense projection, in groups of one adapter each.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.numeric import Array
from ridgepoint.serving.sequences import Active
from ridgepoint.serving.tables import Grid, StepTables

Entry = tuple[int, int, Active]
"""A waiting request as queues hold it: those of higher priority first, then in order."""
NONE = -1
"""The adapter of a request that names none."""
GROWTH = 1.05
"""Ratio of neighbouring token counts of the table."""


@dataclass(frozen=True)
class Adapters:
    """``count`` adapters of ``rank``; the k-th most popular is named in proportion to k^−``skew`` (Zipf). A replica holds
    ``slots`` at a time. The part ``share`` of the requests names one. A trace's column ``adapter`` comes before what is drawn.
    """

    count: int
    rank: int = 16
    slots: int = 8
    skew: float = 1.0
    share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("count", "rank", "slots"):
            if getattr(self, name) < 1:
                raise RidgepointError("bad_adapters", f"{name} of adapters is {getattr(self, name)}", "use at least 1")
        if not (self.skew >= 0.0 and np.isfinite(self.skew)) or not 0.0 <= self.share <= 1.0:
            raise RidgepointError(
                "bad_adapters",
                f"a skew of {self.skew:g} with a share of {self.share:g}",
                "use a skew of at least 0 and a share from 0 to 1",
            )

    def drawn(self, requests: int, seed: int) -> NDArray[np.int64]:
        """The adapter of each request.

        >>> Adapters(2, share=0.0).drawn(3, 0)
        array([-1, -1, -1])
        """
        random = np.random.default_rng([seed, 11])
        weights = np.arange(1.0, self.count + 1.0) ** -self.skew
        named = random.choice(self.count, requests, p=weights / weights.sum())
        return np.where(random.random(requests) < self.share, named, NONE).astype(np.int64)


class AdapterTable:
    """Seconds that adapters add to a step over (tokens of a lane that pass one, different adapters up to the slots)."""

    def __init__(self, tables: StepTables, rank: int, slots: int) -> None:
        self.tokens = _grown(tables.limits.tokens)
        kinds = np.arange(1.0, slots + 1.0)
        work = tables.passes.adapting(self.tokens[:, None], kinds[None, :], rank)
        self.grid: Grid = tables.grid(work, (self.tokens.size, kinds.size))
        self._tokens: list[float] = self.tokens.tolist()
        self._columns: list[list[float]] = self.grid.time_s.T.tolist()

    def seconds(self, tokens: float, adapters: int) -> float:
        """Seconds of ``tokens`` tokens of which each has one of ``adapters`` adapters."""
        grid, column = self._tokens, self._columns[min(adapters, len(self._columns)) - 1]
        cell = min(max(bisect_right(grid, tokens) - 1, 0), len(grid) - 2)
        part = (max(tokens, 1.0) - grid[cell]) / (grid[cell + 1] - grid[cell])
        return column[cell] + part * (column[cell + 1] - column[cell])


def _grown(largest: int) -> Array:
    """Whole numbers from 1 to ``largest``, ever farther apart."""
    count = int(np.ceil(np.log(max(largest, 2)) / np.log(GROWTH))) + 1
    return np.unique(np.rint(np.geomspace(1.0, max(largest, 2), count)))


class Slots:
    """The adapters on one replica: which are there, which running requests use them. ``load_s``: seconds to copy one."""

    __slots__ = ("_all", "_free", "_loaded", "_parked", "_users", "load_s", "loaded", "loading_s", "parked", "running")

    def __init__(self, slots: int, load_s: float) -> None:
        self._all = self._free = slots
        self.load_s = load_s
        self._users: dict[int, int] = {}
        self._loaded: dict[int, None] = {}  # of no running request, in order of last use
        self._parked: dict[int, list[Entry]] = {}
        self.parked = 0
        """Requests that wait for a slot."""
        self.running = 0
        """Running requests that use an adapter."""
        self.loaded = 0
        """Adapters that were copied."""
        self.loading_s = 0.0
        """Seconds of copies that the next step waits for."""

    @property
    def different(self) -> int:
        """Adapters that running requests use."""
        return len(self._users)

    def has_room(self, one: Active) -> bool:
        """Whether the adapter of ``one`` is there or could come."""
        name = one.adapter
        return name == NONE or name in self._users or name in self._loaded or self._free > 0 or bool(self._loaded)

    def enter(self, one: Active) -> None:
        """``one`` runs: its adapter is copied unless it is there.

        >>> some, one = Slots(1, 0.5), Active(0, 1, 1, [])
        >>> one.adapter = 7
        >>> some.enter(one)
        >>> some.loading_s, some.different
        (0.5, 1)
        """
        name = one.adapter
        if name == NONE:
            return
        self.running += 1
        if name in self._users:
            self._users[name] += 1
            return
        self._users[name] = 1
        if name in self._loaded:
            del self._loaded[name]
            return
        if self._free:
            self._free -= 1
        else:
            del self._loaded[next(iter(self._loaded))]
        self.loaded += 1
        self.loading_s += self.load_s

    def leave(self, one: Active) -> None:
        """``one`` no longer runs; its adapter stays until its slot is needed."""
        name = one.adapter
        if name == NONE:
            return
        self.running -= 1
        left = self._users[name] - 1
        if left:
            self._users[name] = left
        else:
            del self._users[name]
            self._loaded[name] = None

    def park(self, entry: Entry) -> None:
        """A request waits for a slot."""
        self._parked.setdefault(entry[2].adapter, []).append(entry)
        self.parked += 1

    def called(self) -> list[Entry]:
        """Requests that wait no longer: their adapter is there, or a slot for it; who waited longest comes first."""
        if not self.parked:
            return []
        names = [name for name in self._parked if name in self._users or name in self._loaded]
        room = self._free + len(self._loaded)
        if room:
            others = sorted((min(entries), name) for name, entries in self._parked.items() if name not in names)
            names += [name for _, name in others[:room]]
        found = [entry for name in names for entry in self._parked.pop(name)]
        self.parked -= len(found)
        return found

    def forget(self, one: Active) -> bool:
        """``one`` waits for a slot no longer; whether it did."""
        entries = self._parked.get(one.adapter, [])
        kept = [entry for entry in entries if entry[2] is not one]
        if len(kept) == len(entries):
            return False
        self._parked[one.adapter] = kept
        if not kept:
            del self._parked[one.adapter]
        self.parked -= 1
        return True

    def clear(self) -> list[Active]:
        """Everything is lost; returns the requests that waited for a slot."""
        waited = [entry[2] for entries in self._parked.values() for entry in entries]
        self._parked.clear()
        self.parked = 0
        self._free, self.running, self.loading_s = self._all, 0, 0.0
        self._users.clear()
        self._loaded.clear()
        return waited
