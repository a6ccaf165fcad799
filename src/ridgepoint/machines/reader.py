"""Reading a device's sheet: TOML text to a checked ``Device``, or one sentence that says what is wrong and where."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.formats import FORMATS
from ridgepoint.machines.coefficients import coefficients_of
from ridgepoint.machines.description import Device, Engine, Link, MemoryLevel, Quantity, numbers, provenance
from ridgepoint.units import parse_quantity

NAME = re.compile(r"(?!\d+[x×*].)[a-z0-9][a-z0-9.+-]*")
"""What a machine may be called: a lower-case slug that does not read as a count of devices."""
ARITHMETICS = tuple(dict.fromkeys(f.math for f in FORMATS.values()))
"""Formats that an engine can have a rate for."""

_T = TypeVar("_T", bound=msgspec.Struct)

Problem = tuple[str, str, str]
"""The path of a key, what is wrong with it, what to do."""


def read_device(text: str, where: str) -> Device:
    """The device that TOML ``text`` describes; ``where`` names the file in errors.

    Errors: ``bad_machine`` with the file, the key's path, what was expected.
    """
    return device_from(read_toml(text, where), where)


def read_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML text."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib passes Python's own limits on digits and depth on
        raise RidgepointError("bad_machine", f"{where} is not valid TOML: {error}", "fix the line it names") from None


def device_from(raw: Mapping[str, Any], where: str) -> Device:
    """The device that the tables of a sheet describe."""
    return checked(convert(raw, Device, where), where)


def checked(device: Device, where: str) -> Device:
    """``device`` itself; refuses what no type says (names, formats, roles, ranges, a number without a source)."""
    for path, problem, hint in _problems(device):
        raise RidgepointError("bad_machine", f"{where}: `{path}` {problem}", hint)
    coefficients_of(device)
    return device


def convert(raw: Mapping[str, Any], kind: type[_T], where: str) -> _T:
    """``raw`` as a value of ``kind``, quantities parsed; refuses unknown keys and wrong types with their path."""
    try:
        return msgspec.convert(raw, kind, dec_hook=_quantity)
    except (msgspec.ValidationError, OverflowError) as error:
        raise RidgepointError("bad_machine", f"{where}: {error}".replace("`$.", "`"), "see docs/machines.md") from None


def _quantity(kind: type, value: Any) -> Any:
    if not issubclass(kind, Quantity):
        raise NotImplementedError(kind)
    if isinstance(value, bool):
        raise ValueError(f"expected a quantity in {kind.unit}, not {value}")
    try:
        return kind(parse_quantity(value, kind.unit))
    except (RidgepointError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _problems(device: Device) -> Iterator[Problem]:
    """What is wrong with a sheet whose keys and types are right."""
    yield from _names(device)
    yield from _cores(device)
    yield from _engines(device)
    yield from _memory(device)
    yield from _links(device)
    for path, key in device.provenance.items():
        if key not in device.sources:
            yield f"provenance.{path}", f"names the source '{key}'", "add it to [sources]"
    for path, value in numbers(device):
        if not 0.0 < value < 1e30:
            yield path, f"is {value:g}", "give a positive number"
        if provenance(device, path) is None:
            yield path, "has no source", "cover it in [provenance] with a key of [sources]"


def _names(device: Device) -> Iterator[Problem]:
    yield from _one_of("kind", device.kind, Device.KINDS)
    for path, name in (("name", device.name), *(("aliases", alias) for alias in device.aliases)):
        if not NAME.fullmatch(name):
            yield path, f"is '{name}'", "use small letters, digits, dots and dashes, not beginning with a count"


def _cores(device: Device) -> Iterator[Problem]:
    """Cores of several kinds add up to all cores and to the rate of all."""
    kinds, chip = device.chip.kinds, device.chip
    if not kinds:
        return
    count = sum(kind.count for kind in kinds)
    if count != chip.multiprocessors:
        yield "chip.kinds", f"are {count} cores of {chip.multiprocessors}", "say what all cores are"
    rates = [
        float(engine.rates["fp32"])
        for name, engine in device.engines.items()
        if name != "special" and "fp32" in engine.rates
    ]
    total = sum(kind.count * float(kind.rate) for kind in kinds)
    if rates and not 0.99 <= total / max(rates) <= 1.01:
        yield "chip.kinds", f"compute {total:.4g} FLOP/s in fp32, not {max(rates):.4g}", "make them add up"


def _engines(device: Device) -> Iterator[Problem]:
    if not any(name != "special" and engine.rates for name, engine in device.engines.items()):
        yield "engines", "has no rate", "give at least one engine one rate, e.g. [engines.vector.rates] fp32"
    for name, engine in device.engines.items():
        yield from _one_of(f"engines.{name}", name, Engine.NAMES)
        if not engine.rates:
            yield f"engines.{name}.rates", "is empty", "give it a rate or leave the engine out"
        for format_name in engine.rates:
            yield from _one_of(f"engines.{name}.rates.{format_name}", format_name, ARITHMETICS)


def _memory(device: Device) -> Iterator[Problem]:
    for name, level in device.memory.items():
        path = f"memory.{name}"
        yield from _one_of(f"{path}.role", level.role, MemoryLevel.ROLES)
        if level.role == "main" and level.bandwidth is None:
            yield f"{path}.bandwidth", "is missing", "the main memory needs its bandwidth"
        if level.role == "tier" and level.bandwidth is None and level.link is None:
            yield f"{path}.bandwidth", "is missing", "a tier needs its bandwidth or the link that it is reached over"
        if level.link is not None:
            yield from _one_of(f"{path}.link", level.link, device.links)
    if sum(m.role == "main" for m in device.memory.values()) != 1:
        yield "memory", "must have exactly one level with role 'main'", "mark the memory that holds weights as main"


def _links(device: Device) -> Iterator[Problem]:
    for name, link in device.links.items():
        path = f"links.{name}"
        yield from _one_of(f"{path}.scope", link.scope, Link.SCOPES)
        yield from _one_of(f"{path}.topology", link.topology, Link.TOPOLOGIES)
        if link.devices is not None and link.devices < 2:
            yield f"{path}.devices", f"is {link.devices}", "a link joins at least 2 devices"
        for field in ("dimensions", "closes"):
            value = getattr(link, field)
            if value is not None and (link.topology != "torus" or value < 1):
                yield f"{path}.{field}", f"is {value}", "give it for a torus alone, 1 or more"
        if link.oversubscription is not None and not link.oversubscription >= 1.0:
            yield f"{path}.oversubscription", f"is {link.oversubscription:g}", "give 1 (full bisection) or more"


def _one_of(path: str, value: str, known: Iterable[str]) -> Iterator[Problem]:
    if value not in known:
        close = nearest(value, known, count=1)
        yield path, f"is '{value}'", f"did you mean {close[0]}?" if close else "use one of " + ", ".join(known)
