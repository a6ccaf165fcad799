"""Finding models by name: catalogue files, aliases, a user's own files, and any ``config.json`` by its path.

``RIDGEPOINT_CATALOG`` names a folder (by default ``~/.config/ridgepoint``) whose ``models/*.toml`` come before the
built-in ones. A look-up scans the built-in files as text and parses only the entry that it needs.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import replace as changed
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.models.architecture import Model
from ridgepoint.models.huggingface import read_config
from ridgepoint.models.parameters import total_parameters
from ridgepoint.models.toml_text import toml_lines

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_NEEDED = "an entry has name, title, released, parameters, parameters_source, config_source and a table config"
MOST_BYTES = 16_000_000
"""A larger file is not a configuration."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[model]]`` table: what a publisher says about a model, and its configuration in Hugging Face's keys."""

    name: str
    title: str
    released: int
    parameters: float
    parameters_source: str
    config_source: str
    config: dict[str, Any]
    aliases: tuple[str, ...] = ()
    active_parameters: float = 0.0
    note: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: tuple[Entry, ...]


def find_model(name_or_path: str | Path) -> Model:
    """The model of that name or alias (case does not matter), or that a ``config.json`` or a folder with one describes.

    >>> model = find_model("Llama-3.1-8B")
    >>> model.name, model.main.depth, model.hidden
    ('llama-3.1-8b', 32, 4096)

    Errors: ``unknown_model`` with the nearest names; ``bad_config`` for a configuration that cannot be read.
    """
    text = str(name_or_path).strip()
    own = _user_entry(fold(text))
    found = _built_in(fold(text)) if own is None else _build(own)
    if found is not None:
        return found
    path = _config_path(text)
    if path is not None:
        name = path.parent.resolve().name if path.name == "config.json" else path.stem
        return read_config(_model_config(path), str(path), name)
    if text.endswith(".json"):
        raise RidgepointError("unknown_model", f"there is no file {text}", "check the path")
    tuned = _built_in(_untuned(fold(text)))
    if tuned is not None:
        return tuned
    raise _not_a_transformer(text) or unknown_name("model", text, [*model_names(), *_alias_names()])


def _not_a_transformer(name: str) -> RidgepointError | None:
    """The error for the name of a network, which the catalogue has but which no ``Model`` describes."""
    from ridgepoint.models.networks.catalog import find_network

    if not name or find_network(name) is None:
        return None
    hint = "`rp.estimate`, `ridgepoint analyze` and `models show` take its name as it is"
    return RidgepointError("unknown_model", f"'{name}' is a network, not a transformer", hint)


def find_entry(name: str) -> Entry | None:
    """The catalogue entry of that name or alias; a user's entry comes before a built-in one."""
    own, block = _user_entry(fold(name)), _index().get(fold(name))
    return own or (None if block is None else _parse(*block))


def _user_entry(folded: str) -> Entry | None:
    entries = _user_entries(user_catalog())
    return next((entry for entry in entries if folded in map(fold, (entry.name, *entry.aliases))), None)


def model_names() -> list[str]:
    """All names in the catalogue, sorted."""
    return sorted({name for name, _, _ in _blocks()} | {entry.name for entry in _user_entries(user_catalog())})


def model_entries() -> list[Entry]:
    """All catalogue entries by name, without building the models."""
    built_in = {entry.name: entry for path in _files() for entry in read_entries(path.read_text("utf-8"), path.name)}
    own = {entry.name: entry for entry in _user_entries(user_catalog())}
    return [entry for _, entry in sorted({**built_in, **own}.items())]


def read_entries(text: str, where: str) -> tuple[Entry, ...]:
    """The entries of a catalogue file; unknown keys are refused with their path.

    Errors: ``bad_model`` with the file and what is wrong in it.
    """
    try:
        return msgspec.convert(tomllib.loads(text), _File).model
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RidgepointError("bad_model", f"{where} is not valid TOML: {error}", "fix the line it names") from None
    except msgspec.ValidationError as error:
        raise RidgepointError("bad_model", f"{where}: {error}".replace("`$.", "`"), _NEEDED) from None


