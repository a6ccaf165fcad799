"""Prefixes that leave the device but not the replica: blocks evicted from its memory go to host memory, from there to disks.

As vLLM's offloading connector, LMCache and SGLang's HiCache do it: a prefix that is found below is fetched over the link
while the replica goes on with others, and read as if it had been on the device all along; what it was fetched from keeps it.
The least recently used block of a tier falls to the next, and out of the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridgepoint.errors import RidgepointError
from ridgepoint.ops import Transfer
from ridgepoint.serving.capacity import Cache

if TYPE_CHECKING:
    from ridgepoint.serving.deployment import Deployment


@dataclass(frozen=True)
class CacheTiers:
    """Bytes that one replica may fill with keys and values: of host memory, and of the node's storage."""

    host_bytes: float = 0.0
    storage_bytes: float = 0.0

    def __post_init__(self) -> None:
        if not (self.host_bytes >= 0.0 and self.storage_bytes >= 0.0):
            raise RidgepointError("bad_tiers", "a tier of the cache has a negative size", "give bytes, like 200GB")

    def __bool__(self) -> bool:
        return self.host_bytes > 0.0 or self.storage_bytes > 0.0


@dataclass(frozen=True)
class Way:
    """One tier as a replica sees it: named blocks that fit, seconds to fetch one token, and seconds before the first."""

    name: str
    blocks: int
    token_s: float
    start_s: float


class Below:
    """The tiers under one replica's memory; ``id_tokens`` are the tokens of a named block."""

    __slots__ = ("_free_s", "_id_tokens", "_kept", "_ways", "fetched")

    def __init__(self, ways: tuple[Way, ...], id_tokens: int) -> None:
        self._ways, self._id_tokens = ways, id_tokens
        self._kept: list[dict[int, None]] = [{} for _ in ways]  # in order of last use
        self._free_s = [0.0] * len(ways)
        self.fetched = dict.fromkeys((way.name for way in ways), 0)
        """Tokens that were fetched from each tier."""

    def spill(self, name: int) -> None:
        """A block leaves the device.

        >>> two = Below((Way("host", 1, 0.0, 0.0), Way("storage", 1, 0.0, 0.0)), 16)
        >>> for name in (1, 2):
        ...     two.spill(name)
        >>> two.leading([1, 2]), two.leading([3])
        (2, 0)
        """
        for kept, way in zip(self._kept, self._ways, strict=True):
            kept.pop(name, None)
            kept[name] = None
            if len(kept) <= way.blocks:
                return
            name = next(iter(kept))
            del kept[name]

    def leading(self, ids: list[int]) -> int:
        """How many leading ids some tier has."""
        count = 0
        for name in ids:
            if not any(name in kept for kept in self._kept):
                break
            count += 1
        return count

    def fetch(self, ids: list[int], now_s: float) -> float:
        """When the blocks of ``ids``, which are all here, are on the device. A tier sends one request's blocks at a time."""
        counts = [0] * len(self._ways)
        for name in ids:
            tier = next(i for i, kept in enumerate(self._kept) if name in kept)
            kept = self._kept[tier]
            del kept[name]
            kept[name] = None
            counts[tier] += self._id_tokens
        ready = now_s
        for i, (way, tokens) in enumerate(zip(self._ways, counts, strict=True)):
            if tokens:
                self._free_s[i] = max(self._free_s[i], now_s) + way.start_s + tokens * way.token_s
                self.fetched[way.name] += tokens
                ready = max(ready, self._free_s[i])
        return ready

    def clear(self) -> None:
        """Everything is lost."""
        for kept in self._kept:
            kept.clear()


def ways(given: Deployment, cache: Cache, id_tokens: int) -> tuple[Way, ...]:
    """The tiers below the memory of a replica's devices; every device moves its part.

    Errors: ``bad_tiers`` where the machine has no such tier, or not that much.
    """
    if not given.tiers or not id_tokens or not cache.token_bytes:
        return ()
    devices = given.devices_per_replica / given.passes.pooled
    found = []
    for name, size in (("host", given.tiers.host_bytes), ("storage", given.tiers.storage_bytes)):
        if size <= 0.0:
            continue
        _check(given, name, size)
        small, large = (given.seconds(Transfer(bytes=b, tier=name, label="kv.fetch")) for b in (1e6, 1e9))
        per_byte = (large - small) / (1e9 - 1e6)
        blocks = int(size / (cache.token_bytes * devices * id_tokens))
        found.append(Way(name, blocks, per_byte * cache.token_bytes, max(small - 1e6 * per_byte, 0.0)))
    return tuple(way for way in found if way.blocks)


def _check(given: Deployment, name: str, size: float) -> None:
    device = given.machine.device
    sheet: float | None
    if name == "host":
        if given.machine.link("host") is None:
            raise RidgepointError("bad_tiers", f"{device.name} has no host memory behind its own", "leave the tier out")
        sheet = device.host.memory if device.host is not None else None
    else:
        if device.storage is None:
            raise RidgepointError("bad_tiers", f"the sheet of {device.name} has no storage", "leave the tier out")
        sheet = device.storage.capacity
    each = max(given.machine.devices_per_node / given.devices_per_replica, 1.0)
    if sheet is not None and size * min(each, given.replicas) > sheet:
        raise RidgepointError(
            "bad_tiers",
            f"{size / 1e9:,.0f} GB per replica are more than the {sheet / 1e9:,.0f} GB of {name} of a node",
            f"at most {sheet / min(each, given.replicas) / 1e9:,.0f} GB per replica",
        )
