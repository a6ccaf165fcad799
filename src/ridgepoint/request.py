"""A scenario as people write it: names and sizes as text, from options or from a TOML file (design §10).

model = "llama-3.1-8b"        # or [model] name = …, config = "path/to/config.json"
machine = "8xh100-sxm"        # or [machine] name = …, file = "my.toml"
[task]
name = "decode"
batch = 32
context = "8k"
[plan]
tp = 8
kv = "fp8"
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario, find, scenario
from ridgepoint.tasks import TASKS
from ridgepoint.units import parse_count

Value = str | float | bool
Inputs = tuple[tuple[str, float], ...]
TRAINING_ONLY = ("zero_stage", "recompute", "micro_batch", "optimizer", "schedule", "chunks")
SERVING_ONLY = ("kv",)
_SERVING = ("prefill", "decode", "generate")
_PLAIN_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
_OPTION = {"zero_stage": "--zero", "graph_capture": "--graphs", "compiled": "--mode"}
_KEYS: Mapping[str, tuple[str, ...]] = {"model": ("name", "config"), "machine": ("name", "file")}


@dataclass(frozen=True)
class Request:
    """What was said about a scenario; ``said``: how each key was written (``--context``, ``FILE: task.context``)."""

    model: str | None = None
    machine: str | None = None
    task: str | None = None
    sizes: Mapping[str, Value] = field(default_factory=dict)
    plan: Mapping[str, Value] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)

    def over(self, base: Request) -> Request:
        """This request where it says something, ``base`` elsewhere. Another task keeps only the sizes it takes."""
        sizes = base.sizes
        if self.task is not None and self.task != base.task:
            sizes = {name: value for name, value in sizes.items() if name in _sizes_of(self.task)}
        return Request(
            self.model or base.model,
            self.machine or base.machine,
            self.task or base.task,
            {**sizes, **self.sizes},
            {**base.plan, **self.plan},
            {**base.said, **self.said},
        )


def option(name: str) -> str:
    """The command line's word for a size or a field of a plan.

    >>> option("context"), option("zero_stage"), option("micro_batch")
    ('--context', '--zero', '--micro-batch')
    """
    return _OPTION.get(name, "--" + name.replace("_", "-"))


def to_scenario(request: Request) -> Scenario:
    """The scenario that a request describes.

    Errors: ``bad_request`` for what is missing, ``bad_option`` for what does not belong to the task; those of names,
    sizes and plans.
    """
    if not request.model:
        raise RidgepointError("bad_request", "no model is given", "give a name, a config.json or a scenario file")
    if not request.machine:
        raise RidgepointError(
            "bad_request", "no machine is given", "add --on MACHINE; `ridgepoint machines list` shows all"
        )
    model, machine = find(request.model), find_machine(request.machine)
    task = request.task if request.task is not None else scenario(model, machine).task.name
    _check_task(task)
    _check_belongs(request, task, model.inputs if isinstance(model, Network) else None)
    sizes = {name: _count(name, value, request) for name, value in request.sizes.items()}
    plan = {name: _PLAN[name](name, value, request) for name, value in request.plan.items()}
    return scenario(model, machine, TASKS[task](**sizes), Plan(**plan))


def _check_task(name: str) -> None:
    if name not in TASKS:
        close = nearest(name, TASKS)
        hint = f"did you mean {' or '.join(close)}?" if close else "use one of " + ", ".join(TASKS)
        raise RidgepointError("unknown_task", f"unknown task '{name}'", hint)


def _sizes_of(task: str) -> list[str]:
    return [f.name for f in fields(TASKS[task]) if f.name != "inputs"] if task in TASKS else []


def _check_belongs(request: Request, task: str, inputs: Inputs | None) -> None:
    """Every size and every field of the plan must mean something for the task (and for a network, for its input)."""
    taken = _sizes_of(task)
    if inputs is not None:
        taken = [name for name in taken if name in ("batch", "steps", *dict(inputs))]
    for name in request.sizes:
        if name not in taken:
            raise _foreign(request, name, task, taken, [t for t in TASKS if name in _sizes_of(t) and t != task])
    for name in request.plan:
        if name in TRAINING_ONLY and task != "train":
            raise _foreign(request, name, task, taken, ["train"])
        if name in SERVING_ONLY and task not in _SERVING:
            raise _foreign(request, name, task, taken, list(_SERVING))


def _foreign(request: Request, name: str, task: str, taken: list[str], takers: list[str]) -> RidgepointError:
    default = "" if request.task else ", the default here"
    said = request.said.get(name, option(name))
    belongs = f"; {option(name)} belongs to --task {' or '.join(takers)}" if takers else ""
    hint = f"{task} takes {', '.join(option(size) for size in taken)} here{belongs}"
    return RidgepointError("bad_option", f"{said} does not belong to the task {task}{default}", hint)


def _count(name: str, value: Value, request: Request) -> float:
    try:
        if isinstance(value, bool):
            raise RidgepointError("bad_count", f"'{value}' is not a count", "write it like 32, 8192 or 8k (= 8192)")
        return parse_count(value)
    except RidgepointError as error:
        raise RidgepointError(error.kind, f"{request.said.get(name, name)}: {error.message}", error.hint) from None


def _whole(name: str, value: Value, request: Request) -> float:
    number = _count(name, value, request)
    return int(number) if number.is_integer() else number


def _number(name: str, value: Value, request: Request) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except ValueError:
        said = request.said.get(name, name)
        raise RidgepointError("bad_plan", f"{said}: '{value}' is not a number", "write it like 0.9") from None


def _text(name: str, value: Value, request: Request) -> str:
    if isinstance(value, str):
        return value
    raise RidgepointError("bad_plan", f"{request.said.get(name, name)}: {value!r} is not a name", "write it in quotes")


def _flag(name: str, value: Value, request: Request) -> bool:
    if isinstance(value, bool):
        return value
    raise RidgepointError(
        "bad_plan", f"{request.said.get(name, name)}: {value!r} is neither true nor false", "use one of both"
    )


_PLAN: Mapping[str, Callable[[str, Value, Request], Any]] = {
    **dict.fromkeys(("weights", "acts", "kv", "recompute", "optimizer", "schedule"), _text),
    **dict.fromkeys(("tp", "pp", "dp", "ep", "cp", "micro_batch", "chunks"), _count),
    **dict.fromkeys(("memory_fraction", "expert_imbalance"), _number),
    **dict.fromkeys(("fused_attention", "graph_capture", "compiled", "sequence_parallel", "overlap_gradients"), _flag),
    "zero_stage": _whole,
}


def read_request(path: Path) -> Request:
    """The request in a scenario file; unknown keys are refused with the file, the key and the nearest known one.

    Errors: ``bad_scenario`` with the file and the key.
    """
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise _bad(path, str(error.strerror or error), "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(path, f"not valid TOML: {error}", "fix the line it names") from None
    _known(path, "", raw, ("model", "machine", "task", "plan"))
    task = _table(path, raw, "task")
    _known(path, "task.", task, ("name", *sorted({size for t in TASKS for size in _sizes_of(t)})))
    plan = _table(path, raw, "plan")
    _known(path, "plan.", plan, tuple(_PLAN))
    name = task.pop("name", None)
    if name is not None and not isinstance(name, str):
        raise _bad(path, f"`task.name` is {name!r}", "use one of " + ", ".join(TASKS))
    said = {key: f"{path}: task.{key}" for key in task} | {key: f"{path}: plan.{key}" for key in plan}
    return Request(_subject(path, raw, "model"), _subject(path, raw, "machine"), name, task, plan, said)


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
    for key in table:
        if key not in known:
            close = nearest(key, known, count=1)
            raise _bad(
                path,
                f"unknown key `{prefix}{key}`",
                f"did you mean {close[0]}?" if close else "known: " + ", ".join(known),
            )


def _bad(path: Path, problem: str, hint: str) -> RidgepointError:
    return RidgepointError("bad_scenario", f"{path}: {problem}", hint)


def write_request(request: Request, path: Path) -> None:
    """Write the scenario file of a request, all or nothing."""
    subjects = (("model", request.model), ("machine", request.machine))
    lines = [f"{key} = {_toml(_absolute(value))}" for key, value in subjects if value]
    named = {} if request.task is None else {"name": request.task}
    for title, table in (("task", {**named, **request.sizes}), ("plan", dict(request.plan))):
        if table:
            lines += ["", f"[{title}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    write_whole(path, "\n".join(lines) + "\n")


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


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all.

    Errors: ``bad_file`` where the folder cannot be written to.
    """
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError as error:
        raise RidgepointError(
            "bad_file", f"cannot write {path}: {error.strerror or error}", "choose another file"
        ) from None
