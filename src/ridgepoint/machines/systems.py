"""Systems: one or more nodes of a device as they are sold or rented, as data (``catalog/systems/*.toml``).

A system's file names its device and says what is around it: whole tables, each value with its source. Links and memories
of the device's own sheet stay where the system says nothing else; host and storage do not, since those on the device's
sheet belong to another system. ``dgx-h100`` is 8 ``h100-sxm``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import field
from msgspec.structs import replace

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.description import (
    Device,
    HostSheet,
    Link,
    MemoryLevel,
    Price,
    Sheet,
    Source,
    StorageSheet,
    numbers,
    provenance,
)
from ridgepoint.machines.reader import NAME, checked, convert, read_toml


class SystemSheet(Sheet, frozen=True, forbid_unknown_fields=True):
    """One system file: ``nodes`` nodes of ``devices`` devices, and what differs from the device's sheet."""

    name: str
    title: str
    device: str
    sources: dict[str, Source]
    provenance: dict[str, str]
    devices: int = 1
    nodes: int = 1
    aliases: tuple[str, ...] = ()
    note: str = ""
    without: tuple[str, ...] = ()
    """What of the device's sheet does not hold here: names of links, and ``price``."""
    links: dict[str, Link] = field(default_factory=dict)
    memory: dict[str, MemoryLevel] = field(default_factory=dict)
    host: HostSheet | None = None
    storage: StorageSheet | None = None
    price: Price | None = None


@dataclass(frozen=True)
class System:
    """A system with its device as it is in it."""

    name: str
    title: str
    device: Device
    devices_per_node: int
    nodes: int
    sheet: SystemSheet


def read_system(text: str, where: str) -> SystemSheet:
    """The system that TOML ``text`` describes; ``where`` names the file in errors.

    Errors: ``bad_machine`` with the file, the key's path, what was expected.
    """
    sheet = convert(read_toml(text, where), SystemSheet, where)
    for path, problem, hint in _problems(sheet):
        raise RidgepointError("bad_machine", f"{where}: `{path}` {problem}", hint)
    return sheet


def system_of(sheet: SystemSheet, device: Device, where: str) -> System:
    """The system whose devices are ``device`` with the tables of ``sheet`` in place of its own.

    Errors: ``bad_machine`` for what a device's sheet would refuse, and for a number without a source of the system's own.
    """
    missing = [name for name in sheet.without if name not in device.links and name != "price"]
    if missing:
        hint = "its links: " + ", ".join(device.links)
        raise RidgepointError("bad_machine", f"{where}: `without` names '{missing[0]}' of {device.name}", hint)
    replaced = _replaced(sheet)
    own = {path: key for path, key in device.provenance.items() if not _under(path, replaced)}
    merged = replace(
        device,
        note=" ".join(filter(None, (sheet.note, device.note))),
        links={name: link for name, link in device.links.items() if name not in sheet.without} | sheet.links,
        memory=device.memory | sheet.memory,
        host=sheet.host,
        storage=sheet.storage,
        price=sheet.price if "price" in replaced else device.price,
        sources=device.sources | {f"system.{key}": source for key, source in sheet.sources.items()},
        provenance=own | {path: f"system.{key}" for path, key in sheet.provenance.items()},
    )
    checked(merged, where)
    for path, _ in numbers(merged):
        if (
            _under(path, replaced)
            and provenance(replace(merged, provenance=sheet.provenance, sources=sheet.sources), path) is None
        ):
            raise RidgepointError("bad_machine", f"{where}: `{path}` has no source", "cover it in [provenance]")
    return System(sheet.name, sheet.title, merged, sheet.devices, sheet.nodes, sheet)


def _replaced(sheet: SystemSheet) -> tuple[str, ...]:
    """Paths of the device's sheet that do not hold in the system."""
    links = (f"links.{name}" for name in (*sheet.links, *sheet.without))
    price = ("price",) if sheet.price is not None or "price" in sheet.without else ()
    return (*links, *(f"memory.{name}" for name in sheet.memory), "host", "storage", *price)


def _under(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(f"{place}.") for place in places)


def _problems(sheet: SystemSheet) -> Iterator[tuple[str, str, str]]:
    for path, name in (("name", sheet.name), *(("aliases", alias) for alias in sheet.aliases)):
        if not NAME.fullmatch(name):
            yield path, f"is '{name}'", "use small letters, digits, dots and dashes, not beginning with a count"
    for path, count in (("devices", sheet.devices), ("nodes", sheet.nodes)):
        if not 1 <= count <= 10_000_000:
            yield path, f"is {count}", "give a whole number from 1"
        if count > 1 and path not in sheet.provenance:
            yield path, "has no source", "cover it in [provenance] with a key of [sources]"
    for path, key in sheet.provenance.items():
        if key not in sheet.sources:
            yield f"provenance.{path}", f"names the source '{key}'", "add it to [sources]"
