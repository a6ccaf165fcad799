"""Collectives: α–β models of rings, trees, in-switch reduction and one-kernel exchanges, over one link or two levels.

Every algorithm is a count of bytes on the node link and on the network, and of steps on each. With b bytes, n ranks in
g nodes of l = n/g (bytes as nccl-tests count them):

    all_reduce      ring          node 2(n−1)/n·b     network 2(n−1)/n·b/l     2(n−1) hops        Patarasuk, Yuan 2009
                    tree          node 2b             network 2b/l             2(l−1) + 2⌈log2 g⌉ Sanders et al. 2009
                    hierarchical  node 2(l−1)/l·b     network 2(g−1)/g·b/l     2(l−1) + 2(g−1)    Cho et al. 2019
                    in_switch     node (1+1/l)·b      network 2(g−1)/g·b/l     2 + 2⌈log2 g⌉      Graham et al. 2020
                    one_shot      node (n−1)·b                                 1                  serving engines
                    two_shot      node 2(n−1)/n·b                              2                  serving engines
    all_gather, reduce_scatter    half of ring or hierarchical; the own part is copied by the same kernel
    all_to_all      pairwise      node (l−1)/n·b      network (n−l)/n·b        2
    broadcast       ring, tree    node b              network b/l              n−1, or l−1 + ⌈log2 g⌉
    send_recv       direct        b on the link that joins the two             1

Messages are cut into chunks that follow one another through the steps. With A = steps·α seconds of latency and
L = bytes/β on the slower link, k chunks take (1 + k/steps)·A + (1 + steps/k)·L, and the best k gives

    time = start + (√A + √L)²

of which L + √(A·L) is the link's part and A + √(A·L) the latency's. ``auto`` is the fastest of what the machine has,
``nccl`` the fastest without the one-kernel exchanges of the serving engines, which need the buffer registered
beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.groups import Group, exchange_share, pair_share, place, ring_hops, ring_share
from ridgepoint.kernels.rules import Rules, zero
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, distinct
from ridgepoint.ops import Collective

_TINY = 1e-30


@dataclass(frozen=True)
class Traffic:
    """What one algorithm asks of the links: bytes per rank and steps, on the node link and on the network.

    ``pattern`` says how the bytes use a node link's ports; ``direct`` marks the one-kernel exchanges.
    """

    node_bytes: Num = 0.0
    network_bytes: Num = 0.0
    node_steps: Num = 0.0
    network_steps: Num = 0.0
    pattern: str = "ring"
    direct: bool = False


def _shared_hops(group: Group, passes: float) -> tuple[Num, Num]:
    """Hops of ``passes`` rings through all ranks: those inside nodes and those between them."""
    hops = passes * ring_hops(group.node_link[1] if group.node_link else None, group.ranks)
    between = np.where(np.asarray(group.nodes) > 1.0, hops * group.nodes / group.ranks, 0.0)
    return hops - between, between


def _log2(x: Num) -> Num:
    return np.ceil(np.log2(np.maximum(x, 1.0)))


def _ring(op: Collective, group: Group) -> Traffic:
    passes = 2.0 if op.operation == "all_reduce" else 1.0
    node, network = _shared_hops(group, passes)
    share = op.bytes if op.operation == "broadcast" else passes * (group.ranks - 1.0) / group.ranks * op.bytes
    return _within(group, Traffic(share, share / group.local, node, network))


def _tree(op: Collective, group: Group) -> Traffic:
    passes = 2.0 if op.operation == "all_reduce" else 1.0
    moved = passes * op.bytes
    steps = passes * (group.local - 1.0), passes * _log2(group.nodes)
    return _within(group, Traffic(moved, moved / group.local, *steps))


def _hierarchical(op: Collective, group: Group) -> Traffic:
    passes = 2.0 if op.operation == "all_reduce" else 1.0
    node = passes * (group.local - 1.0) / group.local * op.bytes
    hops = ring_hops(group.node_link[1] if group.node_link else None, group.local)
    return Traffic(node, _rails(op, group, passes), passes * hops, passes * (group.nodes - 1.0))


def _rails(op: Collective, group: Group, passes: float) -> Num:
    """Bytes on one rank's network port when the ranks of a node split the buffer among their ports."""
    return passes * (group.nodes - 1.0) / group.nodes * op.bytes / group.local


