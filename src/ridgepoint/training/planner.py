"""``plan_train``: the best layouts of a training run, why they are the best, and what the run takes (design §10).

>>> found = plan_train("gpt2", on="2xa100-sxm-80gb", batch=8, seq=1024)
>>> best = found.layouts[0]
>>> best.to_dict()["dp"], found.searched > 100, best.step_time_s <= found.layouts[1].step_time_s
(2, True, True)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.models.parameters import total_parameters
from ridgepoint.plan import Plan
from ridgepoint.scenario import find
from ridgepoint.tasks import Train
from ridgepoint.tasks.memory import usable_fraction
from ridgepoint.tasks.stages import sizes
from ridgepoint.training.answer import TrainPlan, measure
from ridgepoint.training.goodput import MTBF_HOURS, RESTART_S, check_failures, goodput
from ridgepoint.training.layouts import LaidOut, laid_out
from ridgepoint.training.networks import best_of_network, parameters_of
from ridgepoint.training.question import Question
from ridgepoint.training.scaling import scaling as curve
from ridgepoint.training.search import Progress, Ranked, search
from ridgepoint.training.space import base_plan, fewer_devices, sweeps
from ridgepoint.training.when_nothing_fits import refuse_with_remedy

CURVES = ("strong", "weak")
OBJECTIVES = ("time", "cost", "energy")
DEGREES = ("tp", "pp", "cp", "dp", "ep", "schedule")
"""Layouts that share these are variants of one; a plan shows the best of each."""
_ALL_DEVICES = ("tp", "pp", "cp", "dp")
TOLD_APART = ("stages", "lengths", "padding")
"""Fields of a plan that say something of the degrees."""


def plan_train(
    model: Model | Network | str,
    *,
    on: Machine | str,
    batch: int,
    seq: int = 2048,
    inputs: Mapping[str, float] | None = None,
    tokens: float | None = None,
    objective: str = "time",
    max_memory: float | None = None,
    top: int = 10,
    mtbf_hours: float = MTBF_HOURS,
    restart_s: float = RESTART_S,
    background: bool = True,
    scaling: bool = False,
    hybrid: bool = True,
    progress: Progress | None = None,
    **fixed: Any,
) -> TrainPlan:
    """The ``top`` layouts of a step over ``batch`` sequences of ``seq`` tokens on all devices of ``on``, best first; of a
    network over ``batch`` samples, with ``inputs`` of its own (``image_px`` …).

    Every field of a ``Plan`` may be fixed by name: degrees, formats, offload … ``tokens`` of the whole run give days, money and
    energy. ``objective`` is time, cost or energy; the last two may leave devices out (halves of the machine).
    ``max_memory`` bounds bytes per device below what the device may use anyway. ``scaling`` adds the best layouts of other
    numbers of devices, for the same batch (strong) and for one that grows with them (weak). ``hybrid``: states may be shared
    among some of the copies of the weights only. Devices fail every ``mtbf_hours``; ``restart_s`` pass until they
    go on from a checkpoint, which is written in the ``background`` or stops the training.

    Errors: ``bad_option`` for an unknown objective, ``bad_plan`` for degrees that fit nothing, ``does_not_fit`` where no layout
    fits, with the smallest change that would; those of names and sizes.
    """
    found, machine = _subjects(model, on)
    if objective not in OBJECTIVES:
        raise RidgepointError("bad_option", f"unknown objective '{objective}'", "use one of " + ", ".join(OBJECTIVES))
    check_failures(mtbf_hours, restart_s)
    usable = machine.memory_bytes * usable_fraction(base_plan(fixed), True)
    usable = usable if max_memory is None else min(usable, max_memory)
    if isinstance(found, Network):
        if scaling:
            raise RidgepointError("bad_option", f"no curves for the network {found.name}", "leave --scaling out")
        asked = Question(machine, Train(batch=batch, **_own_sizes(inputs)), fixed, usable, objective, top)
        best = best_of_network(found, asked, progress)
        parameters = parameters_of(found)
    else:
        if inputs:
            raise RidgepointError(
                "bad_size", f"{found.name} has no input sizes of its own", "give batch and lengths alone"
            )
        asked = Question(machine, Train(batch=batch, seq=seq), implied(found, fixed), usable, objective, top)
        best = _best_of_transformer(found, asked, hybrid, progress)
        parameters = total_parameters(found)
    layouts, searched, fitting = best
    left = goodput(
        parameters,
        machine,
        mtbf_hours=mtbf_hours,
        restart_s=restart_s,
        background=background,
        devices=float(layouts[0].estimate.devices),
    )
    curves = {}
    if scaling and isinstance(found, Model):
        curves = {name: curve(found, machine, asked.task, asked.fixed, name == "weak", progress) for name in CURVES}
    return TrainPlan(found, machine, asked.task, objective, layouts, searched, fitting, tokens, left, curves)


def _best_of_transformer(
    model: Model, asked: Question, hybrid: bool, progress: Progress | None
) -> tuple[tuple[LaidOut, ...], int, int]:
    """(the ``top`` layouts, best first; how many were searched; how many of them fit)."""
    machine, task, fixed, usable = asked.machine, asked.task, asked.fixed, asked.usable_bytes
    base, searches = base_plan(fixed), []
    for devices in fewer_devices(machine) if asked.objective != "time" else (machine.devices,):
        try:
            space = sweeps(model, machine, int(task.batch), int(task.seq), searched_with(fixed), devices, hybrid)
        except RidgepointError:
            if devices == machine.devices:
                raise
            continue
        searches.append(search(model, machine, task, base, space, usable, progress=progress))
    ranked = [r for one in searches for r in one.best]
    if not ranked:
        refuse_with_remedy(model, asked, searches[0])
    if fixed.get("recompute") == "planned":
        base = replace(base, memory_fraction=usable / machine.memory_bytes)
        ranked = [replace(r, plan={**r.plan, "recompute": "planned", "recomputed_layers": 1.0}) for r in ranked]
    layouts = _best(model, asked, base, ranked)
    return layouts, sum(s.searched for s in searches), sum(s.fitting for s in searches)


def _subjects(model: Model | Network | str, on: Machine | str) -> tuple[Model | Network, Machine]:
    found = find(model) if isinstance(model, str) else model
    return found, find_machine(on) if isinstance(on, str) else on


def _own_sizes(inputs: Mapping[str, float] | None) -> dict[str, Any]:
    """Sizes of a network's input as fields of its task."""
    given = dict(inputs or {})
    own = {name: given.pop(name) for name in ("image_px",) if name in given}
    return {**own, "inputs": given}


