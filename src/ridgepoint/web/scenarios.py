"""From a JSON body to a scenario. Names are names of the catalogue: over HTTP nothing is read from paths.

The body is a scenario file in JSON: ``{"model", "machine", "apply", "task": {"name", sizes …, "inputs"}, "plan"}``; ``model``
may be ``{"config": {…}, "name": …}``, a pasted ``config.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ridgepoint.errors import RidgepointError, nearest, unknown_name
from ridgepoint.models.architecture import Model
from ridgepoint.models.catalog import find_entry, find_model, model_names
from ridgepoint.models.huggingface import read_config
from ridgepoint.models.networks.catalog import find_network, network_names
from ridgepoint.models.networks.network import Network
from ridgepoint.request import PLAN_KEYS, Request, sizes_of, to_scenario
from ridgepoint.scenario import Scenario
from ridgepoint.tasks import TASKS
from ridgepoint.techniques.registry import parse

KEYS = ("model", "machine", "apply", "task", "plan")
PASTED = "config.json"
"""What a pasted configuration is called in commands and scenario files."""
LONGEST_NAME = 300
MOST_TECHNIQUES = 16
LABELS = ("within", "operators")
"""Parameters of techniques that are patterns of labels; other names without choices are models."""
_PATHS = ("/", "\\", "~", "\0", "..")


@dataclass(frozen=True)
class Asked:
    """What a body asks: the request, and the model where one was pasted."""

    request: Request
    model: Model | Network | None = None

    @property
    def resolve(self) -> Callable[[Request], Scenario]:
        """From a request to its scenario; checks names that a sweep put in place of those that were read."""

        def resolved(request: Request) -> Scenario:
            own = self.model if request.model == self.request.model else None
            checked_machine(request.machine or "")
            return to_scenario(request, own or catalogue_model(request.model or ""))

        return resolved

    @property
    def scenario(self) -> Scenario:
        """The scenario that is asked about."""
        return self.resolve(self.request)


def read_scenario(body: object) -> Asked:
    """The request in a body.

    Errors: ``bad_request`` with the key; those of names.
    """
    given = table(body, "the scenario", KEYS)
    model, name = _model(given.get("model"))
    task = dict(table(given.get("task", {}), "task"))
    inputs = table(task.pop("inputs", {}), "task.inputs")
    task_name = task.pop("name", None)
    if task_name is not None and not isinstance(task_name, str):
        raise bad(f"task.name is {task_name!r}", "use one of " + ", ".join(TASKS))
    sizes = _values(table(task, "task", [s for t in TASKS for s in sizes_of(t)]), "task")
    plan = _values(table(given.get("plan", {}), "plan", PLAN_KEYS), "plan")
    machine = given.get("machine")
    request = Request(
        model=name,
        machine=checked_machine(machine) if machine is not None else None,
        task=task_name,
        sizes=sizes,
        plan=plan,
        inputs=_values(inputs, "task.inputs"),
        apply=_techniques(given.get("apply", [])),
        said={key: f"task.{key}" for key in (*sizes, *inputs)} | {key: f"plan.{key}" for key in plan},
    )
    return Asked(request, model)


def bad(problem: str, hint: str) -> RidgepointError:
    """A body that cannot be read."""
    return RidgepointError("bad_request", problem, hint)


def table(value: object, where: str, known: Any = None) -> Mapping[str, Any]:
    """A JSON object; unknown keys are refused with the nearest."""
    if not isinstance(value, dict):
        raise bad(f"{where} is not a JSON object", "write it as {…}")
    for key in value if known is not None else ():
        if key not in known:
            close = nearest(key, known, count=1)
            raise bad(
                f"{where} has no '{key[:40]}'", f"did you mean {close[0]}?" if close else "known: " + ", ".join(known)
            )
    return value


def _values(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    for key, value in values.items():
        if not isinstance(value, str | int | float | bool) or (isinstance(value, str) and len(value) > LONGEST_NAME):
            raise bad(f"{where}.{key[:40]} is no value", "write one number or one short name")
    return dict(values)


def _techniques(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and len(v) <= LONGEST_NAME for v in value):
        raise bad("apply is no list of techniques", 'write it like ["kv-quantization:format=int4"]')
    if len(value) > MOST_TECHNIQUES:
        raise bad(f"{len(value)} techniques", f"apply at most {MOST_TECHNIQUES}")
    return checked_techniques(tuple(value))


def checked_techniques(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Techniques whose models are those of the catalogue, none that a path describes.

    Errors: those of technique, parameter and model names.
    """
    for text in texts:
        found, given = parse(text)
        for parameter in found.parameters:
            value = given.get(parameter.name, parameter.default)
            named = isinstance(parameter.default, str) and not parameter.choices and parameter.name not in LABELS
            if named and value not in (parameter.default, "none"):
                catalogue_model(str(value))
    return texts


def checked_machine(name: object) -> str:
    """A machine's name that is no path.

    Errors: ``bad_request``.
    """
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        raise bad("machine is no name", "write it like 8xh100-sxm")
    if ".toml" in name.lower() or any(part in name for part in _PATHS):
        raise bad(
            "files are not read over HTTP", "use a name of the catalogue, or custom:bf16=400T,memory=64G,bandwidth=2T"
        )
    return name


def _model(value: object) -> tuple[Model | Network | None, str]:
    if isinstance(value, dict):
        return _pasted(value), PASTED
    if not isinstance(value, str) or not value.strip():
        raise bad("no model is given", 'give a name, or {"config": …} with what is in a config.json')
    found = catalogue_model(value)
    return found, found.name


def catalogue_model(name: str) -> Model | Network:
    """The model or network of that name in the catalogue; never one that a path describes.

    Errors: ``unknown_model`` with the nearest names.
    """
    text = name.strip()
    if len(text) <= LONGEST_NAME:
        if find_entry(text) is not None:
            return find_model(text)
        network = find_network(text)
        if network is not None:
            return network
    raise unknown_name("model", text[:LONGEST_NAME], [*model_names(), *network_names()])


def _pasted(value: Mapping[str, Any]) -> Model:
    config = table(table(value, "model", ("config", "name")).get("config"), "model.config")
    name = value.get("name", "pasted")
    if not isinstance(name, str) or not 0 < len(name) <= 100:
        raise bad("model.name is no name", "write a short name")
    return replace(read_config(config, PASTED, name), name=name)
