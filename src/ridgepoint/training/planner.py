"""``plan_train``: the best layouts of a training run, why they are the best, and what the run takes (design §10).

>>> found = plan_train("gpt2", on="2xa100-sxm-80gb", batch=8, seq=1024)
>>> best = found.layouts[0]
>>> best.to_dict()["dp"], found.searched > 100, best.step_time_s <= found.layouts[1].step_time_s
(2, True, True)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import prod
from typing import Any

from ridgepoint.cost.energy import usd
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine, inbound, outbound
from ridgepoint.models.architecture import Model
from ridgepoint.models.parameters import total_parameters
from ridgepoint.plan import Plan
from ridgepoint.scenario import find
from ridgepoint.tasks import Train
from ridgepoint.tasks.memory import usable_fraction
from ridgepoint.tasks.stages import sizes
from ridgepoint.training.critical_batch import CriticalBatch, critical_batch
from ridgepoint.training.goodput import MTBF_HOURS, RESTART_S, Goodput, check_failures, goodput
from ridgepoint.training.layouts import LaidOut, laid_out
from ridgepoint.training.scaling import Point
from ridgepoint.training.scaling import scaling as curve
from ridgepoint.training.search import Progress, Ranked, Search, search
from ridgepoint.training.space import AXES, CHOSEN, fewer_devices, sweeps
from ridgepoint.training.when_nothing_fits import refuse_with_remedy

CURVES = ("strong", "weak")
OBJECTIVES = ("time", "cost", "energy")
DEGREES = ("tp", "pp", "cp", "dp", "ep", "schedule")
"""Layouts that share these are variants of one; a plan shows the best of each."""
_ALL_DEVICES = ("tp", "pp", "cp", "dp")
TOLD_APART = ("stages", "lengths", "padding")
"""Fields of a plan that say something of the degrees."""
FASTER = 2.0
"""How much faster a resource is made to see what it would bring."""


@dataclass(frozen=True)
class TrainPlan:
    """The answer of ``plan_train``: layouts best first, and how many were searched."""

    model: Model
    machine: Machine
    task: Train
    objective: str
    layouts: tuple[LaidOut, ...]
    searched: int
    fitting: int
    tokens: float | None
    goodput: Goodput
    scaling: Mapping[str, list[Point]]
    """Strong and weak scaling, where asked for."""

    @property
    def best(self) -> LaidOut:
        """The first one."""
        return self.layouts[0]

    @property
    def citations(self) -> tuple[str, ...]:
        """What the plan relied on, as its best layout did."""
        return self.best.estimate.citations

    @cached_property
    def critical_batch(self) -> CriticalBatch:
        """The batch beyond which more data parallelism is wasted."""
        return critical_batch(total_parameters(self.model), float(self.task.batch * self.task.seq), self.tokens)

    def run(self, layout: LaidOut) -> dict[str, float | None]:
        """Steps, days, dollars and joules of the whole run under ``layout``, failures included; empty without ``tokens``."""
        if self.tokens is None:
            return {}
        steps = self.tokens / layout.tokens
        busy = steps * layout.step_time_s
        whole = busy / self.goodput.fraction
        energy = layout.estimate.energy_j
        return {
            "steps": steps,
            "days": whole / 86400.0,
            "days_without_failures": busy / 86400.0,
            "cost_usd": _number(usd(self.machine, layout.estimate.devices * whole)),
            "energy_j": None if energy is None else float(energy) * steps,
        }

    @cached_property
    def sensitivity(self) -> dict[str, float]:
        """Resource → speed-up of the best layout if it were twice as fast, largest first."""
        cost, now = self.best.estimate.cost, self.best.step_time_s
        both = {inbound(r) for r in cost.shares}  # a faster link is faster in both directions
        found = {r: now / float(cost.timing_at(dict.fromkeys((r, outbound(r)), FASTER)).time_s) for r in both}
        return dict(sorted(((r, gain) for r, gain in found.items() if gain > 1.0005), key=lambda item: -item[1]))

    @property
    def behind(self) -> float:
        """By what part the second layout is worse than the first, in what the objective makes least; 0 where there is none."""
        if len(self.layouts) < 2:
            return 0.0
        return measure(self.layouts[1], self.objective) / measure(self.layouts[0], self.objective) - 1.0

    @cached_property
    def runner_up(self) -> dict[str, float]:
        """Resource → seconds that the second layout spends more on it than the first (less, if negative), largest first."""
        if len(self.layouts) < 2:
            return {}
        one, two = (layout.estimate for layout in self.layouts[:2])
        seconds = {
            r: float(two.shares.get(r, 0.0) * two.time_s - one.shares.get(r, 0.0) * one.time_s)
            for r in {**one.shares, **two.shares}
        }
        return dict(sorted(seconds.items(), key=lambda item: -abs(item[1])))

    def to_dict(self) -> dict[str, Any]:
        """Design §10's document."""
        return {
            "model": self.model.name,
            "machine": self.machine.name,
            "task": {"name": "train", "batch": int(self.task.batch), "seq": int(self.task.seq)},
            "objective": self.objective,
            "layouts": [{**layout.to_dict(), "run": self.run(layout) or None} for layout in self.layouts],
            "searched": self.searched,
            "fitting": self.fitting,
            "runner_up": self.runner_up,
            "sensitivity": self.sensitivity,
            "limits": {r: float(gain) for r, gain in self.best.estimate.limits.items()},
            "critical_batch": self.critical_batch.to_dict(),
            "goodput": self.goodput.to_dict(),
            "scaling": {name: [point.to_dict() for point in curve] for name, curve in self.scaling.items()},
            "assumptions": list(self.best.estimate.assumptions),
            "warnings": list(self.best.estimate.warnings),
            "citations": list(self.citations),
        }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def plan_train(
    model: Model | str,
    *,
    on: Machine | str,
    batch: int,
    seq: int,
    tokens: float | None = None,
    objective: str = "time",
    max_memory: float | None = None,
    top: int = 10,
    mtbf_hours: float = MTBF_HOURS,
    restart_s: float = RESTART_S,
    scaling: bool = False,
    hybrid: bool = True,
    progress: Progress | None = None,
    **fixed: Any,
) -> TrainPlan:
    """The ``top`` layouts of a step over ``batch`` sequences of ``seq`` tokens on all devices of ``on``, best first.

    Every field of a ``Plan`` may be fixed by name: degrees, formats, offload … ``tokens`` of the whole run give days, money and
    energy. ``objective`` is time, cost or energy; the last two may leave devices out (halves of the machine).
    ``max_memory`` bounds bytes per device below what the device may use anyway. ``scaling`` adds the best layouts of other
    numbers of devices, for the same batch (strong) and for one that grows with them (weak). ``hybrid``: states may be shared
    among some of the copies of the weights only.

    Errors: ``bad_option`` for an unknown objective, ``bad_plan`` for degrees that fit nothing, ``does_not_fit`` where no layout
    fits, with the smallest change that would; those of names and sizes.
    """
    found, machine = _subjects(model, on)
    if objective not in OBJECTIVES:
        raise RidgepointError("bad_option", f"unknown objective '{objective}'", "use one of " + ", ".join(OBJECTIVES))
    check_failures(mtbf_hours, restart_s)
    task = Train(batch=batch, seq=seq)
    fixed = implied(found, fixed)
    base = base_plan(fixed)
    usable = machine.memory_bytes * usable_fraction(base, True)
    usable = usable if max_memory is None else min(usable, max_memory)
    searches: list[Search] = []
    for devices in fewer_devices(machine) if objective != "time" else (machine.devices,):
        try:
            space = sweeps(found, machine, int(batch), int(seq), searched_with(fixed), devices, hybrid)
        except RidgepointError:
            if devices == machine.devices:
                raise
            continue
        searches.append(search(found, machine, task, base, space, usable, progress=progress))
    ranked = [r for one in searches for r in one.best]
    if not ranked:
        refuse_with_remedy(found, machine, task, fixed, searches[0], usable)
    if fixed.get("recompute") == "planned":
        base = replace(base, memory_fraction=usable / machine.memory_bytes)
        ranked = [replace(r, plan={**r.plan, "recompute": "planned", "recomputed_layers": 1.0}) for r in ranked]
    layouts = _best(found, machine, task, base, ranked, objective, top, usable)
    return TrainPlan(
        found,
        machine,
        task,
        objective,
        layouts,
        sum(s.searched for s in searches),
        sum(s.fitting for s in searches),
        tokens,
        goodput(
            total_parameters(found),
            machine,
            mtbf_hours=mtbf_hours,
            restart_s=restart_s,
            devices=float(layouts[0].estimate.devices),
        ),
        {name: curve(found, machine, task, fixed, name == "weak", progress) for name in CURVES} if scaling else {},
    )


