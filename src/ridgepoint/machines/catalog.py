"""Finding machines by name: sheets of devices and systems, aliases, counts, changes, a user's own files.

    h100-sxm   h100   8xh100-sxm   16x8xh100-sxm     a device, its alias, a node, nodes of it
    dgx-h100   4xdgx-h100                            a system, and four of it
    NVIDIA GeForce RTX 4090   Tesla T4               the names that drivers and papers print
    h100-sxm@bandwidth=4.8T   custom:bf16=400T,…     with other figures; one's own (custom.py)
    ./mine.toml   8x./mine.toml                      a sheet in a file

``RIDGEPOINT_CATALOG`` names a folder (by default ``~/.config/ridgepoint``) whose ``machines/*.toml`` and
``systems/*.toml`` come before the built-in ones.
"""

from __future__ import annotations

import os
import re
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

from ridgepoint.errors import RidgepointError, nearest, unknown_name
from ridgepoint.machines.custom import custom_device, parse_spec, with_options
from ridgepoint.machines.description import Device
from ridgepoint.machines.machine import Machine
from ridgepoint.machines.reader import read_device
from ridgepoint.machines.systems import System, SystemSheet, read_system, system_of

_COUNTED = re.compile(r"(?:(\d{1,9})[x×*])?(?:(\d{1,9})[x×*])?(.+)", re.ASCII)
_ALIASES = re.compile(r"^aliases\s*=\s*\[(.*?)\]", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"[\"']([^\"'\n]+)[\"']")
_MAKERS = {
    "nvidia": "NVIDIA", "geforce": "NVIDIA", "tesla": "NVIDIA", "amd": "AMD", "radeon": "AMD", "instinct": "AMD",
    "intel": "Intel", "google": "Google", "apple": "Apple", "qualcomm": "Qualcomm", "aws": "AWS", "amazon": "AWS",
    "alibaba": "Alibaba", "huawei": "Huawei HiSilicon", "hisilicon": "HiSilicon", "samsung": "Samsung",
    "mediatek": "MediaTek", "rockchip": "Rockchip", "broadcom": "Broadcom", "cerebras": "Cerebras", "arm": "Arm",
    "sambanova": "SambaNova", "graphcore": "Graphcore", "xilinx": "AMD", "fujitsu": "Fujitsu", "tenstorrent": "Tenstorrent",
}  # fmt: skip
"""Words that drivers and papers put before a name, and the vendors in whose sheets they tell no two machines apart."""
_SIZE, _SOCKET = re.compile(r"[\s_-]*(\d+)\s?gi?b$", re.IGNORECASE), re.compile(r"sxm\d", re.IGNORECASE)
_SAME_SIZE = 0.1  # 192 GB of memory are sold as 180 GB
MAX_DEVICES = 10_000_000
USUAL_NODE = 16
"""Devices that a node may have where the sheet does not say."""


def find_machine(name: str) -> Machine:
    """The machine that a name describes: ``h100-sxm``, ``8xh100-sxm`` (one node), ``16x8xh100-sxm`` (16 nodes of 8), a
    system (``dgx-h100``, ``4xdgx-h100``), a changed or a custom machine (``custom.py``), or the path of a machine file.

    >>> m = find_machine("16x8xh100-sxm")
    >>> m.nodes, m.devices_per_node, m.device.name
    (16, 8, 'h100-sxm')
    >>> find_machine("4xdgx-h100").devices
    32
    >>> find_machine("8xh100-sxm@bandwidth=4.8T").memory_bytes_per_s
    4800000000000.0

    Errors: ``unknown_machine`` with the nearest names; ``bad_machine`` for a count that the device cannot form, and for a
    sheet or a change that cannot be read.
    """
    name = name.strip()
    if ".toml" in name:  # files change; names do not
        return _read(name)
    return _known(name, _catalog())


@lru_cache(maxsize=4096)  # a slider makes many names
def _known(name: str, _catalog: str) -> Machine:
    return _read(name)


