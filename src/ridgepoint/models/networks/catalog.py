"""Finding networks by name in ``catalog/networks/*.toml`` and in a user's own folder.

A file holds ``[[network]]`` tables, and ``[[group]]`` tables whose ``members`` are one line each.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from ridgepoint.errors import RidgepointError
from ridgepoint.models.catalog import fold, user_catalog
from ridgepoint.models.networks.network import Network


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[network]]`` table: a configuration of a family, and what its publisher states about it."""

    name: str
    title: str
    family: str
    released: int
    source: str
    parameters: float = 0.0
    macs: float = 0.0
    domain: str = "vision"
    aliases: tuple[str, ...] = ()
    note: str = ""
    config: dict[str, Any] = {}
    inputs: dict[str, float] = {}
    sampling: dict[str, float] = {}


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a ``[group.members]`` table: what sets a network apart from the others of its group."""

    title: str = ""
    released: int = 0
    source: str = ""
    parameters: float = 0.0
    macs: float = 0.0
    aliases: tuple[str, ...] = ()
    note: str = ""
    config: dict[str, Any] = {}
    inputs: dict[str, float] = {}


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ``[[group]]`` table: networks of one family that share a source and most options, one line each."""

    title: str
    family: str
    released: int
    source: str
    members: dict[str, Member]
    domain: str = "vision"
    note: str = ""
    config: dict[str, Any] = {}
    inputs: dict[str, float] = {}

    def entries(self) -> Iterator[Entry]:
        """One entry for each member; its own options replace the group's."""
        for name, member in self.members.items():
            yield Entry(
                name=name,
                title=member.title or f"{self.title} ({name})",
                family=self.family,
                released=member.released or self.released,
                source=member.source or self.source,
                parameters=member.parameters,
                macs=member.macs,
                domain=self.domain,
                aliases=member.aliases,
                note=member.note or self.note,
                config={**self.config, **member.config},
                inputs={**self.inputs, **member.inputs},
            )


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    network: tuple[Entry, ...] = ()
    group: tuple[Group, ...] = ()


def find_network(name: str) -> Network | None:
    """The network of that name or alias, or None. The tag of a set of weights after a dot does not matter.

    >>> find_network("resnet-50").option("depths")
    (3, 4, 6, 3)
    >>> find_network("timm/resnet50.a1_in1k").name
    'resnet50'
    """
    folded, own = fold(name), user_catalog()
    entry = _entry(folded, own) or _entry(folded.removeprefix("timm/").partition(".")[0], own)
    return None if entry is None else to_network(entry)


def network_entries() -> list[Entry]:
    """All entries by name."""
    return sorted({id(e): e for e in _index(user_catalog()).values()}.values(), key=lambda e: e.name)


def network_names() -> list[str]:
    """All names, sorted."""
    return [entry.name for entry in network_entries()]


def to_network(entry: Entry) -> Network:
    """The value that an entry describes."""
    return Network(
        name=entry.name,
        family=entry.family,
        config=tuple((key, _frozen(value)) for key, value in entry.config.items()),
        inputs=tuple(entry.inputs.items()),
        sampling=tuple(entry.sampling.items()),
        domain=entry.domain,
        title=entry.title,
        source=entry.source,
        released=entry.released,
        published_parameters=entry.parameters,
        published_macs=entry.macs,
        notes=(entry.note,) if entry.note else (),
    )


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in value.items())
    return value


def read_entries(text: str, where: str) -> tuple[Entry, ...]:
    """The entries of one file; unknown keys are refused with their path.

    Errors: ``bad_model`` with the file and what is wrong in it.
    """
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise RidgepointError("bad_model", f"{where} is not valid TOML: {error}", "fix the line it names") from None
    except msgspec.ValidationError as error:
        needed = "an entry has name, title, family, released, source and tables config, inputs, sampling"
        raise RidgepointError("bad_model", f"{where}: {error}".replace("`$.", "`"), needed) from None
    return (*file.network, *(entry for group in file.group for entry in group.entries()))


@cache
def _files(own: Path) -> tuple[tuple[Path, str], ...]:
    """Every file with its text, folded as names are; a user's files come last."""
    folders = (Path(str(resources.files("ridgepoint.catalog") / "networks")), own / "networks")
    paths = [path for folder in folders for path in sorted(folder.glob("*.toml"))]
    return tuple((path, fold(path.read_text("utf-8"))) for path in paths)


@cache
def _entries(path: Path) -> dict[str, Entry]:
    """Folded name or alias → entry of one file."""
    entries = read_entries(path.read_text("utf-8"), path.name)
    return {fold(name): entry for entry in entries for name in (entry.name, *entry.aliases)}


@cache
def _entry(folded: str, own: Path) -> Entry | None:
    """The entry of a folded name; only files that mention it are parsed. A user's entry replaces a built-in one."""
    mentioned = (path for path, text in reversed(_files(own)) if folded in text)
    return next((found for path in mentioned if (found := _entries(path).get(folded)) is not None), None)


@cache
def _index(own: Path) -> dict[str, Entry]:
    """Folded name or alias → entry, of all files."""
    return {name: entry for path, _ in _files(own) for name, entry in _entries(path).items()}