def _in_switch(op: Collective, group: Group) -> Traffic:
    node = np.where(np.asarray(group.local) > 1.0, (1.0 + 1.0 / group.local) * op.bytes, 0.0)
    network = _rails(op, group, 2.0)
    if group.network is not None and group.network[1].in_network_reduction:
        network = np.where(np.asarray(group.nodes) > 1.0, op.bytes / group.local, 0.0)
    return Traffic(node, network, np.where(np.asarray(group.local) > 1.0, 2.0, 0.0), 2.0 * _log2(group.nodes))


def _one_shot(op: Collective, group: Group) -> Traffic:
    return Traffic((group.ranks - 1.0) * op.bytes, node_steps=1.0, pattern="exchange", direct=True)


def _two_shot(op: Collective, group: Group) -> Traffic:
    moved = 2.0 * (group.ranks - 1.0) / group.ranks * op.bytes
    return Traffic(moved, node_steps=2.0, pattern="exchange", direct=True)


def _pairwise(op: Collective, group: Group) -> Traffic:
    node = (group.local - 1.0) / group.ranks * op.bytes
    network = (group.ranks - group.local) / group.ranks * op.bytes
    return _within(group, Traffic(node, network, 2.0, 2.0, pattern="exchange"))


def _direct(op: Collective, group: Group) -> Traffic:
    across = np.asarray(group.nodes) > 1.0
    moved = np.where(across, 0.0, op.bytes), np.where(across, op.bytes, 0.0)
    return Traffic(*moved, np.where(across, 0.0, 1.0), np.where(across, 1.0, 0.0), pattern="pair")


def _within(group: Group, traffic: Traffic) -> Traffic:
    """``traffic`` without the level that the group does not span."""
    inside, across = np.asarray(group.local) > 1.0, np.asarray(group.nodes) > 1.0
    return replace(
        traffic,
        node_bytes=np.where(inside, traffic.node_bytes, 0.0),
        node_steps=np.where(inside, traffic.node_steps, 0.0),
        network_bytes=np.where(across, traffic.network_bytes, 0.0),
        network_steps=np.where(across, traffic.network_steps, 0.0),
    )


Algorithm = Callable[[Collective, Group], Traffic]
_GATHER: dict[str, Algorithm] = {"ring": _ring, "hierarchical": _hierarchical}
ALGORITHMS: dict[str, dict[str, Algorithm]] = {
    "all_reduce": {
        "ring": _ring,
        "tree": _tree,
        "hierarchical": _hierarchical,
        "in_switch": _in_switch,
        "one_shot": _one_shot,
        "two_shot": _two_shot,
    },
    "all_gather": _GATHER,
    "reduce_scatter": _GATHER,
    "all_to_all": {"pairwise": _pairwise},
    "broadcast": {"ring": _ring, "tree": _tree},
    "send_recv": {"direct": _direct},
}
_ENGINE = ("one_shot", "two_shot")


def traffic(op: Collective, machine: Machine) -> dict[str, Traffic]:
    """The counts of each algorithm that ``op`` may use on ``machine``.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> counts = traffic(Collective(operation="all_reduce", bytes=8e6, ranks=8.0), find_machine("8xa100-sxm-80gb"))
    >>> float(counts["ring"].node_bytes), float(counts["ring"].node_steps)
    (14000000.0, 14.0)
    """
    group = place(op, machine)
    return {name: ALGORITHMS[op.operation][name](op, group) for name in _choices(op, group)}


