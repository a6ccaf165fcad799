"""Sweeps: the cartesian product of axes over a scenario, numeric axes in one estimate each (design §10).

>>> import ridgepoint as rp
>>> found = rp.sweep("llama-3.1-8b", on="h100-sxm", task="decode", vary={"batch": "1:64:x8", "weights": "bf16,fp8"})
>>> found.shape, found.axes[1].values
((3, 2), ('bf16', 'fp8'))
>>> bool((found["time"][:, 0] > found["time"][:, 1]).all())
True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.custom import with_options
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.request import PLAN_KEYS, Request, to_scenario
from ridgepoint.scenario import Scenario, scenario
from ridgepoint.search.axes import MACHINE, NO_TECHNIQUE, SIZES, Axis, Value, axis, techniques_of
from ridgepoint.search.filler import Filler
from ridgepoint.search.result import Sweep
from ridgepoint.tasks import Task

MOST_POINTS = 4_000_000
Chosen = Mapping[str, Value]
Progress = Callable[[int, int], None]


def sweep(
    model: Model | Network | str,
    *,
    on: Machine | str,
    task: Task | str | None = None,
    plan: Plan | None = None,
    apply: Sequence[str] = (),
    vary: Mapping[str, object],
    progress: Progress | None = None,
) -> Sweep:
    """All combinations of ``vary``: name → values, as a list, an array or text such as ``1:256:log2`` (``axes.py``).

    Names are those of the task's sizes, of a network's inputs, of the plan, ``machine.FIGURE``, and ``model``, ``machine``,
    ``task`` and ``apply`` (techniques). Numeric axes are evaluated in one estimate for each combination of the others.

    Errors: ``bad_vary`` for names and values that cannot be read; the first error where no point has an answer.
    """
    axes = tuple(axis(name, values) for name, values in vary.items())
    given = plan or Plan()

    def make(chosen: Chosen) -> Scenario:
        fixed: dict[str, Any] = {name: v for name, v in chosen.items() if name in PLAN_KEYS}
        subjects: dict[str, Any] = {"model": model, "task": task, "machine": on, **chosen}
        machine = _changed_machine(subjects["machine"], chosen)
        return scenario(subjects["model"], machine, subjects["task"], replace(given, **fixed))

    name, sizes = (task.name, task.sizes()) if isinstance(task, Task) else (task, {})
    base = {"model": _name(model), "machine": _name(on), "task": name, "sizes": sizes, "plan": given.given()}
    return run(axes, make, {**base, "apply": list(apply)}, tuple(apply), progress)


def _name(subject: Model | Network | Machine | str) -> str:
    return subject if isinstance(subject, str) else subject.name


def _figures(chosen: Chosen) -> dict[str, str]:
    return {name.removeprefix(MACHINE): str(v) for name, v in chosen.items() if name.startswith(MACHINE)}


def _changed_machine(machine: Machine | str, chosen: Chosen) -> Machine | str:
    figures = _figures(chosen)
    return find_machine(with_options(_name(machine), figures)) if figures else machine


def sweep_request(
    request: Request,
    axes: Sequence[Axis],
    progress: Progress | None = None,
    resolve: Callable[[Request], Scenario] = to_scenario,
) -> Sweep:
    """The sweep of a request as people write it; ``resolve`` makes a scenario of a request."""
    first = {a.name: a.values[0] for a in axes if a.vectorised and not a.is_input}
    base = {"model": request.model, "machine": request.machine, "task": request.task}
    return run(
        tuple(axes),
        lambda chosen: resolve(_changed(request, {**first, **chosen})),
        {
            **base,
            "sizes": {**request.sizes, **request.inputs},
            "plan": dict(request.plan),
            "apply": list(request.apply),
        },
        request.apply,
        progress,
    )


def _changed(request: Request, chosen: Chosen) -> Request:
    """The request with what was chosen in place of what it said."""
    sizes = {name: v for name, v in chosen.items() if name in SIZES}
    plan = {name: v for name, v in chosen.items() if name in PLAN_KEYS}
    inputs = {name: v for name, v in chosen.items() if Axis(name, ()).is_input}
    subjects: dict[str, Any] = {name: chosen.get(name, getattr(request, name)) for name in ("model", "machine", "task")}
    figures = _figures(chosen)
    return replace(
        request,
        model=subjects["model"],
        machine=with_options(subjects["machine"], figures) if figures else subjects["machine"],
        task=subjects["task"],
        sizes={**request.sizes, **sizes},
        plan={**request.plan, **plan},
        inputs={**request.inputs, **inputs},
        apply=(),
        said={**request.said, **{name: f"--vary {name}" for name in (*sizes, *plan, *inputs)}},
    )


def run(
    axes: tuple[Axis, ...],
    make: Callable[[Chosen], Scenario],
    base: Mapping[str, Any],
    techniques: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Sweep:
    """The sweep over ``axes`` of the scenarios that ``make`` gives for values of the axes that are not vectorised.

    ``techniques`` are applied last, before those of an axis ``apply``: what they change may be what varies.
    """
    check(axes)
    slow = [a for a in axes if not a.vectorised]
    blocks = list(product(*(range(len(a.values)) for a in slow)))
    filler = Filler(axes)
    for done, block in enumerate(blocks, start=1):
        at = dict(zip((a.name for a in slow), block, strict=True))
        chosen = {a.name: a.values[at[a.name]] for a in slow}
        fixed = {name: range(i, i + 1) for name, i in at.items()}
        more = techniques_of(chosen.get("apply", NO_TECHNIQUE))
        filler.fill(fixed, partial(make, chosen), (*techniques, *more))
        if progress is not None:
            progress(done, len(blocks))
    columns = filler.finished()
    said = (filler.told(filler.assumptions), filler.told(filler.warnings))
    return Sweep(axes, columns, base, *said, filler.machines, filler.reliance)


def check(axes: Sequence[Axis], most: int = MOST_POINTS) -> None:
    """Refuse a sweep over nothing, over one thing twice, or over more than ``most`` points."""
    if not axes:
        raise RidgepointError("bad_vary", "nothing varies", "add --vary batch=1:256:log2")
    names = [a.name for a in axes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RidgepointError("bad_vary", f"{twice} varies twice", "say it once")
    points = math.prod(len(a.values) for a in axes)
    if points > most:
        raise RidgepointError("bad_sweep", f"the sweep has {points:,} points", f"take at most {most:,}")
