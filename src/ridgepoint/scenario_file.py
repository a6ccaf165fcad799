"""Scenario files: a whole request in TOML, read strictly and written whole (design §10).

model = "llama-3.1-8b"        # or [model] name = …, config = "path/to/config.json"
machine = "8xh100-sxm"        # or [machine] name = …, file = "my.toml"
[task]
name = "decode"
batch = 32
context = "8k"
[task.inputs]                 # further sizes of a network's input
nodes = 1000
[plan]
tp = 8
kv = "fp8"

Techniques are a list beside model and machine: ``apply = ["kv-quantization:format=int4"]``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.files import check_keys, read_toml, write_whole
from ridgepoint.request import PLAN_KEYS, Request, Value, sizes_of
from ridgepoint.tasks import TASKS

KIND = "bad_scenario"
"""What errors of scenario files are called."""
_PLAIN_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
_KEYS: Mapping[str, tuple[str, ...]] = {"model": ("name", "config"), "machine": ("name", "file")}


def read_request(path: Path) -> Request:
    """The request in a scenario file; unknown keys are refused with the file, the key and the nearest known one.

    Errors: ``bad_scenario`` with the file and the key.
    """
    raw = read_toml(path, KIND)
    _known(path, "", raw, ("model", "machine", "apply", "task", "plan"))
    task, inputs = _task(path, raw)
    plan = _table(path, raw, "plan")
    _known(path, "plan.", plan, PLAN_KEYS)
    name = task.pop("name", None)
    if name is not None and not isinstance(name, str):
        raise _bad(path, f"`task.name` is {name!r}", "use one of " + ", ".join(TASKS))
    said = {key: f"{path}: task.{key}" for key in task} | {key: f"{path}: plan.{key}" for key in plan}
    said |= {key: f"{path}: task.inputs.{key}" for key in inputs}
    subjects = _subject(path, raw, "model"), _subject(path, raw, "machine")
    return Request(*subjects, name, task, plan, inputs, _techniques(path, raw), said)


def _techniques(path: Path, raw: dict[str, Any]) -> tuple[str, ...]:
    written = raw.get("apply", [])
    if not isinstance(written, list) or not all(isinstance(text, str) for text in written):
        raise _bad(path, f"`apply` is {written!r}", 'write a list of techniques: apply = ["kv-quantization"]')
    return tuple(written)


def _task(path: Path, raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables ``[task]`` and ``[task.inputs]``."""
    written = raw.get("task", {})
    inputs = _table(path, {"inputs": written.get("inputs", {})}, "inputs") if isinstance(written, dict) else {}
    rest = {key: value for key, value in written.items() if key != "inputs"} if isinstance(written, dict) else written
    task = _table(path, {"task": rest}, "task")
    _known(path, "task.", task, ("name", *sorted({size for t in TASKS for size in sizes_of(t)})))
    return task, inputs


def _subject(path: Path, raw: dict[str, Any], table: str) -> str | None:
    """A name, or a path that is looked for beside the scenario file first."""
    value = raw.get(table)
    if isinstance(value, dict):
        _known(path, f"{table}.", value, _KEYS[table])
        if len(value) != 1:
            raise _bad(path, f"`{table}` needs one of {' and '.join(_KEYS[table])}", "give exactly one")
        value = next(iter(value.values()))
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value:
        raise _bad(path, f"`{table}` is {value!r}", "write a name or a path in quotes")
    return _beside(path.parent, value)


def _beside(folder: Path, name: str) -> str:
    try:
        return str(folder / name) if _is_path(name) and (folder / name).exists() else name
    except OSError:  # a name that no file can have
        return name


def _table(path: Path, raw: dict[str, Any], name: str) -> dict[str, Any]:
    found = raw.get(name, {})
    if not isinstance(found, dict):
        raise _bad(path, f"`{name}` is {found!r}", f"write it as a table [{name}]")
    for key, value in found.items():
        if not isinstance(value, str | int | float | bool):
            raise _bad(path, f"`{name}.{key}` is {value!r}", "write one number or one name")
    return dict(found)


def _known(path: Path, prefix: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    check_keys(path, KIND, prefix, table, known)


def _bad(path: Path, problem: str, hint: str) -> RidgepointError:
    return RidgepointError(KIND, f"{path}: {problem}", hint)


def write_request(request: Request, path: Path) -> None:
    """Write the scenario file of a request, all or nothing."""
    write_whole(path, request_text(request))


def request_text(request: Request) -> str:
    """The scenario file of a request.

    >>> print(request_text(Request("gpt2", "t4", "decode", {"batch": 4.0})), end="")
    model = "gpt2"
    machine = "t4"
    <BLANKLINE>
    [task]
    name = "decode"
    batch = 4.0
    """
    subjects = (("model", request.model), ("machine", request.machine))
    lines = [f"{key} = {_toml(_absolute(value))}" for key, value in subjects if value]
    if request.apply:
        lines.append(f"apply = [{', '.join(json.dumps(text, ensure_ascii=False) for text in request.apply)}]")
    named = {} if request.task is None else {"name": request.task}
    tables = {"task": {**named, **request.sizes}, "task.inputs": dict(request.inputs), "plan": dict(request.plan)}
    for title, table in tables.items():
        if table:
            lines += ["", f"[{title}]", *(f"{_key(key)} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _absolute(name: str) -> str:
    """A path that holds from everywhere; a name as it is."""
    try:
        path = Path(name).expanduser()
        return str(path.resolve()) if _is_path(name) and path.exists() else name
    except (OSError, RuntimeError):  # a name that no file can have
        return name


def _is_path(name: str) -> bool:
    return name.endswith((".json", ".toml")) or "/" in name


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if _PLAIN_NUMBER.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
