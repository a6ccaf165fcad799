"""What the algorithms of collectives ask of the links: bytes per rank and steps (for ``collective.py``).

Every algorithm is a count of bytes on the node link and on the network, and of steps on each. With b bytes, n ranks in
g nodes of l = n/g (bytes as nccl-tests count them):

    all_reduce      ring          node 2(n−1)/n·b     network 2(n−1)/n·b/l     2(n−1) hops        Patarasuk, Yuan 2009
                    tree          node 2b             network 2b/l             2(l−1) + 2⌈log2 g⌉ Sanders et al. 2009
                    hierarchical  node 2(l−1)/l·b     network 2(g−1)/g·b/l     2(l−1) + 2(g−1)    Cho et al. 2019
                    in_switch     node (1+1/l)·b      network 2(g−1)/g·b/l     l + 2⌈log2 g⌉      Graham et al. 2020
                    one_shot      node (n−1)·b                                 1                  serving engines
                    two_shot      node 2(n−1)/n·b                              2                  serving engines
    all_gather, reduce_scatter    half of ring or hierarchical; the own part is copied by the same kernel
    all_to_all      pairwise      node (l−1)/n·b      network (n−l)/n·b        2
                    with fanout   node (l−1)/l·r      network (g−1)/g·s        2                  DeepEP
    broadcast       ring, tree    node b              network b/l              n−1, or l−1 + ⌈log2 g⌉
    send_recv       direct        b on the link that joins the two             1

where r and s are the bytes of one copy of the rows for each rank and for each node that a row goes to.

Sources: Patarasuk and Yuan 2009 (rings), Sanders, Speck and Träff 2009 (double binary trees), Cho et al. 2019
(BlueConnect, hierarchical), Graham et al. 2020 (SHARP, in-switch), one- and two-shot kernels of vLLM and TensorRT-LLM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgepoint.kernels.groups import Group, ring_hops, where
from ridgepoint.machines.description import Link
from ridgepoint.numeric import Num
from ridgepoint.ops import Collective


@dataclass(frozen=True)
class Traffic:
    """What one algorithm asks of the links: bytes per rank and steps, on the node link and on the network.

    ``pipelines`` counts the pipelines that chunks fill one after the other, ``alone`` the chunk latencies that nothing
    pipelines. ``pattern`` says how the bytes use a node link's ports, ``efficiency`` which of the table's they reach;
    ``direct`` marks the one-kernel exchanges. ``possible``: where the group's links can do it.
    """

    node_bytes: Num = 0.0
    network_bytes: Num = 0.0
    node_steps: Num = 0.0
    network_steps: Num = 0.0
    pipelines: float = 1.0
    alone: float = 0.0
    pattern: str = "ring"
    efficiency: str = ""
    direct: bool = False
    possible: bool | NDArray[np.bool_] = True


def _shared_hops(group: Group, passes: float) -> tuple[Num, Num]:
    """Hops of ``passes`` rings through all ranks: those inside nodes and those between them."""
    hops = passes * ring_hops(group, group.ranks)
    between = where(group.nodes > 1.0, hops * group.nodes / group.ranks, 0.0)
    return hops - between, between


def _log2(x: Num) -> Num:
    return np.ceil(np.log2(np.maximum(x, 1.0)))


def ring(op: Collective, group: Group) -> Traffic:
    """Through all ranks in turn; rings that enter a node at different ranks share its network ports."""
    passes = 2.0 if op.operation == "all_reduce" else 1.0
    node, network = _shared_hops(group, passes)
    share = op.bytes if op.operation == "broadcast" else passes * (group.ranks - 1.0) / group.ranks * op.bytes
    return _within(group, Traffic(share, share / group.local, node, network))


def tree(op: Collective, group: Group) -> Traffic:
    """A chain inside the node, two complementary binary trees between nodes."""
    passes = 2.0 if op.operation == "all_reduce" else 1.0
    moved = passes * op.bytes
    steps = passes * (group.local - 1.0), passes * _log2(group.nodes)
    return _within(group, Traffic(moved, moved / group.local, *steps))


def hierarchical(op: Collective, group: Group) -> Traffic:
    """Inside the nodes, then between equal ranks of all nodes, then inside again."""
    passes = 2.0 if op.operation == "all_reduce" else 1.0
    node = passes * (group.local - 1.0) / group.local * op.bytes
    hops = ring_hops(group, group.local)
    return Traffic(node, _rails(op, group, passes), passes * hops, passes * (group.nodes - 1.0))


def _rails(op: Collective, group: Group, passes: float) -> Num:
    """Bytes on one rank's network port when the ranks of a node split the buffer among their ports."""
    return passes * (group.nodes - 1.0) / group.nodes * op.bytes / group.local