def _read(name: str) -> Machine:
    first, second, base = _counted(name)
    found = _base(base)
    count = int(first or 1)
    if isinstance(found, System):
        if second is not None:
            hint = f"write {count * int(second)}x{base}"
            raise RidgepointError("bad_machine", f"{name}: {found.name} is a whole system", hint)
        return _compose(name, found.device, nodes=count * found.nodes, per_node=found.devices_per_node)
    if second is not None:
        return _compose(name, found, nodes=count, per_node=int(second))
    largest = _largest_node(found)
    if count > largest and count % largest == 0:
        return _compose(name, found, nodes=count // largest, per_node=largest)
    return _compose(name, found, nodes=1, per_node=count)


def _counted(name: str) -> tuple[str | None, str | None, str]:
    """The counts of a name, and what is counted.

    >>> _counted("16x8xh100-sxm"), _counted("2x7900xtx")
    (('16', '8', 'h100-sxm'), ('2', None, 'rx-7900xtx'))
    """
    match = None if _is_file(name) else _COUNTED.fullmatch(name)
    if match is None:
        return None, None, name
    first, second, base = match.groups()
    last = second or first
    card = f"rx-{last}x{base}" if last else f"rx-{base}"  # a 7900XTX is one card
    if card[3].isdigit() and _path(card.partition("@")[0], "machines") is not None:
        return (first if second else None), None, card
    return first, second, base


def _is_file(name: str) -> bool:
    try:
        return name.endswith(".toml") and Path(name).expanduser().is_file()
    except (OSError, RuntimeError):  # a name that no file can have
        return False


def _base(text: str) -> Device | System:
    """The device or system that a name without counts means."""
    if _is_file(text):
        return _file(text)
    if text == "custom" or text.startswith("custom:"):
        values = parse_spec(text.removeprefix("custom:")) if text != "custom" else {}
        return custom_device({k: v for k, v in values.items() if k != "base"}, _base_of(values.get("base")))
    base, changed, spec = text.partition("@")
    found = _file(base) if base.endswith(".toml") else _named(base)
    if not changed:
        return found
    values = parse_spec(spec)
    if isinstance(found, System):
        device = custom_device(values, found.device)
        return System(found.name, found.title, device, found.devices_per_node, found.nodes, found.sheet)
    return custom_device(values, found)


def _base_of(name: str | None) -> Device | None:
    return None if name is None else find_device(name)


def _named(name: str) -> Device | System:
    folded = _fold(name)
    if folded in device_files():
        return find_device(name)
    exactly = folded in system_files() or folded in _aliases("systems")
    if exactly or (_path(name, "machines") is None and _path(name, "systems") is not None):
        return find_system(name)
    return find_device(name)


def _file(name: str) -> Device:
    try:
        text = Path(name).expanduser().read_text("utf-8")
    except (OSError, ValueError, RuntimeError) as error:
        raise RidgepointError(
            "unknown_machine", f"cannot read the machine file {name}: {error}", "check the path"
        ) from None
    return read_device(text, name)


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
            f"use one node{_sold(device, nodes * per_node)}, or say what it is: {with_options(name, {'network': '50G'})}",
        )
    if per_node > 1 and machine.link("node") is None:
        raise RidgepointError(
            "bad_machine",
            f"{name}: {device.name} has no link between devices in its sheet",
            f"use one device, or say what it is: {with_options(name, {'link': '50G'})}",
        )
    return machine


def _sold(device: Device, count: int) -> str:
    """The systems in the catalogue that are one node of so many of the device: what a hint may offer."""
    sheets = {name: _load_system(path) for name, path in system_files().items()}
    found = [
        n for n, s in sheets.items() if (find_device(s.device).name, s.devices, s.nodes) == (device.name, count, 1)
    ]
    return f" ({' or '.join(found[:3])})" if found else ""


def _largest_node(device: Device) -> int:
    sizes = [link.devices for link in device.links.values() if link.scope == "node" and link.devices]
    return max(sizes, default=USUAL_NODE)


def find_device(name: str) -> Device:
    """The device of that name or alias; case, spaces, dashes and the maker's name do not matter.

    >>> find_device("NVIDIA GeForce RTX 4090").name, find_device("Tesla V100-SXM2-32GB").name
    ('rtx-4090', 'v100-sxm-32gb')
    """
    path = _path(name, "machines")
    if path is None:
        raise _unknown(name)
    return _load(path)


def find_system(name: str) -> System:
    """The system of that name or alias."""
    path = _path(name, "systems")
    if path is None:
        raise _unknown(name)
    sheet = _load_system(path)
    return system_of(sheet, find_device(sheet.device), path.name)


def _path(name: str, kind: str) -> Path | None:
    """The file of the machine or system that a name means: as written in the catalogue, or else but for its maker."""
    files, folded = _files(_catalog(), kind), _fold(name)
    meant = folded if folded in files else _aliases(kind).get(folded)
    if meant is None:
        meant = _bare_table(_catalog(), kind).get(_bare(name)) or _sized(name, kind)
        makers = [_MAKERS[word] for word in _words(name) if word in _MAKERS]
        if makers and meant and not all(_vendor(files[meant]) in maker for maker in makers):
            return None  # an Apple A16 is no NVIDIA A16
    return files.get(meant)


