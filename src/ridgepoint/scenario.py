"""Scenario: one model on one machine doing one task under one plan (design §1). All four are immutable values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.catalog import find_entry, find_model, model_names
from ridgepoint.models.networks.captured.file import find_work
from ridgepoint.models.networks.catalog import find_network, network_names
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.tasks import TASKS, Forward, Generate, Sample, Task, Train
from ridgepoint.tasks.build import Built, build, with_unfused_attention

Values = Mapping[str, Any]
"""Parameters of a technique by name: numbers (or arrays of them), names, flags."""


@dataclass(frozen=True)
class Edit:
    """A change to what a scenario is built into: phases, works, ledger. ``values`` may hold arrays: they sweep.

    ``stage`` says when it is made: those of lower stages come first.
    """

    name: str
    rework: Callable[[Built, Scenario, Values], Built]
    values: Values = field(default_factory=dict)
    stage: int = 0


@dataclass(frozen=True)
class Scenario:
    """A model, a machine, a task and a plan. Numeric fields of task and plan may be arrays: a sweep.

    ``techniques`` names what was applied to come here, as a user would write it; ``edits`` is the part of it that works and
    ledger show and the four values do not.
    """

    model: Model | Network
    machine: Machine
    task: Task
    plan: Plan = field(default_factory=Plan)
    edits: tuple[Edit, ...] = ()
    techniques: tuple[str, ...] = ()

    def build(self) -> Built:
        """Phases, works, ledger and assumptions, with every edit made, in the order of their stages."""
        if not self.edits:
            return build(self.model, self.machine, self.task, self.plan)
        built = self.build_whole()
        return with_unfused_attention(built, self.plan.compiled) if self._in_kernels else built

    def build_whole(self) -> Built:
        """Like ``build``, with every attention still one op, as edits find it whatever kernels the plan has it run in."""
        built = build(self.model, self.machine, self.task, self.plan)
        if self._in_kernels:
            whole = build(self.model, self.machine, self.task, replace(self.plan, fused_attention=True))
            built = replace(built, phases=whole.phases)
        for edit in self.edits:
            built = edit.rework(built, self, edit.values)
        return built

    @property
    def _in_kernels(self) -> bool:
        """Whether attention is taken apart into kernels after the edits; gradients are made of kernels from the start."""
        return not self.plan.fused_attention and not isinstance(self.task, Train)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of the sweep; () for one scenario."""
        shapes = {name: np.shape(v) for name, v in self._numbers().items() if np.ndim(v)}
        try:
            return np.broadcast_shapes(*shapes.values())
        except ValueError:
            raise RidgepointError(
                "bad_sweep",
                "arrays of these shapes do not broadcast: "
                + ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in shapes.items()),
                "give arrays of one shape, or of shapes that broadcast, e.g. (4, 1) and (3,)",
            ) from None

    def _numbers(self) -> dict[str, Any]:
        numbers: dict[str, Any] = {f"task.{name}": value for name, value in self.task.sizes().items()}
        for f in fields(self.plan):
            value = getattr(self.plan, f.name)
            if isinstance(value, float | np.ndarray) and f.name != "memory_fraction":
                numbers[f"plan.{f.name}"] = value
        for edit in self.edits:
            sized = {name: v for name, v in edit.values.items() if isinstance(v, float | np.ndarray)}
            numbers |= {f"{edit.name}.{name}": value for name, value in sized.items()}
        return numbers

    def at(self, points: slice) -> Scenario:
        """The part of a sweep at the given positions of the flattened shape."""
        shape = self.shape

        def cut(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: cut(item) for name, item in value.items()}
            return np.broadcast_to(value, shape).ravel()[points] if isinstance(value, np.ndarray) else value

        edits = tuple(replace(edit, values=cut(edit.values)) for edit in self.edits)
        return replace(self, task=_mapped(self.task, cut), plan=_mapped(self.plan, cut), edits=edits)


def usual_task(model: Model | Network) -> Task:
    """What is asked of a model when nothing is said: generation, sampling, or a forward pass of at most its positions."""
    if isinstance(model, Network):
        return _captured_task(model) if model.tasks else Sample() if model.is_sampler else Forward()
    if model.decoder is not None:
        return _usual_generation(model)
    usual = Forward()
    return Forward(seq=min(usual.seq, float(model.max_context))) if model.max_context else usual


def _usual_generation(model: Model) -> Generate:
    """Of a prompt that leaves room for the answer in a short context; of the whole input where inputs are padded."""
    usual = Generate()
    if model.padded_input:
        return Generate(prompt=float(model.padded_input))
    if model.encoder is not None or not model.max_context:
        return usual
    room = float(model.max_context) - usual.output
    return Generate(prompt=min(usual.prompt, room)) if room >= 1.0 else usual


def _captured_task(net: Network) -> Task:
    """The first task that a model was captured for, with the sizes that it was captured at."""
    kind = TASKS[net.tasks[0]]
    own = {f.name for f in fields(kind)}
    sizes: dict[str, Any] = {name: size for name, size in net.inputs if name in own}
    return kind(**sizes)


def _mapped(value: Any, change: Any) -> Any:
    return replace(value, **{f.name: change(getattr(value, f.name)) for f in fields(value)})


def find(name: str) -> Model | Network:
    """The transformer or network of that name, or the model that a path describes.

    Errors: ``unknown_model`` with the nearest names of both.
    """
    captured = find_work(name)
    if captured is not None:
        return captured
    if find_entry(name) is None:
        network = find_network(name)
        if network is not None:
            return network
    try:
        return find_model(name)
    except RidgepointError as error:
        if not error.message.startswith("unknown model"):
            raise
        raise unknown_name("model", name, [*model_names(), *network_names()]) from None


def scenario(
    model: Model | Network | str, on: Machine | str, task: Task | str | None = None, plan: Plan | None = None
) -> Scenario:
    """The scenario that names or values describe. Without a task: generation, or a forward pass of an encoder-only model.

    >>> scenario("llama-3.1-8b", "h100-sxm").task.name
    'generate'

    Errors: those of unknown names; ``bad_request`` for what is neither a name nor a value of its kind; ``bad_option`` for
    the side of an image that the model does not see.
    """
    found = find(model) if isinstance(model, str) else model
    machine = find_machine(on) if isinstance(on, str) else on
    _check_kinds(found, machine, task, plan)
    if isinstance(task, str):
        if task not in TASKS:
            raise RidgepointError("unknown_task", f"unknown task '{task}'", "use one of " + ", ".join(TASKS))
        task = TASKS[task]()
    if task is None:
        task = usual_task(found)
    if isinstance(found, Model) and getattr(task, "image_px", None) is not None:
        hint = "count the tokens that pictures become in --seq or --prompt; networks such as vit-large take --image-px"
        raise RidgepointError("bad_option", f"{found.name} reads tokens: it takes no --image-px", hint)
    return Scenario(found, machine, task, plan or Plan())


def _check_kinds(*given: object) -> None:
    """Model, machine, task and plan are what their names say; a class or a dictionary in their place is told so here."""
    allowed: tuple[Any, ...] = ((Model, Network), (Machine,), (Task, str, type(None)), (Plan, type(None)))
    hints = (
        'give a name, such as "llama-3.1-8b"',
        'give a name, such as "8xh100-sxm"',
        "give a task, such as rp.Decode(batch=32)",
        "give rp.Plan(tp=8)",
    )
    for what, value, kinds, hint in zip(("model", "on", "task", "plan"), given, allowed, hints, strict=True):
        if not isinstance(value, kinds):
            raise RidgepointError("bad_request", f"{what} is {value!r}", hint)