def in_switch(op: Collective, group: Group) -> Traffic:
    """Switches add what the ranks send: reduce to one owner per part, then multicast; on the levels that can."""
    inside, between = group.local > 1.0, group.nodes > 1.0
    here, there = _reduces(group.node_link), _reduces(group.network)
    other = hierarchical(op, group)
    node, steps, network = other.node_bytes, other.node_steps, other.network_bytes
    if here:
        node, steps = where(inside, (1.0 + 1.0 / group.local) * op.bytes, 0.0), where(inside, group.local, 0.0)
    if there:
        network = where(between, op.bytes / group.local, 0.0)
    return Traffic(
        node,
        network,
        steps,
        2.0 * _log2(group.nodes),
        pipelines=2.0,
        efficiency="in_switch" if here else "",
        possible=(inside & here) | (between & there),
    )


def _reduces(link: tuple[str, Link] | None) -> bool:
    return link is not None and link[1].in_network_reduction


def _one_node(group: Group) -> bool | NDArray[np.bool_]:
    """Where the group lies in one node whose devices reach each other's memory."""
    return (group.nodes <= 1.0) & (group.node_link is None or group.node_link[1].scope == "node")


def one_shot(op: Collective, group: Group) -> Traffic:
    """Every rank reads all other buffers at once."""
    return _one_kernel((group.ranks - 1.0) * op.bytes, 1.0, group)


def two_shot(op: Collective, group: Group) -> Traffic:
    """Every rank reduces its part of all buffers, then reads the reduced parts."""
    return _one_kernel(2.0 * (group.ranks - 1.0) / group.ranks * op.bytes, 2.0, group)


def _one_kernel(moved: Num, steps: float, group: Group) -> Traffic:
    return Traffic(
        moved, node_steps=steps, pattern="exchange", efficiency="direct", direct=True, possible=_one_node(group)
    )


def pairwise(op: Collective, group: Group) -> Traffic:
    """Every rank sends each other rank its part, all at once; two latencies: announce, then send. Rows with a ``fanout`` go to
    every node once, and from there to the ranks that want them.
    """
    if np.any(np.asarray(op.fanout) > 0.0):
        return _within(group, Traffic(*_once_per_node(op, group), 2.0, 2.0, pattern="exchange"))
    node = (group.local - 1.0) / group.ranks * op.bytes
    network = (group.ranks - group.local) / group.ranks * op.bytes
    return _within(group, Traffic(node, network, 2.0, 2.0, pattern="exchange"))


def _once_per_node(op: Collective, group: Group) -> tuple[Num, Num]:
    """Bytes on node link and network: k picks among n ranks hit n·(1 − (1 − 1/n)^k) of them, and nodes alike."""
    row = op.bytes / np.minimum(op.fanout, group.ranks)
    ranks = group.ranks * (1.0 - (1.0 - 1.0 / group.ranks) ** op.fanout)
    nodes = group.nodes * (1.0 - (1.0 - 1.0 / group.nodes) ** op.fanout)
    return row * ranks * (group.local - 1.0) / group.local, row * nodes * (group.nodes - 1.0) / group.nodes


def direct(op: Collective, group: Group) -> Traffic:
    """One message between two neighbours."""
    across = group.nodes > 1.0
    moved = where(across, 0.0, op.bytes), where(across, op.bytes, 0.0)
    return Traffic(
        *moved, where(across, 0.0, 1.0), where(across, 1.0, 0.0), 0.0, 0.5, pattern="pair", efficiency="pair"
    )


def _within(group: Group, traffic: Traffic) -> Traffic:
    """``traffic`` without the level that the group does not span."""
    inside, across = group.local > 1.0, group.nodes > 1.0
    return replace(
        traffic,
        node_bytes=where(inside, traffic.node_bytes, 0.0),
        node_steps=where(inside, traffic.node_steps, 0.0),
        network_bytes=where(across, traffic.network_bytes, 0.0),
        network_steps=where(across, traffic.network_steps, 0.0),
    )


Algorithm = Callable[[Collective, Group], Traffic]
_GATHER: dict[str, Algorithm] = {"ring": ring, "hierarchical": hierarchical}
ALGORITHMS: dict[str, dict[str, Algorithm]] = {
    "all_reduce": {
        "ring": ring,
        "tree": tree,
        "hierarchical": hierarchical,
        "in_switch": in_switch,
        "one_shot": one_shot,
        "two_shot": two_shot,
    },
    "all_gather": _GATHER,
    "reduce_scatter": _GATHER,
    "all_to_all": {"pairwise": pairwise},
    "broadcast": {"ring": ring, "tree": tree},
    "send_recv": {"direct": direct},
}
