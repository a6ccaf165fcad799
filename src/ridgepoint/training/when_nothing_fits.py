"""When no layout fits into memory: the smallest change that would make one fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.training.question import Question
from ridgepoint.training.search import Search, least_memory
from ridgepoint.training.space import base_plan, sweeps

CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--optimizer adam8bit", {"optimizer": "adam8bit"}),
    ("--offload-optimizer host", {"offload_optimizer": "host"}),
    ("--offload-activations host", {"offload_activations": "host"}),
    ("--offload-optimizer host --offload-params host", {"offload_optimizer": "host", "offload_params": "host"}),
    ("--offload-optimizer nvme --offload-params host", {"offload_optimizer": "nvme", "offload_params": "host"}),
    ("--offload-optimizer nvme --offload-params nvme", {"offload_optimizer": "nvme", "offload_params": "nvme"}),
)
"""Changes of a plan, smallest first."""
DOUBLINGS = 6
LEAST_BYTES = 1e9
"""A device with less memory for the run trains nothing: the unit was forgotten."""


def refuse_with_remedy(model: Model, asked: Question, found: Search) -> NoReturn:
    """Raise ``does_not_fit``, with the leanest layout's need and what would help."""
    usable_bytes = asked.usable_bytes
    if usable_bytes < LEAST_BYTES:
        raise RidgepointError(
            "bad_option",
            f"{usable_bytes:,.0f} bytes may be used per device: less than the driver takes",
            "write memory with its unit: --max-memory 70G",
        )
    need = found.leanest.memory_bytes
    remedies = _by_plan(model, asked) + _by_devices(model, asked)
    degrees = " ".join(f"{name} {found.leanest.plan[name]:g}" for name in ("tp", "pp", "cp", "dp", "ep"))
    raise RidgepointError(
        "does_not_fit",
        f"none of {found.searched:,} layouts of {model.name} fits: the leanest ({degrees}, ZeRO "
        f"{found.leanest.plan['zero_stage']:g}) needs {need / 1e9:.1f} GB of the {usable_bytes / 1e9:.1f} GB "
        f"that may be used per device of {asked.machine.name}",
        "it would fit with " + ", or with ".join(remedies) if remedies else "shorten --seq, or use another machine",
    )


def _by_plan(model: Model, asked: Question) -> list[str]:
    """The first change of the plan with which something fits; stages of other sizes are the smallest of all."""
    own = asked.fixed.get("stages", "balanced") != "balanced"
    for words, change in (*((("--stages balanced", {"stages": "balanced"}),) if own else ()), *CHANGES):
        if all(asked.fixed.get(name) == value for name, value in change.items()):
            continue
        if asked.fits(_least(model, asked.with_fields(change))):
            return [words]
    return []


def _by_devices(model: Model, asked: Question) -> list[str]:
    """The smallest multiple of the devices (a power of two) with which something fits."""
    for power in range(1, DOUBLINGS + 1):
        larger = grown(asked.machine, 2**power)
        if larger is not None and asked.fits(_least(model, asked.on(larger))):
            return [f"{larger.devices} devices ({larger.name})"]
    return []


def grown(machine: Machine, factor: int) -> Machine | None:
    """The machine with ``factor`` times the devices: a fuller node first, then more nodes; None where no link joins them."""
    link = machine.link("node")
    room = int(link[1].devices or 1) if link is not None else 1
    per_node, nodes = machine.devices_per_node, machine.nodes
    while factor > 1 and nodes == 1 and per_node * 2 <= room:
        per_node, factor = per_node * 2, factor // 2
    nodes *= factor
    if nodes > 1 and machine.link("cluster") is None:
        return None
    name = machine.device.name if per_node == 1 else f"{per_node}x{machine.device.name}"
    if nodes > 1:
        name = f"{nodes}x{per_node}x{machine.device.name}"
    return replace(machine, name=name, devices_per_node=per_node, nodes=nodes)


def _least(model: Model, asked: Question) -> float:
    """Bytes of the leanest layout; infinity where there is none."""
    machine, task = asked.machine, asked.task
    try:
        space = sweeps(model, machine, int(task.batch), int(task.seq), asked.fixed)
    except RidgepointError:
        return float("inf")
    return least_memory(model, machine, task, base_plan(asked.fixed), space)
