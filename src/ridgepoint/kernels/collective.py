"""Collectives: the time of rings, trees, in-switch reduction and one-kernel exchanges, over one link or two levels.

``algorithms.py`` counts bytes and steps. Messages are cut into chunks that follow one another through the algorithm;
with L = bytes/β seconds on the slower link and A seconds that a chunk takes beyond its bytes, k chunks take
(1 + k)·A + (1 + 1/k)·L, and the best k gives

    time = start + steps·α + (√A + √L)²

of which L + √(A·L) is the link's part and the rest the latency's. The steps' own latency does not grow with the
message: a ring pipelines by itself. ``auto`` is the fastest of what the machine has, ``nccl`` the fastest without the
one-kernel exchanges of the serving engines, which need their buffer registered beforehand.

Parts of an exchange of more than 16 KiB (NCCL's ``NCCL_P2P_LL_THRESHOLD``) are no longer sent with a flag beside every word:
sender and receiver meet first, which takes the same time up to a megabyte.

Fitted to NCCL 2.27–2.29 and to the all-reduce kernels of TensorRT-LLM and SGLang, 2 to 8 devices on NVLink 3 to 5.
Nothing was measured between nodes on a known network, nor on torus, ring or PCIe beyond four devices: the counts of a torus
are exact (``torus.py``), its efficiency is that of other links.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.kernels.algorithms import ALGORITHMS, Traffic, direct, hierarchical, pairwise
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.groups import (
    Group,
    exchange_share,
    largest,
    network_share,
    pair_share,
    place,
    ring_share,
    where,
)
from ridgepoint.kernels.rules import Rules, zero
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, distinct
from ridgepoint.ops import Collective

_TINY = 1e-30
_FLAGGED_BYTES = 16384.0
"""Largest part of an exchange that NCCL sends with flags beside the words (protocol LL)."""
_MEETING_S = 14.5e-6
"""What an exchange of larger parts takes at least between GPUs: 14 to 15 µs on A100 and H100, 15 to 18 µs on B200."""

_ENGINE = ("one_shot", "two_shot")
_NEVER_FASTER_IN_ONE_NODE = ("tree", "hierarchical")


def traffic(op: Collective, machine: Machine) -> dict[str, Traffic]:
    """The counts of each algorithm that ``op`` may use on ``machine``; the first is possible everywhere.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> counts = traffic(Collective(operation="all_reduce", bytes=8e6, ranks=8.0), find_machine("8xa100-sxm-80gb"))
    >>> float(counts["ring"].node_bytes), float(counts["ring"].node_steps)
    (14000000.0, 14.0)

    Errors: ``unknown_…`` for the operation or algorithm, ``bad_plan`` for a group or algorithm that the links refuse.
    """
    return _counts(op, place(op, machine))


def _counts(op: Collective, group: Group) -> dict[str, Traffic]:
    if op.operation not in ALGORITHMS:
        raise unknown_name("collective", op.operation, ALGORITHMS)
    known = ALGORITHMS[op.operation]
    if op.algorithm not in ("auto", "nccl", *known):
        raise unknown_name("algorithm", op.algorithm, ["auto", "nccl", *known])
    if op.algorithm in known:
        counts = known[op.algorithm](op, group)
        if not np.all(counts.possible | (op.ranks <= 1.0)):
            raise RidgepointError("bad_plan", f"the links of this group cannot do {op.algorithm}", "use auto")
        return {op.algorithm: counts}
    skipped = _ENGINE if op.algorithm == "nccl" else ()
    if largest(group.nodes) <= 1.0:
        skipped = (*skipped, *_NEVER_FASTER_IN_ONE_NODE)
    counted = {name: known[name](op, group) for name in known if name == next(iter(known)) or name not in skipped}
    return {name: counts for name, counts in counted.items() if np.any(counts.possible)}


def read_bytes(op: Collective) -> Num:
    """What a rank sends from its memory: its input, once."""
    part = 1.0 / op.ranks if op.operation == "all_gather" else 1.0
    return where(op.ranks > 1.0, op.bytes * part, 0.0)


def write_bytes(op: Collective) -> Num:
    """What a rank receives into its memory: its result, once."""
    part = 1.0 / op.ranks if op.operation == "reduce_scatter" else 1.0
    return where(op.ranks > 1.0, op.bytes * part, 0.0)


def _least(op: Collective, group: Group) -> tuple[Num, Num]:
    """The least bytes that a rank must move over the node link and over its network port."""
    if op.operation in ("all_to_all", "send_recv"):
        only = (pairwise if op.operation == "all_to_all" else direct)(op, group)
        return only.node_bytes, only.network_bytes
    if op.operation == "broadcast":
        across = group.nodes > 1.0
        inside = where(group.local > 1.0, op.bytes, 0.0)
        return inside, where(across, op.bytes / group.local, 0.0)
    best = hierarchical(op, group)
    node, network = best.node_bytes, best.network_bytes
    if op.operation == "all_reduce" and group.node_link is not None and group.node_link[1].in_network_reduction:
        node = np.minimum(node, op.bytes)
    if op.operation == "all_reduce" and group.network is not None and group.network[1].in_network_reduction:
        network = np.minimum(network, op.bytes / group.local)
    return node, network


def bound(op: Collective, machine: Machine) -> Demand:
    """The least bytes any rank must send or receive, over the peak bandwidth of each link; no latency."""
    group = place(op, machine)
    _counts(op, group)
    node, network = _least(op, group)
    pattern = {"all_to_all": "exchange", "send_recv": "pair"}.get(op.operation, "ring")
    seconds: dict[str, Num] = {}
    if group.node_link is not None:
        name, link = group.node_link
        seconds[name] = node / (float(link.bandwidth) * _share(group, pattern))
    if group.network is not None:
        name, link = group.network
        rate = float(link.bandwidth) * network_share(link, group, pattern)
        seconds[name] = seconds.get(name, 0.0) + network / rate
    on = where(op.ranks > 1.0, 1.0, 0.0)
    return Demand((Phase({name: on * t for name, t in (seconds or {"link_latency": 0.0}).items()}),))


def _share(group: Group, pattern: str) -> Num:
    """Part of the node link's bandwidth that the pattern of traffic can use."""
    if group.node_link is None:
        return 1.0
    link, torus = group.node_link[1], group.torus
    if torus is not None:
        return {"pair": torus.pair_share, "exchange": torus.exchange_share}.get(pattern, torus.ring_share)
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
    counted = _counts(op, group)
    ways = [_seconds(op, counts, group, machine) for counts in counted.values()]
    allowed = [_allowed(op, counts, machine) for counts in counted.values()]
    return _demand([_where(ok, way, ways[0]) for ok, way in zip(allowed, ways, strict=True)])


