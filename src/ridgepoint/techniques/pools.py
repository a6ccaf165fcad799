"""Prefill on some devices, decode on others: keys and values travel once per request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Collective
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Generate
from ridgepoint.tasks.build import Built, Phase, times
from ridgepoint.tasks.inference import per_replica
from ridgepoint.techniques.conditions import every, several_devices, task_is, transformer
from ridgepoint.techniques.reductions import before
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Pipeline, Repeat, Seq, Stage, Work

_LONG = 1e6
"""Requests after which the filling of a pipeline of two pools no longer shows."""


def divided(machine: Machine, first: float) -> tuple[Machine, Machine]:
    """``machine`` as a pool of its ``first`` devices and one of the rest: whole nodes, or parts of a single node.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> [m.devices for m in divided(find_machine("8xh100-sxm"), 2)]
    [2, 6]

    Errors: ``bad_machine`` for a cut through a node of several, or an empty pool.
    """
    count, each = int(first), machine.devices_per_node
    if not 0 < count < machine.devices:
        raise RidgepointError(
            "bad_machine", f"{count} of {machine.devices} devices for prompts", "leave devices to both pools"
        )
    if machine.nodes == 1:
        return replace(machine, devices_per_node=count), replace(machine, devices_per_node=each - count)
    if count % each:
        raise RidgepointError(
            "bad_machine", f"{count} devices are no whole nodes of {each}", f"give a multiple of {each}"
        )
    return replace(machine, nodes=count // each), replace(machine, nodes=machine.nodes - count // each)


def _pools(given: Scenario, values: Values) -> tuple[Scenario, Scenario]:
    """The scenario on each pool; layouts that are not given are derived for each."""
    prompts, steps = divided(given.machine, values["prefill_devices"])
    plan = replace(given.plan, dp=None)
    return replace(given, machine=prompts, plan=plan), replace(given, machine=steps, plan=plan)


def _fits_pools(given: Scenario, values: Values) -> str:
    try:
        for pool in _pools(given, values):
            replace(pool, edits=()).build()
    except RidgepointError as error:
        return error.message
    return ""


@technique(
    "prefill-decode-disaggregation",
    title="prompts on some devices, decode steps on the others",
    mechanism=("disaggregation", "batching_scheduling"),
    papers=("splitwise", "fenghuang"),
    quality="the same results",
    grade="exact",
    cannot=every(transformer, task_is(Generate), several_devices, _fits_pools),
    parameters=(
        Parameter("prefill_devices", 4.0, "devices that read prompts (whole nodes of a cluster); the others decode", 1.0, 1e6,
                  whole=True, one_value=True),
    ),
    occupies=("schedule", "layout"),
)  # fmt: skip
def prefill_decode_disaggregation(given: Scenario, values: Values) -> Scenario:
    """A pool reads prompts one at a time per replica, the other decodes all requests; each request's cache crosses once.

    TTFT = F₁ + cache/link. Between tokens no prompt intervenes; the slower pool sets the pace: for b requests under way and r
    prefill replicas TPOT = max(D, b · F₁ / (r · (o − 1))), as in a pipeline of two stages. So the best split follows the load,
    and an idle pool is wasted. The transfer is counted whole; layer-wise it would partly hide.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task = rp.Generate(batch=64, prompt=8192, output=256)
    ...     return rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=task, plan=rp.Plan(tp=1), apply=apply)
    >>> mixed, apart = run("continuous-batching"), run("prefill-decode-disaggregation:prefill_devices=4")
    >>> apart.tpot_s < mixed.tpot_s
    True
    """
    return edited(given, "prefill-decode-disaggregation", _apart, values)


def _apart(built: Built, given: Scenario, values: Values) -> Built:
    task = given.task
    assert isinstance(task, Generate)
    reading, writing = _pools(before(given, "prefill-decode-disaggregation"), values)
    steps = writing.build()
    replicas = reading.build().layout.dp
    one = replace(reading, task=replace(task, batch=replicas)).build()
    prompt = _joined(one, "first")
    load = task.batch / (replicas * np.maximum(task.output - 1.0, 1.0))
    crossing = _transfer(steps, given, values)
    next_step = _joined(steps, "next")
    pace = Repeat(1.0 / _LONG, Pipeline((Stage(1.0, times(plain(load), prompt)), Stage(1.0, next_step)), _LONG))
    captured = next(phase.captured for phase in steps.phases if phase.role == "next")
    phases = (
        Phase("prefill", Seq(prompt, crossing), role="first", captured=one.phases[0].captured),
        Phase("decode.paced", pace, role="next", captured=captured),
    )
    said = (
        "requests of equal length arrive evenly; power and cost are those of all devices, busy or not; "
        f"memory is that of a decoding device ({writing.machine.devices} of {given.machine.devices})"
    )
    return assumed(replace(built, phases=phases, ledger=steps.ledger), said)


def _joined(built: Built, role: str) -> Work:
    found = [times(phase.count, phase.work) for phase in built.phases if phase.role == role]
    return found[0] if len(found) == 1 else Seq(*found)


def _transfer(steps: Built, given: Scenario, values: Values) -> Collective:
    """One request's keys and values, from every device of a prefill replica to its partner in the other pool."""
    task: Any = given.task
    here = per_replica(task.batch, steps.layout)
    prompt: Num = task.prompt / (task.prompt + task.output - 1.0)
    return Collective(
        operation="send_recv",
        bytes=steps.ledger["kv"] / here * prompt,
        ranks=2.0,
        stride=values["prefill_devices"],
        label="cache.transfer",
    )
