"""The words that change a machine (``custom.py``): what each means, its unit, and which value of the sheet it sets.

A setter gives the changed device and the path of what it changed, whose source is then the user. Where the sheet has
several memories or links of a kind, the one that kernels use is meant: the largest memory, the fastest link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.machines.description import (
    BytesPerSecond,
    Device,
    Engine,
    FlopPerSecond,
    HostSheet,
    Link,
    MemoryLevel,
    Price,
    StorageSheet,
)
from ridgepoint.machines.reader import ARITHMETICS
from ridgepoint.machines.threads import PROCESSORS, with_threads
from ridgepoint.units import parse_quantity

Setter = Callable[[Device, Any], tuple[Device, str]]


@dataclass(frozen=True)
class Setting:
    """One word: its unit (``""`` for a number, ``whole`` for a count, ``text``), what it means, how it is set."""

    unit: str
    meaning: str
    set: Setter


def bad(problem: str, hint: str) -> RidgepointError:
    """A specification that cannot be used."""
    return RidgepointError("bad_machine", problem, hint)


def canonical(word: str) -> str:
    """The word itself, whatever its spelling; an unknown one is refused with the nearest.

    >>> canonical("HBM"), canonical("link_latency")
    ('bandwidth', 'link-latency')
    """
    folded = word.strip().lower().replace("_", "-")
    folded = SYNONYMS.get(folded, folded)
    if folded not in SETTINGS:
        known = [*SETTINGS, *SYNONYMS]
        close = nearest(folded, known, count=1)
        raise bad(f"unknown key '{word}'", f"did you mean {close[0]}?" if close else "known: " + ", ".join(known))
    return folded


def parse(name: str, value: str | float) -> Any:
    """The value of a word: text, a count, or a positive number in SI."""
    unit = SETTINGS[name].unit
    if unit == "text":
        return str(value)
    try:
        number = _number(value) if unit in ("", "whole") else parse_quantity(value, unit)
    except RidgepointError as error:
        raise bad(f"{name}: {error.message}", error.hint) from None
    except (ValueError, OverflowError):
        raise bad(f"{name}: '{value}' is not a number", "write a number") from None
    if not 0.0 < number < 1e30:
        raise bad(f"{name} is {value}", "give a positive number")
    if unit == "whole" and number != int(number):
        raise bad(f"{name} is {value}", "give a whole number")
    if unit in _LARGE and number < _LEAST and _is_bare(value):
        raise bad(f"{name} is {value}, which is {number:g} {unit}", f"write the prefix: {value}G")
    return int(number) if unit == "whole" else number


_LARGE, _LEAST = ("B", "B/s", "FLOP/s"), 1e6
"""Units of which no machine has as little as a bare number below ``_LEAST`` says: whoever writes 80 means 80 GB."""


def _is_bare(value: str | float) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _number(value: str | float) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def role(device: Device, name: str) -> str | None:
    """The largest memory of a role."""
    levels = [(float(level.capacity), key) for key, level in device.memory.items() if level.role == name]
    return max(levels)[1] if levels else None


def _rate(format_name: str) -> Setter:
    """A format's rate on the engine that is fastest in it; where none has it, on the matrix engine (fp32, fp64: vector)."""

    def change(device: Device, value: float) -> tuple[Device, str]:
        having = [(float(e.rates[format_name]), n) for n, e in device.engines.items() if format_name in e.rates]
        having = [(rate, n) for rate, n in having if n != "special"]
        name = max(having)[1] if having else "vector" if format_name in ("fp32", "fp64") else "matrix"
        return _engine(name, format_name)(device, value)

    return change


def _engine(name: str, format_name: str) -> Setter:
    labels = {"matrix": "matrix units", "vector": "vector units", "special": "special function units"}

    def change(device: Device, value: float) -> tuple[Device, str]:
        engine = device.engines.get(name) or Engine(label=labels[name], rates={})
        engine = replace(engine, rates=engine.rates | {format_name: FlopPerSecond(value)})
        return replace(device, engines=device.engines | {name: engine}), f"engines.{name}.rates.{format_name}"

    return change


def _memory(role_name: str, field: str) -> Setter:
    def change(device: Device, value: Any) -> tuple[Device, str]:
        name = role(device, role_name)
        if name is None:
            if field != "capacity":
                raise bad(f"there is no {role_name} whose {field} could be set", f"give {role_name}=SIZE too")
            level = MemoryLevel(label=role_name, role=role_name, capacity=value)
            return replace(device, memory=device.memory | {role_name: level}), f"memory.{role_name}"
        level = replace(device.memory[name], **{field: value})
        return replace(device, memory=device.memory | {name: level}), f"memory.{name}.{field}"

    return change


_LINKS = {"node": ("link", "link between devices"), "host": ("host", "host link"), "cluster": ("network", "network")}


def _link(scope: str, field: str) -> Setter:
    word, label = _LINKS[scope]

    def change(device: Device, value: Any) -> tuple[Device, str]:
        found = [(float(link.bandwidth), name) for name, link in device.links.items() if link.scope == scope]
        if not found:
            if field != "bandwidth":
                raise bad(f"there is no {label} whose {field} could be set", f"give {word}=RATE too")
            link = Link(label=label, scope=scope, bandwidth=BytesPerSecond(value))
            return replace(device, links=device.links | {word: link}), f"links.{word}"
        name = max(found)[1]
        link = replace(device.links[name], **{field: value})
        return replace(device, links=device.links | {name: link}), f"links.{name}.{field}"

    return change


