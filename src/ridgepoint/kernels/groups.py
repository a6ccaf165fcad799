"""Where the ranks of a group sit, and what the links between them give (for ``collective.py``).

Ranks of a group with stride s occupy the devices 0, s, 2s …; with D devices in a node, D/s of them (at least one)
share a node. A link's bandwidth is per device and direction over all its ports: what a pattern of traffic can use of it
depends on the topology.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.torus import Torus, group_on
from ridgepoint.machines.description import Link
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num
from ridgepoint.ops import Collective


@dataclass(frozen=True)
class Group:
    """``ranks`` devices, ``local`` of them in each of ``nodes`` nodes, and the links that join them (name, sheet)."""

    ranks: Num
    local: Num
    nodes: Num
    node_link: tuple[str, Link] | None
    network: tuple[str, Link] | None
    apart: Num = 1.0
    """Nodes from one node of the group to the next."""
    torus: Torus | None = None
    """Where its ranks lie on a torus."""


def where(condition: bool | NDArray[np.bool_], a: Num, b: Num) -> Num:
    """``a`` where the condition holds, else ``b``; quick for one point."""
    if isinstance(condition, bool | np.bool_):
        return a if condition else b
    return np.where(condition, a, b)


def largest(value: Num) -> float:
    """The largest of a sweep."""
    return float(np.max(value)) if isinstance(value, np.ndarray) else float(value)


def place(op: Collective, machine: Machine) -> Group:
    """The group of ``op`` on ``machine``.

    Errors: ``bad_plan`` for a group that does not fit or that no link joins.
    """
    span = largest((op.ranks - 1.0) * op.stride + 1.0)
    if -largest(-op.ranks) < 1.0 or -largest(-op.stride) < 1.0:
        raise RidgepointError("bad_work", f"a group needs ranks ≥ 1 and stride ≥ 1, not {op.ranks} and {op.stride}")
    if span > machine.devices:
        raise RidgepointError(
            "bad_plan",
            f"a group of {largest(op.ranks):g} ranks with stride {largest(op.stride):g} needs {span:g} devices; "
            f"{machine.name} has {machine.devices}",
            "use a smaller parallel degree or a larger machine, e.g. "
            f"{max(2, -(-int(span) // machine.devices_per_node))}x{machine.devices_per_node}x{machine.device.name}",
        )
    per_node = np.maximum(np.floor(machine.devices_per_node / op.stride), 1.0)
    nodes = np.ceil(op.ranks / np.minimum(per_node, op.ranks))
    local = op.ranks / nodes
    node_link = _link(machine, "node") if largest(local) > 1.0 else None
    on_torus = node_link is not None and node_link[1].topology == "torus"
    return Group(
        op.ranks,
        local,
        nodes,
        node_link,
        _link(machine, "cluster") if largest(nodes) > 1.0 else None,
        np.maximum(op.stride / machine.devices_per_node, 1.0),
        group_on(node_link[1], machine.devices_per_node, local, op.stride) if node_link and on_torus else None,
    )


def _link(machine: Machine, scope: str) -> tuple[str, Link]:
    link = machine.link(scope)
    if link is None:
        raise RidgepointError(
            "bad_plan",
            f"{machine.name} has no link of scope '{scope}' that joins the group",
            "keep the group on one device, or add the link to the machine file",
        )
    return link


def ring_share(link: Link, ranks: Num) -> Num:
    """Part of a device's link bandwidth that rings through ``ranks`` devices can use.

    - switch, fat-tree, dragonfly, host: all of it; a torus has shares of its own (``torus.py``).
    - mesh (a port to each other device): the ports that lead into the group, (n−1)/(d−1).
    - ring: all of it around the whole ring; on a part of it the logical ring returns over the same ports, half.
    """
    size = float(link.devices or 0)
    if link.topology == "mesh" and size > 2.0:
        return np.minimum(np.maximum(ranks - 1.0, 1.0) / (size - 1.0), 1.0)
    if link.topology == "ring" and size > 2.0:
        return where(ranks < size, 0.5, 1.0)
    return 1.0


def pair_share(link: Link) -> float:
    """Part of a device's link bandwidth that one message to one neighbour can use."""
    size = float(link.devices or 0)
    if link.topology == "mesh" and size > 2.0:
        return 1.0 / (size - 1.0)
    return 0.5 if link.topology == "ring" else 1.0


def exchange_share(link: Link, ranks: Num) -> Num:
    """Part of a device's link bandwidth that serves an exchange of every rank with every other.

    Where messages pass through other devices, each takes bandwidth of every hop: n/4 hops on average around a ring (bisection
    argument; Dally and Towles 2004, ch. 3).
    """
    if link.topology == "mesh":
        return ring_share(link, ranks)
    if link.topology == "ring":
        return 1.0 / np.maximum(ranks / 4.0, 1.0)
    return 1.0


def network_share(link: Link, group: Group, pattern: str) -> Num:
    """Part of a network port's bandwidth that a pattern of traffic can use beyond oversubscribed switches.

    All ports are taken to be busy at once: every device belongs to a group of the same kind, and the groups share the uplinks
    of their pods evenly. With oversubscription o, k nodes of a group in a pod and g in all

    - ring, tree, hierarchical: one of k nodes sends out of the pod: k/o of the rate.
    - exchange: (g − k)/(g − 1) of what a node sends leaves the pod: the inverse of o times that.
    - pair: neighbours s nodes apart are in other pods in s/pod of the cases.
    """
    over, pod = float(link.oversubscription or 1.0), float(link.pod or 1)
    if over <= 1.0:
        return 1.0
    inside = np.minimum(np.maximum(np.floor(pod / group.apart), 1.0), group.nodes)
    leaves: Any = group.nodes > inside
    if pattern == "exchange":
        out = (group.nodes - inside) / np.maximum(group.nodes - 1.0, 1.0)
        share = 1.0 / np.maximum(over * out, 1.0)
    elif pattern == "pair":
        out = np.minimum(group.apart / pod, 1.0)
        share = 1.0 / np.maximum(over * out, 1.0)
        leaves = group.nodes > 1.0
    else:
        share = np.minimum(inside / over, 1.0)
    return where(leaves, share, 1.0)


def ring_hops(group: Group, ranks: Num) -> Num:
    """Steps of one ring pass over ``ranks`` devices of a group, all or those of a node: n−1; on a torus side by side."""
    return ranks - 1.0 if group.torus is None else group.torus.hops + (ranks - group.local)