def _choices(op: Collective, group: Group) -> list[str]:
    """Names of the algorithms to choose from.

    Errors: ``bad_work`` for an unknown operation or algorithm, ``bad_plan`` for one that the group's links cannot do.
    """
    if op.operation not in ALGORITHMS:
        raise RidgepointError(
            "bad_work", f"unknown collective '{op.operation}'", "use one of " + ", ".join(sorted(ALGORITHMS))
        )
    known = ALGORITHMS[op.operation]
    possible = [name for name in known if _is_possible(name, group)]
    if op.algorithm == "auto":
        return possible
    if op.algorithm == "nccl":
        return [name for name in possible if name not in _ENGINE]
    if op.algorithm not in known:
        raise RidgepointError(
            "bad_work",
            f"unknown algorithm '{op.algorithm}' for {op.operation}",
            "use one of " + ", ".join(["auto", "nccl", *known]),
        )
    if op.algorithm not in possible:
        raise RidgepointError(
            "bad_plan",
            f"the links of this group cannot do {op.algorithm}",
            "use one of " + ", ".join(["auto", *possible]),
        )
    return [op.algorithm]


def _is_possible(name: str, group: Group) -> bool:
    """Whether the links can do it: switches must reduce, one-kernel exchanges need a device link and one node."""
    node, network = group.node_link, group.network
    if name == "in_switch":
        return any(link is not None and link[1].in_network_reduction for link in (node, network))
    if name in _ENGINE:
        return bool(np.max(group.nodes) <= 1.0) and (node is None or node[1].scope == "node")
    return True


def read_bytes(op: Collective) -> Num:
    """What a rank sends from its memory: its input, once."""
    part = 1.0 / op.ranks if op.operation == "all_gather" else 1.0
    return np.where(np.asarray(op.ranks) > 1.0, op.bytes * part, 0.0)


def write_bytes(op: Collective) -> Num:
    """What a rank receives into its memory: its result, once."""
    part = 1.0 / op.ranks if op.operation == "reduce_scatter" else 1.0
    return np.where(np.asarray(op.ranks) > 1.0, op.bytes * part, 0.0)


def _least(op: Collective, group: Group) -> tuple[Num, Num]:
    """The least bytes that a rank must move over the node link and over its network port."""
    if op.operation in ("all_to_all", "send_recv"):
        only = (_pairwise if op.operation == "all_to_all" else _direct)(op, group)
        return only.node_bytes, only.network_bytes
    if op.operation == "broadcast":
        across = np.asarray(group.nodes) > 1.0
        inside = np.where(np.asarray(group.local) > 1.0, op.bytes, 0.0)
        return inside, np.where(across, op.bytes / group.local, 0.0)
    best = _hierarchical(op, group)
    node, network = best.node_bytes, best.network_bytes
    if op.operation == "all_reduce" and group.node_link is not None and group.node_link[1].in_network_reduction:
        node = np.minimum(node, op.bytes)
    if op.operation == "all_reduce" and group.network is not None and group.network[1].in_network_reduction:
        network = np.minimum(network, op.bytes / group.local)
    return node, network


def bound(op: Collective, machine: Machine) -> Demand:
    """The least bytes any rank must send or receive, over the peak bandwidth of each link; no latency."""
    group = place(op, machine)
    _choices(op, group)
    node, network = _least(op, group)
    pattern = {"all_to_all": "exchange", "send_recv": "pair"}.get(op.operation, "ring")
    seconds: dict[str, Num] = {}
    if group.node_link is not None:
        name, link = group.node_link
        seconds[name] = node / (float(link.bandwidth) * _share(group, pattern))
    if group.network is not None:
        name, link = group.network
        seconds[name] = seconds.get(name, 0.0) + network / float(link.bandwidth)
    return Demand((Phase(seconds or {"link_latency": np.zeros(np.shape(op.ranks))}),))


def _share(group: Group, pattern: str) -> Num:
    """Part of the node link's bandwidth that the pattern of traffic can use."""
    if group.node_link is None:
        return 1.0
    link = group.node_link[1]
    if pattern == "pair":
        return pair_share(link)
    return exchange_share(link, group.local) if pattern == "exchange" else ring_share(link, group.local)


def expected(op: Collective, machine: Machine) -> Demand:
    """The α–β model of the module's docstring; the fastest algorithm at each point.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> step = Collective(operation="all_reduce", bytes=512 * 2.0**20, ranks=8.0)
    >>> 1.9e-3 < settle(expected(step, find_machine("8xh100-sxm"))).time_s < 2.4e-3
    True
    """
    found = distinct(op.bytes, op.ranks, op.stride)
    if found is None:
        return _expected(op, machine)
    (size, ranks, stride), spread = found
    return replace(_expected(replace(op, bytes=size, ranks=ranks, stride=stride), machine), spread=spread)