def _subjects(model: Model | str, on: Machine | str) -> tuple[Model, Machine]:
    found = find(model) if isinstance(model, str) else model
    if not isinstance(found, Model):
        raise RidgepointError(
            "bad_model",
            f"{found.name} is a network; layouts are planned for transformers",
            "use `analyze --task train`",
        )
    return found, find_machine(on) if isinstance(on, str) else on


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


def base_plan(fixed: Mapping[str, Any]) -> Plan:
    """The plan that every layout starts from: what is fixed and is no axis of the space.

    Errors: ``bad_plan`` for an unknown field.
    """
    known = {f.name for f in fields(Plan)}
    for name in fixed:
        if name not in known:
            raise RidgepointError("bad_plan", f"a plan has no field '{name}'", "fields: " + ", ".join(sorted(known)))
    Plan(**fixed)  # what is wrong with a value is said here, not by the space
    return Plan(**{name: value for name, value in fixed.items() if name not in (*AXES, *CHOSEN, "recompute")})


def measure(layout: LaidOut, objective: str) -> float:
    """What an objective makes least: seconds, device-seconds or joules of a step."""
    if objective == "cost":
        return layout.step_time_s * float(layout.estimate.devices)
    energy = layout.estimate.energy_j
    return layout.step_time_s if objective == "time" or energy is None else float(energy)