def implied(model: Model, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What is fixed, and what follows from it: the layers of each stage say how many stages there are; packed sequences
    attend on one device; chunks are of interleaved stages.

    >>> from ridgepoint.models.catalog import find_model
    >>> implied(find_model("llama-3.1-8b"), {"stages": "10,11,11"})["pp"]
    3

    Errors: ``bad_plan`` where the layers of the stages do not make up the model, or contradict a given ``pp``.
    """
    plan = Plan(**{name: value for name, value in fixed.items() if name in TOLD_APART})
    found = dict(fixed)
    if isinstance(plan.stages, tuple):
        if fixed.get("pp") is None:
            found["pp"] = len(plan.stages)
        sizes(model, plan, float(found["pp"]))
    if plan.lengths is not None and plan.padding == "packed" and fixed.get("cp") is None:
        found["cp"] = 1
    if float(fixed.get("chunks") or 1.0) > 1.0 and fixed.get("schedule") is None:
        found["schedule"] = "interleaved"
    return found


def searched_with(fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What is fixed in the search: recomputation is planned for the best layouts that it finds."""
    return {name: v for name, v in fixed.items() if (name, v) != ("recompute", "planned")}


def _best(model: Model, asked: Question, base: Plan, ranked: list[Ranked]) -> tuple[LaidOut, ...]:
    """The best variant of each set of degrees, estimated in full and put in order of the objective.

    Errors: ``does_not_fit`` where planned recomputation, which comes after the search, cannot make any of them fit.
    """
    machine, objective = asked.machine, asked.objective
    distinct: dict[tuple[Any, ...], Ranked] = {}
    # Dollars go with device-seconds and joules nearly so: the order by them says which layouts to estimate in full.
    shared = 0.0 if objective == "time" else 1.0
    for one in sorted(ranked, key=lambda r: r.time_s * prod(r.plan[name] for name in _ALL_DEVICES) ** shared):
        distinct.setdefault(tuple(one.plan[name] for name in DEGREES), one)
    several = asked.top if objective == "time" else 5 * asked.top
    found = [
        laid_out(model, machine, asked.task, replace(base, **one.plan)) for one in list(distinct.values())[:several]
    ]
    fitting = [one for one in found if asked.fits(one.needed_bytes)]
    if not fitting:
        least = min(one.needed_bytes for one in found)
        raise RidgepointError(
            "does_not_fit",
            f"with planned recomputation {model.name} needs at least {least / 1e9:.1f} GB of the "
            f"{asked.usable_bytes / 1e9:.1f} GB that may be used per device of {machine.name}",
            "leave --recompute planned out: parts of the layers are then recomputed in full",
        )
    return tuple(sorted(fitting, key=lambda one: measure(one, objective))[: asked.top])
