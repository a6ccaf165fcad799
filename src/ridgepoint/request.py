"""A scenario as people say it: names and sizes as text, from options or from a file (design §10)."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import CHOICES, DEGREES, Plan
from ridgepoint.scenario import Scenario, find, scenario, usual_task
from ridgepoint.tasks import TASKS
from ridgepoint.techniques.registry import applied
from ridgepoint.units import parse_count

Value = str | float | bool
Inputs = tuple[tuple[str, float], ...]
TRAINING_ONLY = (
    *(
        "zero_stage",
        "shard_group",
        "rank_order",
        "recompute",
        "recomputed_layers",
        "micro_batch",
        "schedule",
        "chunks",
        "stages",
    ),
    *("lengths", "padding", "jitter", "dropout"),
    *("vocab_parallel", "context_exchange"),
    *("trainable", "lora_rank", "trained_layers", "optimizer", "optimizer_rank", "master_weights"),
    *("gradients", "gradient_bytes", "exchange_period", "outer_bytes", "communication_share"),
    *("overlap_gradients", "overlap_parameters"),
    *("offload_optimizer", "offload_params", "offload_activations"),
)
SERVING_ONLY = ("kv", "speculated")
_SERVING = ("prefill", "decode", "generate")
_OPTION = {"zero_stage": "--zero", "graph_capture": "--graphs", "compiled": "--mode"}
FILE_ONLY = ("expert_imbalance", "sequence_parallel", "speculated")
"""Fields of a plan that have no option: a scenario file says them."""
_NO_NEGATION = ("vocab_parallel",)


@dataclass(frozen=True)
class Request:
    """What was said about a scenario; ``said``: how each key was written (``--context``, ``FILE: task.context``)."""

    model: str | None = None
    machine: str | None = None
    task: str | None = None
    sizes: Mapping[str, Value] = field(default_factory=dict)
    plan: Mapping[str, Value] = field(default_factory=dict)
    inputs: Mapping[str, Value] = field(default_factory=dict)
    """Further sizes of a network's input, by its names."""
    apply: tuple[str, ...] = ()
    """Techniques in order, each as ``name`` or ``name:key=value,key=value``."""
    said: Mapping[str, str] = field(default_factory=dict)

    def over(self, base: Request) -> Request:
        """This request where it says something, ``base`` elsewhere. Another task keeps only the sizes it takes."""
        sizes = base.sizes
        if self.task is not None and self.task != base.task:
            sizes = {name: value for name, value in sizes.items() if name in sizes_of(self.task)}
        return Request(
            self.model or base.model,
            self.machine or base.machine,
            self.task or base.task,
            {**sizes, **self.sizes},
            {**base.plan, **self.plan},
            {**base.inputs, **self.inputs},
            (*base.apply, *self.apply),
            {**base.said, **self.said},
        )


def option(name: str) -> str:
    """The command line's word for a size or a field of a plan.

    >>> option("context"), option("zero_stage"), option("micro_batch")
    ('--context', '--zero', '--micro-batch')
    """
    return _OPTION.get(name, "--" + name.replace("_", "-"))


def command_of(request: Request) -> str:
    """The ``ridgepoint analyze`` command of a request; through a scenario file where the command line has no option.

    >>> command_of(Request("gpt2", "8xt4", "decode", {"batch": 4.0, "context": "8k"}, {"tp": 8.0, "compiled": False}))
    'ridgepoint analyze gpt2 --on 8xt4 --task decode --batch 4 --context 8k --tp 8 --mode eager'
    """
    if any(name in FILE_ONLY or (name in _NO_NEGATION and value is False) for name, value in request.plan.items()):
        return "ridgepoint analyze scenario.toml"
    words = ["ridgepoint", "analyze", str(request.model), "--on", str(request.machine)]
    words += ["--task", request.task] if request.task else []
    for name, value in {**request.sizes, **request.plan}.items():
        words += _as_option(name, value)
    for name, value in request.inputs.items():
        words += ["--size", f"{name}={_as_text(value)}"]
    for technique in request.apply:
        words += ["--apply", technique]
    return shlex.join(words)


def _as_option(name: str, value: Value) -> list[str]:
    if name == "compiled":
        return [option(name), "compiled" if value else "eager"]
    if isinstance(value, bool):
        return [option(name) if value else "--no-" + option(name).removeprefix("--")]
    return [option(name), _as_text(value)]


