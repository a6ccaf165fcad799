"""Finding machines by name: catalogue files, aliases, ``8x`` and ``16x8x`` prefixes, a user's own files.

``RIDGEPOINT_CATALOG`` names a folder whose ``machines/*.toml`` come before the built-in ones.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib import resources
from pathlib import Path

from ridgepoint.errors import RidgepointError, nearest, unknown_name
from ridgepoint.machines.description import Device
from ridgepoint.machines.machine import Machine
from ridgepoint.machines.reader import read_device

_COUNTED = re.compile(r"(?:(\d+)[x×*])?(?:(\d+)[x×*])?(.+)")
MAX_DEVICES = 10_000_000


def find_machine(name: str) -> Machine:
    """The machine that a name describes: ``h100-sxm``, ``8xh100-sxm`` (one node), ``16x8xh100-sxm`` (16 nodes of 8), or
    the path of a machine file.

    >>> m = find_machine("16x8xh100-sxm")
    >>> m.nodes, m.devices_per_node, m.device.name
    (16, 8, 'h100-sxm')

    Errors: ``unknown_machine`` with the nearest names; ``bad_machine`` for a count that the device cannot form.
    """
    return _find(name.strip(), os.environ.get("RIDGEPOINT_CATALOG", ""))


@cache
def _find(name: str, _catalog: str) -> Machine:
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise RidgepointError("unknown_machine", f"there is no machine file {name}", "check the path")
        device = read_device(path.read_text(), name)
        return Machine(device.name, device)
    match = _COUNTED.fullmatch(name)
    if match is None:
        raise unknown_name("machine", name, device_names())
    first, second, base = match.groups()
    device = find_device(base)
    if second is not None:
        return _compose(name, device, nodes=int(first), per_node=int(second))
    count = int(first or 1)
    largest = _largest_node(device)
    if count > largest and count % largest == 0:
        return _compose(name, device, nodes=count // largest, per_node=largest)
    return _compose(name, device, nodes=1, per_node=count)


def _compose(name: str, device: Device, nodes: int, per_node: int) -> Machine:
    largest = _largest_node(device)
    if nodes < 1 or per_node < 1 or nodes * per_node > MAX_DEVICES:
        raise RidgepointError(
            "bad_machine", f"{name}: counts must be from 1 to {MAX_DEVICES:,} devices", "e.g. 8xh100-sxm"
        )
    if per_node > largest:
        raise RidgepointError(
            "bad_machine",
            f"{name}: a node of {device.name} has at most {largest} devices, not {per_node}",
            f"write NODESx{largest}x{device.name} for several nodes",
        )
    machine = Machine(name, device, per_node, nodes)
    if nodes > 1 and machine.link("cluster") is None:
        raise RidgepointError(
            "bad_machine",
            f"{name}: {device.name} has no network link between nodes in its sheet",
            "use one node, or a machine file with a link of scope 'cluster'",
        )
    if per_node > 1 and machine.link("node") is None:
        raise RidgepointError(
            "bad_machine",
            f"{name}: {device.name} has no link between devices in its sheet",
            "use one device, or a machine file with a link of scope 'node' or 'host'",
        )
    return machine


def _largest_node(device: Device) -> int:
    sizes = [link.devices for link in device.links.values() if link.scope == "node" and link.devices]
    return max(sizes, default=16)


def find_device(name: str) -> Device:
    """The device of that name or alias (case and spaces do not matter)."""
    folded = _fold(name)
    path = device_files().get(folded)
    if path is not None:
        return _load(path)
    alias = _aliases().get(folded)
    if alias is not None:
        return _load(device_files()[alias])
    known = list(device_files())
    via_alias = [_aliases()[a] for a in nearest(folded, _aliases())]
    if not nearest(folded, known) and via_alias:
        raise RidgepointError("unknown_machine", f"unknown machine '{name}'", f"did you mean {via_alias[0]}?")
    raise unknown_name("machine", name, known)


def device_names() -> list[str]:
    """All device names, sorted."""
    return sorted(device_files())


@cache
def _device_files(catalog: str) -> dict[str, Path]:
    folders = [Path(str(resources.files("ridgepoint.catalog") / "machines"))]
    if catalog:
        folders.append(Path(catalog) / "machines")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def device_files() -> dict[str, Path]:
    """Name → catalogue file; a user's file replaces a built-in one of the same name."""
    return _device_files(os.environ.get("RIDGEPOINT_CATALOG", ""))


@cache
def _load(path: Path) -> Device:
    device = read_device(path.read_text(), path.name)
    if device.name != path.stem:
        raise RidgepointError(
            "bad_machine", f"{path.name}: `name` is '{device.name}'", "name the file after the machine"
        )
    return device


@cache
def _alias_table(catalog: str) -> dict[str, str]:
    return {_fold(alias): name for name, path in _device_files(catalog).items() for alias in _load(path).aliases}


def _aliases() -> dict[str, str]:
    return _alias_table(os.environ.get("RIDGEPOINT_CATALOG", ""))


def _fold(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().lower())