def _part(part: str, field: str, empty: Any = None) -> Setter:
    """A field of a part of the sheet; ``empty`` makes the part where the sheet has none."""

    def change(device: Device, value: Any) -> tuple[Device, str]:
        whole = getattr(device, part) or empty
        return replace(device, **{part: replace(whole, **{field: value})}), f"{part}.{field}"

    return change


def _own(field: str) -> Setter:
    return lambda device, value: (replace(device, **{field: value}), "")


def _launch(device: Device, value: float) -> tuple[Device, str]:
    table = device.coefficients.get("device", {}) | {"launch_s": value}
    return replace(device, coefficients=device.coefficients | {"device": table}), ""


def _threads(slowest: bool) -> Setter:
    return lambda device, value: (with_threads(device, value, slowest), "engines")


def _cores(device: Device, value: int) -> tuple[Device, str]:
    """Fewer cores than a processor's sheet has are some of its cores; any other count is that of another chip."""
    if device.kind in PROCESSORS and device.engines and value < device.chip.multiprocessors:
        return with_threads(device, value), "engines"
    return _part("chip", "multiprocessors")(device, value)


def _price(device: Device, value: float) -> tuple[Device, str]:
    return replace(device, price=Price(usd_per_hour=value)), "price.usd_per_hour"


_HOST, _DRIVE = HostSheet(label="host"), StorageSheet(label="storage")
SETTINGS: dict[str, Setting] = {
    "kind": Setting("text", "gpu, cpu, tpu, npu, soc, wafer, fpga or mcu", _own("kind")),
    "family": Setting("text", "architecture family, whose kernel coefficients hold", _own("family")),
    "title": Setting("text", "what reports call it", _own("title")),
    "multiprocessors": Setting("whole", "multiprocessors; of a processor, the cores of it that work", _cores),
    **{name: Setting("FLOP/s", f"dense peak rate in {name}", _rate(name)) for name in ARITHMETICS},
    "vector": Setting("FLOP/s", "fp32 rate of what computes everything but products", _engine("vector", "fp32")),
    "special": Setting("FLOP/s", "exponentials per second", _engine("special", "fp32")),
    "memory": Setting("B", "capacity of the main memory", _memory("main", "capacity")),
    "bandwidth": Setting("B/s", "bandwidth of the main memory", _memory("main", "bandwidth")),
    "cache": Setting("B", "capacity of the last-level cache", _memory("cache", "capacity")),
    "cache-bandwidth": Setting("B/s", "bandwidth of the last-level cache", _memory("cache", "bandwidth")),
    "tier": Setting("B", "capacity of a larger, slower memory", _memory("tier", "capacity")),
    "tier-bandwidth": Setting("B/s", "bandwidth of that memory", _memory("tier", "bandwidth")),
    "clock": Setting("Hz", "clock of the multiprocessors", _part("chip", "clock")),
    "threads": Setting("whole", "threads that work, on the fastest cores of a processor", _threads(slowest=False)),
    "little-threads": Setting("whole", "threads that work, on its slowest cores", _threads(slowest=True)),
    "launch": Setting("s", "from one kernel to the next in a captured graph", _launch),
    "link": Setting("B/s", "between devices of a node, per device and direction", _link("node", "bandwidth")),
    "topology": Setting("text", "topology of that link: switch, mesh, ring, torus", _link("node", "topology")),
    "node": Setting("whole", "devices that it joins", _link("node", "devices")),
    "link-latency": Setting("s", "one step over that link", _link("node", "latency")),
    "host": Setting("B/s", "to the host's memory, per device and direction", _link("host", "bandwidth")),
    "network": Setting("B/s", "to other nodes, per device and direction", _link("cluster", "bandwidth")),
    "pod": Setting("whole", "nodes that reach each other at the network's full rate", _link("cluster", "pod")),
    "oversubscription": Setting(
        "", "of the network beyond a pod: 4 leaves a quarter", _link("cluster", "oversubscription")
    ),
    "network-latency": Setting("s", "one step over the network", _link("cluster", "latency")),
    "host-cores": Setting("whole", "processor cores of a node", _part("host", "cores", _HOST)),
    "host-memory": Setting("B", "host memory of a node", _part("host", "memory", _HOST)),
    "host-bandwidth": Setting(
        "B/s", "of the host's memory, all channels of a node", _part("host", "memory_bandwidth", _HOST)
    ),
    "storage": Setting("B/s", "bandwidth of a node's storage", _part("storage", "bandwidth", _DRIVE)),
    "tdp": Setting("W", "power limit of a device", _part("power", "tdp")),
    "idle": Setting("W", "power of an idle device", _part("power", "idle")),
    "price": Setting("", "US dollars per device and hour", _price),
}
"""In the order in which they are set: what makes a link or a memory comes before what changes it."""
SYNONYMS = {
    "capacity": "memory",
    "hbm": "bandwidth",
    "cores": "multiprocessors",
    "sms": "multiprocessors",
    "pcie": "host",
    "power": "tdp",
    "devices": "node",
}