def load_config(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file.

    Errors: ``bad_config`` for a file that cannot be read or is not JSON.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RidgepointError(
                "bad_config", f"{path}: larger than {MOST_BYTES // 10**6} MB", "give the model's config.json"
            )
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RidgepointError("bad_config", f"{path}: {error.strerror or error}", "check the path") from None
    except (ValueError, RecursionError) as error:
        raise RidgepointError(
            "bad_config", f"{path} is not valid JSON: {error}", "give the model's config.json"
        ) from None
    if not isinstance(config, dict):
        raise RidgepointError("bad_config", f"{path}: it must hold a JSON object", "give the model's config.json")
    return config


def _model_config(path: Path) -> Mapping[str, Any]:
    """The configuration with the formats that ModelOpt writes into a file beside it."""
    config, beside = load_config(path), path.parent / "hf_quant_config.json"
    if "quantization_config" in config or not beside.is_file():
        return config
    quantization = load_config(beside).get("quantization")
    more = quantization if isinstance(quantization, dict) else {}
    return {**config, "quantization_config": {"quant_method": "modelopt", **more}}


def import_model(config_path: str | Path, name: str, replace: bool = False) -> Path:
    """Add a ``config.json`` (or the folder with one) to the user's catalogue under ``name``; returns the file written.

    Errors: ``bad_name``; ``bad_config``; ``exists`` where the catalogue has that name and ``replace`` is not given.
    """
    folded = fold(name)
    if not _NAME.fullmatch(folded):
        raise RidgepointError(
            "bad_name", f"'{name[:40]}' is no model name", "use letters, digits, '.', '_' and '-', at most 100"
        )
    path = _config_path(str(config_path))
    if path is None:
        raise RidgepointError("bad_config", f"there is no file {config_path}", "check the path")
    config = _model_config(path)
    model = read_config(config, str(path), folded)
    target = user_catalog() / "models" / f"{folded}.toml"
    if not replace and (target.exists() or find_entry(folded) is not None):
        raise RidgepointError(
            "exists", f"the catalogue already has a model '{folded}'", "choose another name, or replace it"
        )
    _write(target, _entry_text(folded, path, config, total_parameters(model)))
    return target


def _entry_text(name: str, path: Path, config: Mapping[str, Any], total: float) -> str:
    head = {
        "name": name,
        "title": name,
        "released": datetime.date.today().year,
        "parameters": total,
        "parameters_source": "counted from the configuration",
        "config_source": str(path.resolve()),
    }
    lines = ["[[model]]", *toml_lines(head), "", "[model.config]", *toml_lines(config)]
    return "\n".join(lines) + "\n"


def _write(target: Path, text: str) -> None:
    """Write beside the target and move it there, so that no reader sees half a file."""
    try:
        read_entries(text, target.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, suffix=".tmp", delete=False) as file:
            file.write(text)
        os.replace(file.name, target)
    except OSError as error:
        raise RidgepointError(
            "cannot_write", f"{target}: {error.strerror or error}", "set RIDGEPOINT_CATALOG"
        ) from None


def user_catalog() -> Path:
    """The folder of a user's own catalogue."""
    return _user_catalog(os.environ.get("RIDGEPOINT_CATALOG", ""), os.environ.get("HOME", ""))


@cache
def _user_catalog(named: str, _home: str) -> Path:
    return Path(named) if named else Path.home() / ".config" / "ridgepoint"


def fold(name: str) -> str:
    """A name as look-ups compare it.

    >>> fold(" meta-llama/Llama 3.1_8B ")
    'meta-llama/llama-3.1-8b'
    """
    return re.sub(r"[\s_]+", "-", name.strip().lower())


_TUNED = re.compile(r"(-(instruct|chat|it|(?<=\db-)base|hf|thinking|preview|\d{4}))+$")
"""Ends of names that say how a model was trained further, and when: never another shape (``t5-base`` is a size)."""


def _untuned(folded: str) -> str:
    """A name without its publisher and what it was tuned for.

    >>> _untuned("moonshotai/kimi-k2-thinking"), _untuned("qwen3-8b-base"), _untuned("t5-base")
    ('kimi-k2', 'qwen3-8b', 't5-base')
    """
    return _TUNED.sub("", folded.rpartition("/")[2])


def _config_path(text: str) -> Path | None:
    """The configuration file that a path names, if there is one."""
    if not text or "\0" in text:
        return None
    try:
        path = Path(text).expanduser()
        if path.is_dir() and (path / "config.json").is_file():
            return path / "config.json"
        return path if path.is_file() else None
    except (OSError, RuntimeError):  # RuntimeError: the home of a user that does not exist
        return None


@cache
def _built_in(folded: str) -> Model | None:
    block = _index().get(folded)
    return None if block is None else _build(_parse(*block))


def _build(entry: Entry) -> Model:
    model = read_config(entry.config, f"catalogue entry {entry.name}", entry.name)
    return changed(
        model,
        title=entry.title,
        source=entry.config_source,
        published_parameters=entry.parameters,
        published_active=entry.active_parameters,
        notes=(*model.notes, entry.note) if entry.note else model.notes,
    )


@cache
def _files() -> tuple[Path, ...]:
    return tuple(sorted(Path(str(resources.files("ridgepoint.catalog") / "models")).glob("*.toml")))


@cache
def _blocks() -> tuple[tuple[str, str, str], ...]:
    """(name, file, text) of every built-in entry. The house writes ``[[model]]`` and ``name`` on lines of their own."""
    found = []
    for path in _files():
        for text in re.split(r"(?m)^\[\[model\]\]$", path.read_text("utf-8"))[1:]:
            named = re.search(r'(?m)^name = "([^"]+)"$', text)
            if named is None:
                raise RidgepointError("bad_model", f"{path.name}: an entry has no name", 'write name = "…" first')
            found.append((named[1], path.name, text))
    return tuple(found)


@cache
def _index() -> dict[str, tuple[str, str]]:
    """Folded name or alias → (file, text) of the built-in entry; names win over aliases."""
    index = {fold(alias): (file, text) for _, file, text in _blocks() for alias in _aliases(text)}
    return {**index, **{fold(name): (file, text) for name, file, text in _blocks()}}


def _aliases(text: str) -> list[str]:
    written = re.search(r"(?ms)^aliases = \[(.*?)\]", text.partition("[model.config]")[0])
    return re.findall(r'"([^"]+)"', written[1]) if written else []


def _alias_names() -> list[str]:
    return [alias for _, _, text in _blocks() for alias in _aliases(text)]


@cache
def _parse(file: str, text: str) -> Entry:
    return read_entries("[[model]]" + text, file)[0]


def _user_entries(catalog: Path) -> tuple[Entry, ...]:
    folder = catalog / "models"
    files = sorted(folder.glob("*.toml")) if folder.is_dir() else []
    return tuple(entry for path in files for entry in _read_file(path, path.stat().st_mtime_ns))


@cache
def _read_file(path: Path, _modified: int) -> tuple[Entry, ...]:
    return read_entries(path.read_text("utf-8"), path.name)