def _expected(op: Collective, machine: Machine) -> Demand:
    group = place(op, machine)
    ways = [_seconds(op, ALGORITHMS[op.operation][name](op, group), group, machine) for name in _choices(op, group)]
    ways = [_where_registered(op, machine, way, ways[0]) for way in ways]
    return _demand(ways)


@dataclass(frozen=True)
class _Way:
    """One algorithm in seconds by resource: the links side by side, then latencies and the start."""

    links: dict[str, Num]
    latency: dict[str, Num]
    direct: bool


def _seconds(op: Collective, counts: Traffic, group: Group, machine: Machine) -> _Way:
    table = machine.coefficients.collective
    links: dict[str, Num] = {}
    steps: dict[str, Num] = {"link_latency": 0.0, "network_latency": 0.0}
    on = np.where(np.asarray(op.ranks) > 1.0, 1.0, 0.0)
    if group.node_link is not None:
        name, link = group.node_link
        own = _own_copy(op, table.own_copy)
        rate = float(link.bandwidth) * table.efficiency[link.scope] * _share(group, counts.pattern)
        links[name] = on * (counts.node_bytes + own) / rate
        alpha = table.direct_latency_s if counts.direct else float(link.latency or table.latency_s[link.scope])
        steps["link_latency"] = on * counts.node_steps * alpha
    if group.network is not None:
        name, link = group.network
        rate = float(link.bandwidth) * table.efficiency["cluster"]
        links[name] = links.get(name, 0.0) + on * counts.network_bytes / rate
        steps["network_latency"] = on * counts.network_steps * float(link.latency or table.latency_s["cluster"])
    latency = _pipelined(links, steps)
    latency["launch"] = on * (table.direct_start_s if counts.direct else table.start_s)
    return _Way(links, latency, counts.direct)


def _pipelined(links: dict[str, Num], steps: dict[str, Num]) -> dict[str, Num]:
    """Scale both sides to the best number of chunks: (√A + √L)² = (L + √AL) + (A + √AL). Changes ``links`` in place."""
    A = steps["link_latency"] + steps["network_latency"]
    L: Num = 0.0
    for t in links.values():
        L = np.maximum(L, t)
    for name, t in links.items():
        links[name] = t * (1.0 + np.sqrt(A / np.maximum(L, _TINY)))
    return {name: t * (1.0 + np.sqrt(L / np.maximum(A, _TINY))) for name, t in steps.items()}


def _own_copy(op: Collective, own_copy: float) -> Num:
    """Bytes of the link's time that copying a rank's own part takes (out-of-place gathers and exchanges)."""
    return own_copy * op.bytes / op.ranks if op.operation in ("all_gather", "reduce_scatter", "all_to_all") else 0.0


def _where_registered(op: Collective, machine: Machine, way: _Way, other: _Way) -> _Way:
    """One-kernel exchanges only up to the size that engines register for them; above it the point takes ``other``."""
    if not way.direct or op.algorithm != "auto":
        return way
    fits = np.asarray(op.bytes) <= machine.coefficients.collective.direct_bytes

    def pick(a: dict[str, Num], b: dict[str, Num]) -> dict[str, Num]:
        return {name: np.where(fits, a[name], b[name]) for name in a}

    return _Way(pick(way.links, other.links), pick(way.latency, other.latency), True)


def _demand(ways: list[_Way]) -> Demand:
    """The ways along a leading axis."""

    def stack(tables: list[dict[str, Num]]) -> dict[str, Num]:
        shape = np.broadcast_shapes(*(np.shape(t) for table in tables for t in table.values()))
        return {name: np.stack([np.broadcast_to(t[name], shape) for t in tables]) for name in tables[0]}

    links, latency = (stack([w.links for w in ways]), stack([w.latency for w in ways]))
    phases = [Phase(links)] if links else []
    phases += [Phase({name: seconds}) for name, seconds in latency.items()]
    return Demand(tuple(phases), alternatives=True)


RULES = Rules(zero, read_bytes, write_bytes, bound, expected, table="collective")