@dataclass(frozen=True)
class _Way:
    """One algorithm in seconds by resource: the links side by side, then latencies and the start."""

    links: dict[str, Num]
    latency: dict[str, Num]


def _seconds(op: Collective, counts: Traffic, group: Group, machine: Machine) -> _Way:
    table = machine.coefficients.collective
    links: dict[str, Num] = {}
    steps: dict[str, Num] = {"link_latency": 0.0, "network_latency": 0.0}
    fill: dict[str, Num] = {"link_latency": 0.0, "network_latency": 0.0}
    on = where(op.ranks > 1.0, 1.0, 0.0)
    if group.node_link is not None:
        name, link = group.node_link
        own = _own_copy(op, table.own_copy)
        usual = table.efficiency[link.scope]
        efficiency = table.efficiency.get(counts.efficiency, usual) if link.scope == "node" else usual
        rate = float(link.bandwidth) * efficiency * _share(group, counts.pattern)
        links[name] = on * (counts.node_bytes + own) / rate
        inside = on * where(counts.node_steps > 0.0, 1.0, 0.0)
        if counts.direct:
            fill["link_latency"] = on * counts.node_steps * table.direct_latency_s
        else:
            alpha = float(link.latency or table.latency_s[link.scope])
            fill["link_latency"] = inside * counts.pipelines * table.chunk_s[link.scope]
            steps["link_latency"] = on * counts.node_steps * alpha + inside * counts.alone * table.chunk_s[link.scope]
    if group.network is not None:
        name, link = group.network
        rate = float(link.bandwidth) * table.efficiency["cluster"] * network_share(link, group, counts.pattern)
        links[name] = links.get(name, 0.0) + on * counts.network_bytes / rate
        outside = on * where(counts.network_steps > 0.0, 1.0, 0.0)
        fill["network_latency"] = outside * counts.pipelines * table.chunk_s["cluster"]
        alpha = float(link.latency or table.latency_s["cluster"])
        steps["network_latency"] = on * counts.network_steps * alpha + outside * counts.alone * table.chunk_s["cluster"]
    latency = {name: t + steps[name] for name, t in _pipelined(links, fill).items()}
    latency["launch"] = on * (table.direct_start_s if counts.direct else table.start_s)
    if op.operation == "all_to_all" and machine.device.kind == "gpu":
        # Beside the links, so that the whole takes at least as long as it takes to meet.
        meets = (op.bytes / op.ranks > _FLAGGED_BYTES) & (np.asarray(op.fanout) <= 0.0)
        rest = np.maximum(_MEETING_S - sum(latency.values(), 0.0), 0.0)
        links["link_latency"] = on * where(meets, rest, 0.0)
    return _Way(links, latency)


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


def _allowed(op: Collective, counts: Traffic, machine: Machine) -> bool | NDArray[np.bool_]:
    """Where the algorithm may be chosen; one-kernel exchanges only up to the size that engines register for them."""
    if not counts.direct or op.algorithm != "auto":
        return counts.possible
    return counts.possible & (op.bytes <= machine.coefficients.collective.direct_bytes)


def _where(allowed: bool | NDArray[np.bool_], way: _Way, other: _Way) -> _Way:
    """``way`` where it is allowed, else ``other``."""
    if np.all(allowed):
        return way

    def pick(a: dict[str, Num], b: dict[str, Num]) -> dict[str, Num]:
        return {name: where(allowed, a[name], b[name]) for name in a}

    return _Way(pick(way.links, other.links), pick(way.latency, other.latency))


def _demand(ways: list[_Way]) -> Demand:
    """The ways along a leading axis."""

    def stack(tables: list[dict[str, Num]]) -> dict[str, Num]:
        shape = np.broadcast_shapes(*(np.shape(t) for table in tables for t in table.values()))
        if not shape:
            return {name: np.array([t[name] for t in tables]) for name in tables[0]}
        return {name: np.stack([np.broadcast_to(t[name], shape) for t in tables]) for name in tables[0]}

    links, latency = (stack([w.links for w in ways]), stack([w.latency for w in ways]))
    phases = [Phase(links)] if links else []
    phases += [Phase({name: seconds}) for name, seconds in latency.items()]
    return Demand(tuple(phases), alternatives=True)


_SOURCES = ("hockney-1994", "patarasuk-2009", "sanders-2009", "cho-2019", "graham-2020")
RULES = Rules(zero, read_bytes, write_bytes, bound, expected, table="collective", sources=_SOURCES)
