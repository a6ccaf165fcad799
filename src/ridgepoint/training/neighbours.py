"""Whose ranks are neighbours, and which of them share states: the part of a layout that decides what crosses which link.

A step's bytes do not change with the order of ranks, nor with the size of the groups that share states; what changes is whether
they stay in a node, in a pod, or cross the whole network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgepoint.kernels.groups import place
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array, Num
from ridgepoint.ops import Collective
from ridgepoint.plan import RANK_ORDERS, Plan
from ridgepoint.tasks.layout import Layout
from ridgepoint.tasks.updates import ever, spans

Rows = dict[str, Array]
NODES = (1, 8, 64)
"""Nodes that a group of replicas fills which share states (hybrid sharding), besides one pod and all of them."""


def orders(machine: Machine, given: Mapping[str, Any]) -> tuple[str, ...]:
    """The orders of ranks that are worth a look: the one that is given, or all where there are several nodes."""
    if "rank_order" in given:
        return (str(given["rank_order"]),)
    return RANK_ORDERS if machine.nodes > 1 else RANK_ORDERS[:1]


def in_order(rows: Rows, order: str, machine: Machine, given: Mapping[str, Any]) -> Rows:
    """The layouts that an order is for: stages as neighbours leave no room for context-parallel ranks and wider groups of
    experts between them, and mean something else only where a node, or a pod, holds more than one tensor-parallel group.
    """
    if order == RANK_ORDERS[0]:
        return rows
    keep = (rows["cp"] == 1.0) & (rows["ep"] <= rows["tp"])
    if "rank_order" not in given:
        keep &= (rows["pp"] > 1.0) & (rows["dp"] > 1.0) & (rows["tp"] < _near(machine))
    return _kept(rows, keep)


def _near(machine: Machine) -> float:
    """Devices that are nearer to each other than to the rest: those of a node, or of a pod of an oversubscribed network."""
    return float(machine.devices_per_node * (_pod(machine) or 1))


def _pod(machine: Machine) -> int | None:
    """Nodes of a pod where what leaves it shares fewer links."""
    link = machine.link("cluster")
    return (
        int(link[1].pod) if link is not None and link[1].pod and float(link[1].oversubscription or 1.0) > 1.0 else None
    )


def with_shards(rows: Rows, order: str, machine: Machine, given: Mapping[str, Any]) -> Rows:
    """The layouts with the group that shares states: all copies of the weights, or as many as fill some nodes.

    The axis ``shard_group`` is left out where nothing but all copies is possible.
    """
    copies = rows["dp"] * rows["cp"]
    if "shard_group" in given:
        only = float(given["shard_group"])
        kept = _kept(rows, (rows["zero_stage"] > 0.0) & (copies % only == 0.0))
        return {**kept, "shard_group": np.full(kept["tp"].size, only)}
    pieces = [{**rows, "shard_group": copies}]
    for size in _sizes(rows, order, machine):
        keep = (rows["zero_stage"] > 0.0) & (size > 1.0) & (size < copies) & (copies % size == 0.0)
        keep &= _whole_experts(rows, size)
        if np.any(keep):
            pieces.append({**_kept(rows, keep), "shard_group": size[keep]})
    return rows if len(pieces) == 1 else {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}


def _sizes(rows: Rows, order: str, machine: Machine) -> Iterator[Array]:
    """For each number of nodes the copies of a stage's weights that they hold."""
    stride = rows["tp"] * rows["pp"] if order == "tp-pp-dp" else rows["tp"]
    pod = _pod(machine)
    for nodes in sorted({*NODES, *((pod,) if pod else ())}):
        if nodes < machine.nodes:
            yield np.maximum(np.floor(nodes * machine.devices_per_node / stride), 1.0)


def _whole_experts(rows: Rows, size: Array) -> Any:
    """Where a group holds whole sets of experts, or a set of experts whole groups."""
    apart = np.maximum(rows["ep"] / rows["tp"], 1.0)
    return (size % apart == 0.0) | (apart % size == 0.0)


def _kept(rows: Rows, keep: Any) -> Rows:
    return {name: values[keep] for name, values in rows.items()}


@dataclass(frozen=True)
class Placed:
    """A group of ranks and where it lies: ``local`` of its ``ranks`` in each of ``nodes`` nodes, over these links."""

    name: str
    ranks: int
    local: int
    nodes: int
    links: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "links": list(self.links)}


def placed(layout: Layout, plan: Plan, machine: Machine) -> list[Placed]:
    """Every group of a layout that communicates, innermost first.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> layout = Layout(4.0, 2.0, 4.0, 1.0, 1.0)
    >>> for one in placed(layout, Plan(), find_machine("4x8xh100-sxm")):
    ...     print(one.name, one.ranks, one.local, one.links)
    tensor 4 4 ('nvlink',)
    data 4 2 ('nvlink', 'network')
    pipeline 2 1 ('network',)
    """
    hybrid = layout.shards is not None and ever(plan, 1.0)
    named: list[tuple[str, tuple[Num, Num]]] = [("tensor", (layout.tp, 1.0)), ("context", (layout.cp, layout.tp))]
    named += [("expert", (layout.ep, 1.0))]
    named += [("shards", spans(layout, "shards")), ("between shards", spans(layout, "groups"))] if hybrid else []
    copies = "data × context" if np.any(np.asarray(layout.cp) > 1.0) else "data"
    named += [] if hybrid else [(copies, spans(layout, "all"))]
    named += [("pipeline", (layout.pp, layout.stage_stride))]
    return [_placed(name, *size, machine) for name, size in named if float(size[0]) > 1.0]


def _placed(name: str, ranks: Num, stride: Num, machine: Machine) -> Placed:
    group = place(Collective(operation="all_gather", bytes=0.0, ranks=ranks, stride=stride), machine)
    links = tuple(link[0] for link in (group.node_link, group.network) if link is not None)
    return Placed(name, round(float(ranks)), round(float(group.local)), round(float(group.nodes)), links)
