"""The sheet of a device: what its TOML file may say (design §4); ``reader.py`` reads and checks it.

Unknown keys are refused with their path; quantities are numbers in SI or text with a unit; every number must be covered
by ``[provenance]``, whose values are documents in ``[sources]``.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec


class Quantity(float):
    """A float that a file may write with a unit; subclasses name the unit."""

    unit = ""


class Bytes(Quantity):
    """Bytes."""

    unit = "B"


class BytesPerSecond(Quantity):
    """Bytes per second."""

    unit = "B/s"


class FlopPerSecond(Quantity):
    """Operations per second, a multiply-add counted as two."""

    unit = "FLOP/s"


class Hertz(Quantity):
    """Cycles per second."""

    unit = "Hz"


class Watts(Quantity):
    """Watts."""

    unit = "W"


class Seconds(Quantity):
    """Seconds."""

    unit = "s"


class Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every table in a machine file: frozen, unknown keys refused."""


class Cores(Sheet, frozen=True, forbid_unknown_fields=True):
    """Equal cores of a processor that has several kinds: how many, and what one of them computes in fp32."""

    core: str
    count: int
    rate: FlopPerSecond


class Chip(Sheet, frozen=True, forbid_unknown_fields=True):
    """The processor: how many multiprocessors (or cores) at which clock the peak rates hold for.

    ``kinds`` tells cores apart where they differ, the fastest first. Of a processor of several dies, ``die_cores`` share a
    link of ``die_bandwidth`` to main memory. ``idle`` cores take no part (``threads.py``).
    """

    multiprocessors: int
    clock: Hertz
    kinds: tuple[Cores, ...] = ()
    die_cores: int | None = None
    die_bandwidth: BytesPerSecond | None = None
    idle: int | None = None


class Engine(Sheet, frozen=True, forbid_unknown_fields=True):
    """An arithmetic engine: dense peak rate by number format."""

    label: str
    rates: dict[str, FlopPerSecond]
    structured_sparsity: float | None = None

    NAMES = ("matrix", "vector", "special")
    """Matrix products, everything else, and transcendental functions (exponentials per second as ``fp32``)."""


class MemoryLevel(Sheet, frozen=True, forbid_unknown_fields=True):
    """A memory: ``main`` holds the data, ``cache`` and ``scratch`` are on chip, ``tier`` is larger and slower than main.

    ``shared_by`` devices share a memory (a pool): capacity and bandwidth are then those of the whole. ``link`` names the
    link that a tier is reached over.
    """

    label: str
    role: str
    capacity: Bytes
    bandwidth: BytesPerSecond | None = None
    latency: Seconds | None = None
    shared_by: int | None = None
    link: str | None = None

    ROLES = ("main", "cache", "scratch", "tier")


class Link(Sheet, frozen=True, forbid_unknown_fields=True):
    """A link per device and direction: ``node`` joins devices of a node, ``host`` reaches CPU memory, ``cluster`` nodes.

    Of a network, ``pod`` nodes reach each other at the full rate (those below a leaf switch, a group of a dragonfly); what
    leaves a pod has 1/``oversubscription`` of it. A torus has ``dimensions`` (2); its sides are rings where their length is a
    multiple of ``closes`` (any), else lines.
    """

    label: str
    scope: str
    bandwidth: BytesPerSecond
    topology: str = "switch"
    devices: int | None = None
    in_network_reduction: bool = False
    latency: Seconds | None = None
    pod: int | None = None
    oversubscription: float | None = None
    dimensions: int | None = None
    closes: int | None = None

    SCOPES = ("node", "host", "cluster")
    TOPOLOGIES = ("switch", "mesh", "ring", "torus", "host", "fat-tree", "dragonfly")


class HostSheet(Sheet, frozen=True, forbid_unknown_fields=True):
    """The CPU side of one node."""

    label: str
    cores: int | None = None
    memory: Bytes | None = None
    memory_bandwidth: BytesPerSecond | None = None


class StorageSheet(Sheet, frozen=True, forbid_unknown_fields=True):
    """The storage of one node."""

    label: str
    capacity: Bytes | None = None
    bandwidth: BytesPerSecond | None = None


class Power(Sheet, frozen=True, forbid_unknown_fields=True):
    """Board power where a source states it: the limit, and idle. Some vendors publish neither."""

    tdp: Watts | None = None
    idle: Watts | None = None


class Price(Sheet, frozen=True, forbid_unknown_fields=True):
    """What one device costs: by the hour at a provider on a date, and to buy."""

    usd_per_hour: float | None = None
    provider: str = ""
    region: str = ""
    date: str = ""
    purchase_usd: float | None = None


class Source(Sheet, frozen=True, forbid_unknown_fields=True):
    """A document that values come from."""

    title: str
    date: str = ""
    url: str = ""


class Device(Sheet, frozen=True, forbid_unknown_fields=True):
    """One machine file: a device and the reference system that it is sold in."""

    name: str
    title: str
    vendor: str
    kind: str
    family: str
    chip: Chip
    engines: dict[str, Engine]
    memory: dict[str, MemoryLevel]
    sources: dict[str, Source]
    provenance: dict[str, str]
    released: int | None = None
    aliases: tuple[str, ...] = ()
    note: str = ""
    links: dict[str, Link] = {}
    power: Power = Power()
    host: HostSheet | None = None
    storage: StorageSheet | None = None
    price: Price | None = None
    coefficients: dict[str, dict[str, Any]] = {}
    """Fitted or overridden kernel coefficients: table → name → value; see ``machines/coefficients.py``."""

    KINDS = ("gpu", "cpu", "tpu", "npu", "soc", "wafer", "fpga", "mcu")


def numbers(device: Device) -> list[tuple[str, float]]:
    """Every number on the sheet with its path, e.g. ``('memory.hbm.bandwidth', 3.35e12)``; coefficients left out."""
    found: list[tuple[str, float]] = []

    def visit(path: str, value: object) -> None:
        if isinstance(value, bool):
            return
        if isinstance(value, int | float):
            found.append((path, _float(value)))
        elif isinstance(value, dict):
            for key, child in value.items():
                visit(f"{path}.{key}" if path else key, child)
        elif isinstance(value, tuple):
            visit(path, dict(enumerate(value)))
        elif isinstance(value, msgspec.Struct):
            visit(path, {f: getattr(value, f) for f in value.__struct_fields__})

    for part in ("chip", "engines", "memory", "links", "host", "storage", "power", "price"):
        visit(part, getattr(device, part))
    return found


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def provenance(device: Device, path: str) -> Source | None:
    """The document that the value at ``path`` comes from: the longest prefix in ``[provenance]``.

    The price carries its own (provider and date).
    """
    if path.startswith("price.") and device.price is not None and device.price.date:
        return Source(title=device.price.provider or "price list", date=device.price.date)
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        key = device.provenance.get(".".join(parts[:end]))
        if key is not None:
            return device.sources.get(key)
    return None
