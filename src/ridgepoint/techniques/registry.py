"""Registering techniques, finding them by name, applying them as written on the command line.

>>> from ridgepoint.scenario import scenario
>>> given = scenario("llama-3.1-8b", "h100-sxm", "decode")
>>> applied(given, ["kv-quantization:format=int4"]).plan.kv
'int4'
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ridgepoint import techniques as package
from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.scenario import Scenario
from ridgepoint.techniques.order import stage
from ridgepoint.techniques.technique import Change, Condition, Parameter, Technique, always, conflict

GROUP = "ridgepoint.techniques"
"""Entry points of this group name modules that register techniques when they are imported."""

_REGISTERED: dict[str, Technique] = {}
_loaded = False


def technique(
    name: str,
    *,
    title: str,
    mechanism: tuple[str, ...],
    quality: str,
    grade: str,
    papers: tuple[str, ...] = (),
    cannot: Condition = always,
    parameters: tuple[Parameter, ...] = (),
    occupies: Iterable[str] = (),
    training_free: bool = True,
    neutral: Mapping[str, Any] | None = None,
    presumes: str = "",
) -> Callable[[Change], Change]:
    """Registers the decorated function as the technique ``name``; its docstring is the technique's documentation.

    The function takes a scenario and the parameters' values and returns the changed scenario.

    Errors: ``bad_technique`` for a name that is taken.
    """

    def register(change: Change) -> Change:
        added = Technique(
            name, title, mechanism, papers, quality, grade, change, cannot, parameters, frozenset(occupies),
            training_free, neutral, presumes, change.__doc__ or "",
        )  # fmt: skip
        present = _REGISTERED.get(name)
        if present is not None and present.change.__module__ != change.__module__:
            raise RidgepointError("bad_technique", f"the technique {name} exists already", "choose another name")
        _REGISTERED[name] = added
        return change

    return register


def techniques() -> dict[str, Technique]:
    """All techniques by name: the built-in ones, and those of installed packages."""
    _load()
    return dict(sorted(_REGISTERED.items()))


def find_technique(name: str) -> Technique:
    """The technique of that name.

    Errors: ``unknown_technique`` with the nearest names.
    """
    _load()
    if name not in _REGISTERED:
        raise unknown_name("technique", name, _REGISTERED)
    return _REGISTERED[name]


def load_file(path: Path) -> None:
    """Runs a Python file of the user's that registers techniques.

    Errors: ``bad_file`` where it cannot be read or fails.
    """
    spec = importlib.util.spec_from_file_location(f"ridgepoint_user_{path.stem}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise RidgepointError("bad_file", f"cannot read {path}", "give a Python file that registers techniques")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except RidgepointError:
        raise
    except Exception as error:
        raise RidgepointError("bad_file", f"{path} fails: {type(error).__name__}: {error}", "mend the file") from error


def _load() -> None:
    global _loaded
    if _loaded:
        return
    _loaded = True
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for entry in entry_points(group=GROUP):
        entry.load()


def parse(text: str) -> tuple[Technique, dict[str, str]]:
    """The technique and its given parameters in ``name:key=value,key=value``.

    >>> found, given = parse("kv-quantization:format=int4")
    >>> found.name, given
    ('kv-quantization', {'format': 'int4'})
    """
    name, _, rest = text.partition(":")
    found, given = find_technique(name.strip()), {}
    for piece in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not key or not value:
            raise RidgepointError("bad_technique", f"'{text}': '{piece}' is no parameter", f"write {name}:key=value")
        given[key] = value
    return found, given


def applied(given: Scenario, texts: Iterable[str]) -> Scenario:
    """``given`` with techniques applied, in the order of ``techniques/order.py`` whatever the order of ``texts``.

    Errors: ``conflict`` for two that change the same thing; ``not_applicable``, ``bad_technique``, ``unknown_technique``.
    """
    if isinstance(texts, str):
        raise RidgepointError("bad_technique", f"'{texts}' is one text", f'give a list of techniques: ["{texts}"]')
    done = [parse(text)[0] for text in given.techniques]
    new = [parse(text) for text in texts]
    for found, _ in new:
        _check_room(found, done)
        done.append(found)
    changed = given
    for found, values in sorted(new, key=lambda item: (stage(item[0]), item[0].name)):
        changed = _staged(changed, found.apply(changed, values), stage(found))
    return replace(changed, techniques=(*given.techniques, *(found.written(values) for found, values in new)))


def _check_room(found: Technique, done: Iterable[Technique]) -> None:
    """Refuse a technique that changes what another one changes already."""
    for before in done:
        both = conflict(before, found)
        if both:
            raise RidgepointError(
                "conflict", f"{before.name} and {found.name} both change: {both}", "apply one of the two"
            )


def _staged(before: Scenario, after: Scenario, at: int) -> Scenario:
    """``after`` with its new edits put at their stage among the others."""
    known = set(map(id, before.edits))
    edits = [edit if id(edit) in known else replace(edit, stage=at) for edit in after.edits]
    return replace(after, edits=tuple(sorted(edits, key=lambda edit: edit.stage)))


def sources(texts: Iterable[str]) -> tuple[str, ...]:
    """One line per applied technique: its title and the papers that it stands on."""
    found = [parse(text)[0] for text in texts]
    return tuple(f"technique {t.name}: {t.title} ({', '.join(t.papers) or 'no paper'})" for t in found)