def _best(
    model: Model,
    machine: Machine,
    task: Train,
    base: Plan,
    ranked: list[Ranked],
    objective: str,
    top: int,
    usable: float,
) -> tuple[LaidOut, ...]:
    """The best variant of each set of degrees, estimated in full and put in order of the objective.

    Errors: ``does_not_fit`` where planned recomputation, which comes after the search, cannot make any of them fit.
    """
    distinct: dict[tuple[Any, ...], Ranked] = {}
    # Dollars go with device-seconds and joules nearly so: the order by them says which layouts to estimate in full.
    shared = 0.0 if objective == "time" else 1.0
    for one in sorted(ranked, key=lambda r: r.time_s * prod(r.plan[name] for name in _ALL_DEVICES) ** shared):
        distinct.setdefault(tuple(one.plan[name] for name in DEGREES), one)
    several = top if objective == "time" else 5 * top
    found = [laid_out(model, machine, task, replace(base, **one.plan)) for one in list(distinct.values())[:several]]
    fitting = [one for one in found if float(one.estimate.memory.total_bytes) <= usable * (1.0 + 1e-9)]
    if not fitting:
        least = min(float(one.estimate.memory.total_bytes) for one in found)
        raise RidgepointError(
            "does_not_fit",
            f"with planned recomputation {model.name} needs at least {least / 1e9:.1f} GB of the {usable / 1e9:.1f} GB that "
            f"may be used per device of {machine.name}",
            "leave --recompute planned out: parts of the layers are then recomputed in full",
        )
    return tuple(sorted(fitting, key=lambda one: measure(one, objective))[:top])
