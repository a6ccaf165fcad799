"""One model for many tasks: checkpoints kept side by side, or one merged set of weights with a mask for each task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.conditions import every, infers
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, scaled_entries
from ridgepoint.techniques.technique import Parameter

_TASKS = Parameter("tasks", 20.0, "tasks that are served", 1.0, 1e5, whole=True)


def masked_ratio(tasks: Num, bits: Num) -> Num:
    """Bytes stored of base weights, merged difference and a one-bit mask per task, over those of one checkpoint: 2 + T/bits.

    >>> masked_ratio(32.0, 16.0)
    4.0
    """
    ratio: Num = 2.0 + tasks / bits
    return ratio


@technique(
    "task-checkpoints",
    title="a checkpoint of its own for every task",
    mechanism=("model_merging",),
    papers=("tall-masks", "atlas-task-vectors", "tangent-task-arithmetic"),
    quality="that of fine-tuning each task alone",
    grade="exact",
    cannot=every(infers),
    parameters=(_TASKS,),
    occupies=("weights of tasks",),
    presumes="several tasks are served by fine-tuned forms of this model",
    neutral={"tasks": 1.0},
)
def task_checkpoints(given: Scenario, values: Values) -> Scenario:
    """All T fine-tuned checkpoints stay in memory: T times the weights. A run is as long as before.

    >>> import ridgepoint as rp
    >>> def weights(*apply: str) -> float:
    ...     task = rp.Forward(batch=1)
    ...     return rp.estimate("vit_large_patch14_clip_224", on="h100-sxm", task=task, apply=apply).memory["weights"]
    >>> round(float(weights("task-checkpoints:tasks=8") / weights()), 6)
    8.0
    """
    return edited(given, "task-checkpoints", _side_by_side, values)


def _side_by_side(built: Built, given: Scenario, values: Values) -> Built:
    return scaled_entries(built, values["tasks"], "weights")


@technique(
    "task-masks",
    title="merged weights and a one-bit mask for every task",
    mechanism=("model_merging", "unstructured_sparsity"),
    papers=("tall-masks",),
    quality="TALL-masks: nearly that of separate checkpoints with twenty tasks",
    grade="near",
    cannot=every(infers),
    parameters=(
        _TASKS,
        Parameter("bits", 32.0, "bits of a weight as stored", 1.0, 32.0),
        Parameter("switched", 1.0, "part of the runs that change the task", 0.0, 1.0),
    ),
    occupies=("weights of tasks",),
    presumes="several tasks are served by fine-tuned forms of this model",
)
def task_masks(given: Scenario, values: Values) -> Scenario:
    """A task's weights are base + mask · merged difference: 2 + T/bits checkpoints in place of T.

    Wang et al. 2024 (TALL-masks). Changing the task reads base, difference and mask and writes the task's weights. With few
    tasks separate checkpoints are smaller: below 3.1 of them at 32 bits.

    >>> import ridgepoint as rp
    >>> def weights(*apply: str) -> float:
    ...     task = rp.Forward(batch=1)
    ...     return rp.estimate("vit_large_patch14_clip_224", on="h100-sxm", task=task, apply=apply).memory["weights"]
    >>> def saved(tasks: int) -> float:
    ...     return float(weights(f"task-checkpoints:tasks={tasks}") / weights(f"task-masks:tasks={tasks}"))
    >>> saved(2) < 1.0 < saved(20)
    True
    """
    return edited(given, "task-masks", _masked, values)


def _masked(built: Built, given: Scenario, values: Values) -> Built:
    whole = built.ledger["weights"]
    switch = Stream(
        read_bytes=plain(whole * (2.0 + 1.0 / values["bits"])),
        write_bytes=whole,
        flop=plain(2.0 * whole * 8.0 / values["bits"]),
        label="switch_task",
    )
    change = Phase("switch", switch, count=values["switched"], role=built.phases[0].role)
    phases = built.phases if not np.any(np.asarray(values["switched"]) > 0.0) else (change, *built.phases)
    return scaled_entries(replace(built, phases=phases), masked_ratio(values["tasks"], values["bits"]), "weights")
