"""A graph of calls as a TOML file, read strictly.

batch = 512                   # sequences of a call that gives none of its own; so prompt and output
prompt = "1k"
output = "1k"
machine = "2x8xh100-sxm"      # unless --on is given
[groups]                      # optional: devices by name; calls without a group have all
writers = 8
[models.actor]
model = "llama-3.1-8b"        # a name, a config.json
rest = "device"               # or "host": where it lies while others are called
[[call]]
name = "generate"
model = "actor"
kind = "generate"             # generate, score or train
after = []
group = "writers"
steps = 1                     # optimizer steps of a train call
plan = { tp = 4 }             # fields of a plan that are fixed
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.files import check_keys, read_toml
from ridgepoint.models.architecture import Model
from ridgepoint.scenario import find
from ridgepoint.training.graph.graph import Call, Graph, Member
from ridgepoint.training.space import base_plan
from ridgepoint.units import parse_count

KIND = "bad_graph"
"""What errors of graphs are called."""
_TOP = ("machine", "batch", "prompt", "output", "groups", "models", "call")
_MEMBER = ("model", "rest")
_CALL = ("name", "model", "kind", "batch", "prompt", "output", "steps", "after", "group", "plan")
_SIZES = ("batch", "prompt", "output")


def read_graph(path: Path) -> tuple[Graph, str | None]:
    """The graph of a file, and the machine that it names.

    Errors: ``bad_graph`` with the file and the key; those of names.
    """
    raw = read_toml(path, KIND)
    _known(path, "", raw, _TOP)
    members = {name: _member(path, name, table) for name, table in _table(path, raw, "models").items()}
    calls = raw.get("call", [])
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise _bad(path, "`call` is no list of tables", "write [[call]] before each call")
    groups = {name: _size(path, f"groups.{name}", size) for name, size in _table(path, raw, "groups").items()}
    sizes = {name: raw[name] for name in _SIZES if name in raw}
    machine = raw.get("machine")
    if machine is not None and not isinstance(machine, str):
        raise _bad(path, f"`machine` is {machine!r}", 'write machine = "8xh100-sxm"')
    return Graph(members, tuple(_call(path, i, sizes | call) for i, call in enumerate(calls)), groups), machine


def graph_model(name: str) -> Model:
    """A transformer by its name or file.

    Errors: those of names; ``bad_model`` for networks.
    """
    found = find(name)
    if not isinstance(found, Model):
        raise RidgepointError("bad_model", f"{found.name} is a network", "graphs are planned for transformers")
    return found


def _member(path: Path, name: str, table: Any) -> Member:
    if not isinstance(table, dict):
        raise _bad(path, f"`models.{name}` is {table!r}", 'write it as a table with model = "llama-3.1-8b"')
    _known(path, f"models.{name}.", table, _MEMBER)
    model = table.get("model")
    if not isinstance(model, str):
        raise _bad(path, f"`models.{name}.model` is missing", 'write model = "llama-3.1-8b"')
    return Member(name, graph_model(model), str(table.get("rest", "device")))


def _call(path: Path, i: int, table: Mapping[str, Any]) -> Call:
    at = f"call[{i + 1}]"
    _known(path, f"{at}.", table, _CALL)
    for name in ("name", "model", "kind"):
        if not isinstance(table.get(name), str):
            raise _bad(path, f"`{at}.{name}` is missing", "give every call a name, a model and a kind")
    missing = [name for name in _SIZES if name not in table]
    if missing:
        raise _bad(path, f"{at} has no {missing[0]}", f"give it {missing[0]} = …, or the whole file")
    after = table.get("after", [])
    if not isinstance(after, list) or not all(isinstance(name, str) for name in after):
        raise _bad(path, f"`{at}.after` is {after!r}", 'write after = ["generate"]')
    plan = table.get("plan", {})
    if not isinstance(plan, dict):
        raise _bad(path, f"`{at}.plan` is {plan!r}", "write plan = { tp = 4 }")
    base_plan(plan)  # what is wrong with a field is said here
    batch, prompt, output, steps = (_size(path, f"{at}.{name}", table.get(name, 1)) for name in (*_SIZES, "steps"))
    group = str(table.get("group", ""))
    named = (table["name"], table["model"], table["kind"])
    return Call(*named, batch, prompt, output, steps, tuple(after), group, dict(plan))


def _table(path: Path, raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = raw.get(name, {})
    if not isinstance(found, dict):
        raise _bad(path, f"`{name}` is {found!r}", f"write it as a table [{name}]")
    return found


def _size(path: Path, at: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _bad(path, f"`{at}` is {value!r}", "write a count like 512 or 1k")
    try:
        found = parse_count(value)
    except RidgepointError as error:
        raise _bad(path, f"`{at}`: {error.message}", error.hint) from None
    if found < 1 or found != int(found):
        raise _bad(path, f"`{at}` is {found:g}", "write a whole number of at least 1")
    return int(found)


def _known(path: Path, at: str, table: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    check_keys(path, KIND, at, table, keys)


def _bad(path: Path, message: str, hint: str) -> RidgepointError:
    return RidgepointError(KIND, f"{path}: {message}", hint)