def _as_text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) and value.is_integer() and value < 1e6 else str(value)


def named_machine(name: str | None) -> str:
    """The machine that was named.

    Errors: ``bad_request`` where none was.
    """
    if not name:
        raise RidgepointError(
            "bad_request", "no machine is given", "add --on MACHINE; `ridgepoint machines list` shows all"
        )
    return name


def to_scenario(request: Request, model: Model | Network | None = None) -> Scenario:
    """The scenario that a request describes; of ``model`` where one is given, whatever the request's says.

    Errors: ``bad_request`` for what is missing, ``bad_option`` for what does not belong to the task; those of names,
    sizes and plans.
    """
    if not request.model:
        raise RidgepointError("bad_request", "no model is given", "give a name, a config.json or a scenario file")
    model, machine = model or find(request.model), find_machine(named_machine(request.machine))
    usual = usual_task(model)
    task = request.task if request.task is not None else usual.name
    _check_task(task)
    _check_belongs(request, task, model.inputs if isinstance(model, Network) else None)
    sizes: dict[str, Any] = {name: _count(name, value, request) for name, value in request.sizes.items()}
    if request.inputs:
        sizes["inputs"] = {name: _count(name, value, request) for name, value in request.inputs.items()}
    plan = plan_values(request)
    chosen = replace(usual, **sizes) if task == usual.name else TASKS[task](**sizes)
    return applied(scenario(model, machine, chosen, Plan(**plan)), request.apply)


def _check_task(name: str) -> None:
    if name not in TASKS:
        close = nearest(name, TASKS)
        hint = f"did you mean {' or '.join(close)}?" if close else "use one of " + ", ".join(TASKS)
        raise RidgepointError("unknown_task", f"unknown task '{name}'", hint)


def sizes_of(task: str) -> list[str]:
    """The sizes that a task takes by its own options."""
    return [f.name for f in fields(TASKS[task]) if f.name != "inputs"] if task in TASKS else []


def _check_belongs(request: Request, task: str, inputs: Inputs | None) -> None:
    """Every size and every field of the plan must mean something for the task (and for a network, for its input)."""
    taken = sizes_of(task)
    if inputs is not None:
        taken = [name for name in taken if name in ("batch", "steps", *dict(inputs))]
    for name in request.sizes:
        if name not in taken:
            raise _foreign(request, name, task, taken, [t for t in TASKS if name in sizes_of(t) and t != task])
    for name in request.inputs:
        if inputs is None or name not in dict(inputs):
            raise _no_input(request, name, dict(inputs or ()))
    for name in request.plan:
        if name in TRAINING_ONLY and task != "train":
            raise _foreign(request, name, task, taken, ["train"])
        if name in SERVING_ONLY and task not in _SERVING:
            raise _foreign(request, name, task, taken, list(_SERVING))


def _no_input(request: Request, name: str, inputs: dict[str, float]) -> RidgepointError:
    hint = "its inputs: " + ", ".join(inputs) if inputs else "--size is for networks such as resnet50"
    return RidgepointError("bad_option", f"{request.model} has no input '{name}'", hint)


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
    **dict.fromkeys(("weights", "acts", "kv", *CHOICES), _text),
    **dict.fromkeys((*DEGREES, "micro_batch", "chunks", "lora_rank", "exchange_period", "shard_group"), _count),
    **dict.fromkeys(
        ("memory_fraction", "expert_imbalance", "speculated", "recomputed_layers", "trained_layers"), _number
    ),
    **dict.fromkeys(("optimizer_rank", "gradient_bytes", "outer_bytes", "communication_share"), _number),
    **dict.fromkeys(("fused_attention", "graph_capture", "compiled", "custom_all_reduce", "sequence_parallel"), _flag),
    **dict.fromkeys(("fused_norms", "appended_cache", "whole_tables", "blocking_offload"), _flag),
    **dict.fromkeys(("vocab_parallel", "master_weights", "overlap_gradients", "overlap_parameters"), _flag),
    "zero_stage": _number,
    "stages": _text,
    "lengths": _text,
    "jitter": _number,
    "dropout": _number,
}


def plan_values(request: Request) -> dict[str, Any]:
    """What a request says of the plan, as values of the fields."""
    return {name: _PLAN[name](name, value, request) for name, value in request.plan.items()}


PLAN_KEYS = tuple(_PLAN)
"""What a plan may say."""