def _sized(name: str, kind: str) -> str:
    """The device of a name that also says its memory or the generation of its socket, where the sheet says the same."""
    stated = _SIZE.search(name)
    shorter = _SOCKET.sub("sxm", name[: stated.start()] if stated else name)
    meant = _bare_table(_catalog(), kind).get(_bare(shorter)) or ""
    if not meant or kind != "machines" or stated is None:
        return meant
    memory = _load(_files(_catalog(), kind)[meant]).memory
    capacity = max(float(level.capacity) for level in memory.values() if level.role == "main") / 1e9
    return meant if abs(float(stated[1]) / capacity - 1.0) < _SAME_SIZE else ""


@cache
def _vendor(path: Path) -> str:
    """Who makes the device of a sheet, or of the system of a sheet, from its text."""
    found = dict(re.findall(r'^(vendor|device)\s*=\s*"([^"]*)"', _text(path), re.MULTILINE))
    device = device_files().get(found.get("device", ""))
    return found.get("vendor") or (_vendor(device) if device else "")


def _unknown(name: str) -> RidgepointError:
    """The error for an unknown name: the nearest names, and what the nearest aliases stand for."""
    known = {bare: meant for kind in ("systems", "machines") for bare, meant in _bare_table(_catalog(), kind).items()}
    close = list(dict.fromkeys(known[found] for found in nearest(_bare(name), filter(known.get, known), count=5)))[:3]
    if not close:
        return unknown_name("machine", name, ())
    return RidgepointError("unknown_machine", f"unknown machine '{name}'", f"did you mean {' or '.join(close)}?")


def device_names() -> list[str]:
    """All device names, sorted."""
    return sorted(device_files())


def system_names() -> list[str]:
    """All system names, sorted."""
    return sorted(system_files())


def names() -> list[str]:
    """Names of devices and systems."""
    return [*device_names(), *system_names()]


def _catalog() -> str:
    return os.environ.get("RIDGEPOINT_CATALOG") or os.path.expanduser("~/.config/ridgepoint")


@cache
def _files(catalog: str, kind: str) -> dict[str, Path]:
    folders = [Path(str(resources.files("ridgepoint.catalog") / kind)), Path(catalog) / kind]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def device_files() -> dict[str, Path]:
    """Name → catalogue file; a user's file replaces a built-in one of the same name."""
    return _files(_catalog(), "machines")


def system_files() -> dict[str, Path]:
    """The same for systems."""
    return _files(_catalog(), "systems")


@cache
def _load(path: Path) -> Device:
    device = read_device(_text(path), path.name)
    _check_name(device.name, path)
    return device


@cache
def _load_system(path: Path) -> SystemSheet:
    sheet = read_system(_text(path), path.name)
    _check_name(sheet.name, path)
    return sheet


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise RidgepointError("bad_machine", f"cannot read {path}: {error}", "check the file") from None


def _check_name(name: str, path: Path) -> None:
    if name != path.stem:
        raise RidgepointError("bad_machine", f"{path.name}: `name` is '{name}'", "name the file after the machine")


@cache
def _alias_table(catalog: str, kind: str) -> dict[str, str]:
    """Folded alias → name, from the text of the files: parsing them all would take longer than an estimate."""
    found = {name: _ALIASES.search(_text(path)) for name, path in _files(catalog, kind).items()}
    return {_fold(alias): name for name, line in found.items() if line for alias in _QUOTED.findall(line[1])}


def _aliases(kind: str) -> dict[str, str]:
    return _alias_table(_catalog(), kind)


@cache
def _bare_table(catalog: str, kind: str) -> dict[str, str]:
    """Bare name or alias → name; what would mean two machines means none."""
    table: dict[str, str] = {}
    for written, name in [*((n, n) for n in _files(catalog, kind)), *_alias_table(catalog, kind).items()]:
        known = table.setdefault(_bare(written), name)
        table[_bare(written)] = name if known == name else ""
    return table


def _bare(name: str) -> str:
    """A name without its maker, trade marks and punctuation: what is left of ``NVIDIA RTX A6000`` is ``rtxa6000``."""
    words = _words(name)
    kept = [word for word in words if word not in _MAKERS] or words
    # Joined by a letter where two numbers meet: 8 480 is not 84 80.
    return re.sub(r"(?<=\d)-(?=\d)", "_", "-".join(kept)).replace("-", "")


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9.+]+", re.sub(r"\((r|tm|c)\)|[®™]", " ", name.lower()))


def _fold(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().lower())
