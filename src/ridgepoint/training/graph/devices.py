"""The devices of a graph's calls: groups of whole nodes or even parts of one, and what their hosts have room for."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.models.parameters import total_parameters
from ridgepoint.tasks.memory import tier_rooms
from ridgepoint.training.divisors import divisors
from ridgepoint.training.goodput import STATE_BYTES
from ridgepoint.training.graph.graph import Graph

WEIGHT_BYTES = 2.0
"""Bytes per parameter of a model that only scores or generates."""


def check_host(graph: Graph, machine: Machine) -> None:
    """Refuse what rests in the host's memory and does not fit there: weights, and states of what is trained."""
    room = tier_rooms(machine).get("host")
    resting = [member for member in graph.members.values() if member.rest == "host"]
    if room is None or not resting:
        return
    room *= machine.devices
    need = sum(
        total_parameters(member.model) * (STATE_BYTES if graph.trained(member.name) else WEIGHT_BYTES)
        for member in resting
    )
    if need > room:
        raise RidgepointError(
            "does_not_fit",
            f"{', '.join(member.name for member in resting)} need at least {need / 1e9:,.0f} GB of the hosts' "
            f"{room / 1e9:,.0f} GB",
            "let fewer models rest there, or use more nodes",
        )


def parts_of(graph: Graph, machine: Machine) -> dict[str, Machine]:
    """The machine of every group, and of calls that have all devices."""
    wanted = sum(graph.groups.values())
    if wanted > machine.devices:
        raise RidgepointError(
            "bad_graph",
            f"the groups have {wanted} devices, {machine.name} has {machine.devices}",
            "make a group smaller",
        )
    return {"": machine, **{name: _part(machine, name, count) for name, count in graph.groups.items()}}


def _part(machine: Machine, name: str, count: int) -> Machine:
    """``count`` devices of a machine: whole nodes, or a part of one."""
    per_node = machine.devices_per_node
    if count >= 1 and count % per_node == 0:
        nodes = count // per_node
        each = machine.device.name if per_node == 1 else f"{per_node}x{machine.device.name}"
        return replace(machine, name=each if nodes == 1 else f"{nodes}x{each}", nodes=nodes)
    if count < 1 or per_node % count:
        near = sorted({*divisors(per_node)} | {per_node * k for k in (1, 2, 4)})
        raise RidgepointError(
            "bad_graph",
            f"group {name} has {count} devices: neither whole nodes of {per_node} nor an even part of one",
            "use one of " + ", ".join(map(str, near)),
        )
    each = machine.device.name if count == 1 else f"{count}x{machine.device.name}"
    return replace(machine, name=each, devices_per_node=count, nodes=1)
