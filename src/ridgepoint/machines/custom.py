"""Machines from a line of text: a catalogue sheet with other figures, or a machine that no sheet describes.

    h100-sxm@bandwidth=4.8T,memory=141G                  the H100 with other memory: what if?
    custom:bf16=400T,memory=64G,bandwidth=2T             a machine of one's own

Only what is written changes: another clock or count of multiprocessors leaves the peak rates alone (fewer cores of a
processor are some of its cores, with their part of the rates and of the memory's bandwidth). What is not written
about a custom machine is left out (no link, no power limit, no price), except its multiprocessors and their clock, which
the kernel models need: 1.5 GHz, and as many multiprocessors as it takes at 4096 16-bit operations and 14 bytes per clock,
the proportions of an H100. Every value's source is "given by the user".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec.structs import replace

from ridgepoint.machines.description import Bytes, BytesPerSecond, Chip, Device, Hertz, MemoryLevel, Source
from ridgepoint.machines.reader import ARITHMETICS, checked
from ridgepoint.machines.settings import SETTINGS, bad, canonical, parse

Values = Mapping[str, str | float]
EXAMPLE = "custom:bf16=400T,memory=64G,bandwidth=2T"
USER = Source(title="given by the user")
PROPORTIONS = Source(
    title="default of a custom machine: 4096 16-bit operations and 14 bytes per multiprocessor and clock"
)
CLOCK_HZ, OPERATIONS_PER_CLOCK, BYTES_PER_CLOCK = 1.5e9, 4096.0, 14.0
_OVER_HBM = ("gpu", "tpu", "npu", "wafer")


def parse_spec(text: str) -> dict[str, str]:
    """The pairs of ``key=value,key=value``.

    >>> parse_spec("bandwidth=4.8T, memory=141G")
    {'bandwidth': '4.8T', 'memory': '141G'}

    Errors: ``bad_machine`` for a part without ``=``, and for a key that is said twice.
    """
    values: dict[str, str] = {}
    for part in text.split(","):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if not key or not value:
            raise bad(f"'{part.strip()}' is not KEY=VALUE", f"write it like {EXAMPLE}")
        if key in values:
            raise bad(f"'{key}' is said twice", "say it once")
        values[key] = value
    return values


def custom_device(values: Values, base: Device | None = None) -> Device:
    """The device that ``values`` describe, or ``base`` with ``values`` in place of its own.

    >>> chip = custom_device({"bf16": "400T", "memory": "64G", "bandwidth": "2T", "tdp": 500})
    >>> chip.name, chip.power.tdp, chip.chip.multiprocessors
    ('custom:bf16=400T,memory=64G,bandwidth=2T,tdp=500', 500.0, 96)
    >>> chip.sources[chip.provenance["power.tdp"]].title
    'given by the user'

    Errors: ``bad_machine`` for an unknown key (with the nearest), a value that does not parse, what a sheet refuses.
    """
    spec = ",".join(f"{key}={value}" for key, value in values.items())
    read: dict[str, str | float] = {}
    for key, value in values.items():
        name = canonical(key)
        if name in read:
            raise bad(f"'{key}' says {name} twice", "say it once")
        read[name] = parse(name, value)
    device = _blank(read) if base is None else base
    for name in [name for name in SETTINGS if name in read]:
        device = _given(*SETTINGS[name].set(device, read[name]))
    name = f"custom:{spec}" if base is None else f"{base.name}@{spec}"
    if "title" not in read:
        title = "custom machine" if base is None else f"{base.title}, but {spec.replace(',', ', ')}"
        device = replace(device, title=title)
    return replace(checked(replace(device, name="custom", aliases=()), name), name=name)


def _given(device: Device, path: str) -> Device:
    """``device`` with the user as the source of what is at ``path``."""
    if not path:
        return device
    return replace(device, provenance=device.provenance | {path: "given"}, sources=device.sources | {"given": USER})


def _blank(read: Mapping[str, str | float]) -> Device:
    """A device that has only its memory and, in proportion to the rates, its multiprocessors."""
    rates = [float(read[name]) for name in ("bf16", "fp16") if name in read]
    rates = rates or [float(read[name]) for name in ARITHMETICS if name in read]
    missing = [name for name in ("memory", "bandwidth") if name not in read] + (
        [] if rates else ["a rate such as bf16"]
    )
    if missing:
        raise bad(f"a custom machine needs {' and '.join(missing)}", f"write it like {EXAMPLE}, or add base=h100-sxm")
    clock = float(read.get("clock", CLOCK_HZ))
    count = max(max(rates) / OPERATIONS_PER_CLOCK, float(read["bandwidth"]) / BYTES_PER_CLOCK) / clock
    kind = str(read.get("kind", "gpu"))
    memory = MemoryLevel(label="main memory", role="main", capacity=Bytes(1.0), bandwidth=BytesPerSecond(1.0))
    return Device(
        name="custom",
        title="custom machine",
        vendor="custom",
        kind=kind,
        family="generic",
        chip=Chip(multiprocessors=min(max(math.ceil(count), 1), 10**9), clock=Hertz(clock)),
        engines={},
        memory={"hbm" if kind in _OVER_HBM else "ddr": memory},
        sources={"default": PROPORTIONS},
        provenance={"chip": "default"},
    )


def with_options(machine: str | None, values: Mapping[str, str]) -> str:
    """A machine's name with options added: of the machine that is named, or of a custom one.

    >>> with_options("8xh100-sxm", {"bandwidth": "4.8T"}), with_options(None, {"bf16": "400T", "memory": "64G"})
    ('8xh100-sxm@bandwidth=4.8T', 'custom:bf16=400T,memory=64G')
    >>> with_options("4xcustom", {"link": "200G"})
    '4xcustom:link=200G'
    """
    spec = ",".join(f"{key}={value}" for key, value in values.items())
    if not spec:
        return machine or ""
    if machine is None or machine.endswith("custom"):
        return f"{machine or 'custom'}:{spec}"
    return f"{machine}{',' if '@' in machine or 'custom:' in machine else '@'}{spec}"
