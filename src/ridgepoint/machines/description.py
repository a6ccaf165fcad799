"""The sheet of a device: what its TOML file may say, read strictly (design §4).

Unknown keys are refused with their path; quantities are numbers in SI or text with a unit; every number must be covered
by ``[provenance]``, whose values are documents in ``[sources]``.
"""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec

from ridgepoint.errors import RidgepointError
from ridgepoint.units import parse_quantity


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


class Chip(Sheet, frozen=True, forbid_unknown_fields=True):
    """The processor: how many multiprocessors (or cores) at which clock the peak rates hold for."""

    multiprocessors: int
    clock: Hertz


class Engine(Sheet, frozen=True, forbid_unknown_fields=True):
    """An arithmetic engine: dense peak rate by number format."""

    label: str
    rates: dict[str, FlopPerSecond]
    structured_sparsity: float | None = None


class MemoryLevel(Sheet, frozen=True, forbid_unknown_fields=True):
    """A memory: ``main`` holds the data, ``cache`` and ``scratch`` are on chip, ``tier`` is larger and slower than main."""

    label: str
    role: str
    capacity: Bytes
    bandwidth: BytesPerSecond | None = None

    ROLES = ("main", "cache", "scratch", "tier")


class Link(Sheet, frozen=True, forbid_unknown_fields=True):
    """A link per device and direction: ``node`` joins devices of a node, ``host`` reaches CPU memory, ``cluster`` nodes."""

    label: str
    scope: str
    bandwidth: BytesPerSecond
    topology: str = "switch"
    devices: int | None = None
    in_network_reduction: bool = False
    latency: Seconds | None = None

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


def read_device(text: str, where: str) -> Device:
    """The device that TOML ``text`` describes; ``where`` names the file in errors.

    Errors: ``bad_machine`` with the file, the key's path, what was expected.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RidgepointError("bad_machine", f"{where} is not valid TOML: {error}", "fix the line it names") from None
    try:
        device = msgspec.convert(raw, Device, dec_hook=_quantity)
    except msgspec.ValidationError as error:
        raise RidgepointError("bad_machine", f"{where}: {error}".replace("`$.", "`"), "see docs/machines.md") from None
    _check(device, where)
    return device


def _quantity(kind: type, value: Any) -> Any:
    if issubclass(kind, Quantity):
        if isinstance(value, bool):
            raise ValueError(f"expected a quantity in {kind.unit}, not {value}")
        try:
            return kind(parse_quantity(value, kind.unit))
        except RidgepointError as error:
            raise ValueError(str(error)) from None
    raise NotImplementedError(kind)


def _check(device: Device, where: str) -> None:
    def refuse(path: str, problem: str, hint: str) -> None:
        raise RidgepointError("bad_machine", f"{where}: `{path}` {problem}", hint)

    if device.kind not in Device.KINDS:
        refuse("kind", f"is '{device.kind}'", "use one of " + ", ".join(Device.KINDS))
    if not device.engines or not any(e.rates for e in device.engines.values()):
        refuse("engines", "has no rate", "give at least one engine one rate, e.g. [engines.vector.rates] fp32")
    if sum(m.role == "main" for m in device.memory.values()) != 1:
        refuse("memory", "must have exactly one level with role 'main'", "mark the memory that holds weights as main")
    for name, level in device.memory.items():
        if level.role not in MemoryLevel.ROLES:
            refuse(f"memory.{name}.role", f"is '{level.role}'", "use one of " + ", ".join(MemoryLevel.ROLES))
        if level.role == "main" and level.bandwidth is None:
            refuse(f"memory.{name}.bandwidth", "is missing", "the main memory needs its bandwidth")
    for name, link in device.links.items():
        if link.scope not in Link.SCOPES:
            refuse(f"links.{name}.scope", f"is '{link.scope}'", "use one of " + ", ".join(Link.SCOPES))
        if link.topology not in Link.TOPOLOGIES:
            refuse(f"links.{name}.topology", f"is '{link.topology}'", "use one of " + ", ".join(Link.TOPOLOGIES))
    for path, value in numbers(device):
        if not (value > 0.0 and value < 1e30):
            refuse(path, f"is {value:g}", "give a positive number")
        if provenance(device, path) is None:
            refuse(path, "has no source", "cover it in [provenance] with a key of [sources]")
    for path, key in device.provenance.items():
        if key not in device.sources:
            refuse(f"provenance.{path}", f"names the source '{key}'", "add it to [sources]")


def numbers(device: Device) -> list[tuple[str, float]]:
    """Every number on the sheet with its path, e.g. ``('memory.hbm.bandwidth', 3.35e12)``; coefficients left out.

    ``released`` and link group sizes are identity, not measured quantities, and are left out too.
    """
    found: list[tuple[str, float]] = []

    def visit(path: str, value: object) -> None:
        if isinstance(value, bool):
            return
        if isinstance(value, int | float):
            found.append((path, float(value)))
        elif isinstance(value, dict):
            for key, child in value.items():
                visit(f"{path}.{key}" if path else key, child)
        elif isinstance(value, msgspec.Struct):
            visit(path, {f: getattr(value, f) for f in value.__struct_fields__})

    for part in ("chip", "engines", "memory", "links", "host", "storage", "power", "price"):
        visit(part, getattr(device, part))
    return [(path, value) for path, value in found if not path.endswith((".devices", ".structured_sparsity"))]


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
