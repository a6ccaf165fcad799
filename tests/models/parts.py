"""What the works of a model compute and move, by component: for hand counts."""

from typing import Any

from ridgepoint.cost.evaluate import Component, evaluate
from ridgepoint.kernels.rules import BOUND
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.models.execution import Cut, Execution, Formats
from ridgepoint.plan import Plan
from ridgepoint.tasks import Task
from ridgepoint.tasks.build import Built, build
from ridgepoint.work import Work

CLUSTER = find_machine("16x8xh100-sxm")
BF16 = Formats((("default", "bf16"),))


def built(model: str, task: Task, **plan: Any) -> Built:
    """A model's task on one device unless the plan says otherwise."""
    return build(find_model(model), CLUSTER, task, Plan(**{"tp": 1, "dp": 1, "weights": "bf16", **plan}))


def execution(tp: float = 1.0, ep: float = 1.0, cp: float = 1.0, sequence: bool = False, **rest: Any) -> Execution:
    """An execution in bf16."""
    return Execution(BF16, Cut(tp=tp, ep=ep, cp=cp, sequence=sequence), **rest)


def components(work: Work) -> dict[str, Component]:
    """The components of one device's work by label."""
    return {c.label: c for c in evaluate(work, CLUSTER, mode=BOUND, strict=True).components}


def flop(work: Work, *kinds: str) -> Any:
    """Arithmetic of all ops of those kinds."""
    return sum(c.flop for c in components(work).values() if c.kind in kinds)
