"""Collectives: counts against simulated message passing, the α–β form, limits, and measured times (design §3, §4)."""

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.citations import cite
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels import collective
from ridgepoint.kernels.algorithms import ALGORITHMS
from ridgepoint.kernels.collective import RULES, traffic
from ridgepoint.kernels.demand import settle
from ridgepoint.kernels.groups import place
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.ops import Collective

MIB = 2.0**20
MACHINES = ["8xh100-sxm", "16x8xh100-sxm", "8xa100-sxm-80gb", "8xmi300x", "16xtpu-v5e", "8xl40s", "72xgb200"]


def op(operation: str = "all_reduce", size: Any = 64 * MIB, ranks: Any = 8.0, **more: Any) -> Collective:
    return Collective(operation=operation, bytes=size, ranks=ranks, **more)


def seconds(o: Collective, machine: Machine) -> Any:
    return settle(RULES.expected(o, machine)).time_s


def with_link(machine: Machine, name: str, **changes: Any) -> Machine:
    links = dict(machine.device.links)
    links[name] = msgspec.structs.replace(links[name], **changes)
    device = msgspec.structs.replace(machine.device, links=links)
    return Machine(machine.name, device, machine.devices_per_node, machine.nodes)


# --- counts ---------------------------------------------------------------------------------------------------------


def simulated_ring_all_reduce(ranks: int, blocks_of: int) -> tuple[int, int]:
    """Pass real blocks round a ring until every rank holds every sum: (blocks sent by a rank, steps)."""
    held = [[{(r, b)} for b in range(ranks)] for r in range(ranks)]  # held[r][b]: whose contributions rank r has of b
    sent = steps = 0
    for phase in ("reduce", "gather"):
        for step in range(ranks - 1):
            moves = []
            for r in range(ranks):
                b = (r - step) % ranks if phase == "reduce" else (r + 1 - step) % ranks
                moves.append(((r + 1) % ranks, b, set(held[r][b])))
            for to, b, data in moves:
                held[to][b] |= data
            sent += blocks_of
            steps += 1
    assert all(len(held[r][b]) == ranks for r in range(ranks) for b in range(ranks))
    return sent, steps


@pytest.mark.parametrize("ranks", [2, 3, 5, 8])
def test_ring_counts_are_those_of_a_simulated_ring(ranks: int) -> None:
    # design §4: α–β counts. If this failed, bytes or steps of the ring were miscounted.
    sent, steps = simulated_ring_all_reduce(ranks, 1000)
    counts = traffic(op(size=1000.0 * ranks, ranks=float(ranks), algorithm="ring"), find_machine("8xa100-sxm-80gb"))
    assert float(counts["ring"].node_bytes) == pytest.approx(sent)
    assert float(counts["ring"].node_steps) == steps


@pytest.mark.parametrize(
    ("operation", "algorithm", "node", "network", "steps", "hops"),
    [
        # 16 ranks in 2 nodes of 8, b = 160 bytes: counted by hand
        ("all_reduce", "ring", 2 * 15 / 16 * 160, 2 * 15 / 16 * 160 / 8, 30 - 3.75, 3.75),
        ("all_reduce", "tree", 320, 40, 14, 2),
        ("all_reduce", "hierarchical", 2 * 7 / 8 * 160, 2 * 1 / 2 * 160 / 8, 14, 2),
        ("all_reduce", "in_switch", 9 / 8 * 160, 20, 8, 2),
        ("all_gather", "ring", 150, 150 / 8, 15 - 1.875, 1.875),
        ("all_gather", "hierarchical", 140, 10, 7, 1),
        ("reduce_scatter", "hierarchical", 140, 10, 7, 1),
        ("all_to_all", "pairwise", 70, 80, 2, 2),
        ("broadcast", "tree", 160, 20, 7, 1),
    ],
)
def test_counts_across_two_nodes(
    operation: str, algorithm: str, node: float, network: float, steps: float, hops: float
) -> None:
    # design §4: hierarchical over node link + network. A slip here misprices every multi-node plan.
    counts = traffic(op(operation, 160.0, 16.0, algorithm=algorithm), find_machine("2x8xh100-sxm"))[algorithm]
    found = (counts.node_bytes, counts.network_bytes, counts.node_steps, counts.network_steps)
    assert [float(x) for x in found] == pytest.approx([node, network, steps, hops])


@pytest.mark.parametrize(
    ("ranks", "stride", "local", "nodes"),
    [(8.0, 1.0, 8, 1), (16.0, 1.0, 8, 2), (4.0, 2.0, 4, 1), (8.0, 2.0, 4, 2), (4.0, 8.0, 1, 4), (12.0, 1.0, 6, 2)],
)
def test_ranks_sit_on_devices_rank_times_stride(ranks: float, stride: float, local: float, nodes: float) -> None:
    # design §1: 4x8xh100 has 8 devices in a node. Wrong placement swaps NVLink for the network.
    group = place(op(ranks=ranks, stride=stride), find_machine("4x8xh100-sxm"))
    assert (float(group.local), float(group.nodes)) == (local, nodes)
    assert (group.network is not None) == (nodes > 1)


def test_data_parallel_groups_across_nodes_use_the_network_alone() -> None:
    # stride = devices of a node: no two ranks share one, so NVLink must not appear
    timing = settle(RULES.expected(op(ranks=4.0, stride=8.0), find_machine("4x8xh100-sxm")))
    assert "network" in timing.busy_s
    assert "nvlink" not in timing.busy_s


# --- the form -------------------------------------------------------------------------------------------------------


def test_chunking_is_the_best_over_all_chunk_counts() -> None:
    # module docstring: (1 + k)·A + (1 + 1/k)·L is least at (√A + √L)²; compared with brute force over k
    links, fill = {"nvlink": 90e-6}, {"link_latency": 4e-6, "network_latency": 0.0}
    latency = collective._pipelined(links, fill)  # type: ignore[arg-type]
    k = np.geomspace(1e-3, 1e3, 200_001)
    best = np.min((1.0 + k) * 4e-6 + (1.0 + 1.0 / k) * 90e-6)
    assert float(links["nvlink"]) + float(sum(latency.values())) == pytest.approx(float(best), rel=1e-6)


@given(
    st.sampled_from(MACHINES),
    st.sampled_from(sorted(ALGORITHMS)),
    st.floats(10.0, 1e10),
    st.integers(1, 16),
    st.sampled_from([1.0, 2.0, 8.0]),
)
def test_expected_is_never_below_the_bound(name: str, operation: str, size: float, ranks: int, stride: float) -> None:
    # design §3: bound ≤ expected, for each algorithm as well as the fastest
    machine = find_machine(name)
    ranks = max(1, min(ranks, int((machine.devices - 1) // stride) + 1))
    for algorithm in ("auto", "nccl", *ALGORITHMS[operation]):
        o = op(operation, size, float(ranks), stride=stride, algorithm=algorithm)
        try:
            expected = seconds(o, machine)
        except RidgepointError:
            continue
        assert settle(RULES.bound(o, machine)).time_s <= expected * (1 + 1e-12)


@given(
    st.sampled_from(MACHINES),
    st.sampled_from(sorted(ALGORITHMS)),
    st.lists(st.tuples(st.floats(10.0, 1e10), st.integers(1, 8), st.sampled_from([1.0, 2.0])), min_size=1, max_size=6),
)
def test_an_array_is_its_scalars(name: str, operation: str, points: list[tuple[float, int, float]]) -> None:
    # design §2: the same code evaluates one scenario and a million
    machine = find_machine(name)
    points = [(b, n, s) for b, n, s in points if (n - 1) * s + 1 <= machine.devices] or [(1e6, 1, 1.0)]
    size, ranks, stride = (np.array(x, dtype=float) for x in zip(*points, strict=True))
    for rule in (RULES.expected, RULES.bound):
        many = settle(rule(op(operation, size, ranks, stride=stride), machine)).time_s
        one = [float(settle(rule(op(operation, b, float(n), stride=s), machine)).time_s) for b, n, s in points]
        np.testing.assert_allclose(np.broadcast_to(many, size.shape), one, rtol=1e-12)


def test_a_sweep_repeats_its_distinct_points() -> None:
    # numeric.distinct spreads results back over the sweep: order must survive
    rng = np.random.default_rng(1)
    size, ranks = rng.choice([1e4, 1e6, 3e7], 5000), rng.choice([1.0, 2.0, 4.0, 8.0], 5000)
    machine = find_machine("8xh100-sxm")
    sample = slice(0, 5000, 499)
    some = [seconds(op("all_gather", b, n), machine) for b, n in zip(size[sample], ranks[sample], strict=True)]
    np.testing.assert_allclose(seconds(op("all_gather", size, ranks), machine)[sample], some, rtol=1e-12)


@given(st.sampled_from(MACHINES), st.sampled_from(sorted(ALGORITHMS)), st.floats(1e3, 1e9), st.floats(1.0, 100.0))
def test_more_bytes_never_take_less_time(name: str, operation: str, size: float, factor: float) -> None:
    machine = find_machine(name)
    less, more = (seconds(op(operation, b, 8.0, algorithm="nccl"), machine) for b in (size, size * factor))
    assert less <= more * (1 + 1e-12)


@given(st.sampled_from(MACHINES), st.sampled_from(sorted(ALGORITHMS)), st.floats(1e3, 1e9))
def test_one_rank_costs_nothing(name: str, operation: str, size: float) -> None:
    # tp = 1 is a group of one: any cost would appear in every unparallel plan
    assert seconds(op(operation, size, 1.0), find_machine(name)) == 0.0
    assert seconds(op(operation, size, np.array([1.0, 2.0])), find_machine(name))[0] == 0.0


@pytest.mark.parametrize("ranks", [2.0, 4.0, 8.0])
def test_parts_of_an_exchange_that_are_not_flagged_wait_until_both_sides_have_met(ranks: float) -> None:
    """NCCL's protocols: measured exchanges double once a part has more than 16 KiB, then take the same up to a megabyte."""

    def seconds(part: float) -> float:
        op = Collective(operation="all_to_all", bytes=part * ranks, ranks=ranks, algorithm="nccl")
        return float(settle(collective.expected(op, find_machine("8xh100-sxm"))).time_s)

    assert seconds(16385.0) > 1.5 * seconds(16384.0)
    assert seconds(65536.0) == pytest.approx(seconds(16385.0), rel=1e-3)


def test_one_rank_needs_no_link() -> None:
    assert seconds(op(ranks=1.0), find_machine("m2-ultra")) == 0.0


@pytest.mark.parametrize("operation", sorted(ALGORITHMS))
@pytest.mark.parametrize("size", [2e5, 1e8])
def test_shares_are_the_elasticities(operation: str, size: float) -> None:
    # design §3: critical seconds are −∂log(time)/∂log(rate). Checked on a machine whose link is really a little faster,
    # so that the chunking is chosen again.
    machine, faster = find_machine("8xh100-sxm"), 1.0001
    quick = with_link(machine, "nvlink", bandwidth=float(machine.device.links["nvlink"].bandwidth) * faster)
    o = op(operation, size, 8.0, algorithm="nccl")
    timing = settle(RULES.expected(o, machine))
    slope = -np.log(seconds(o, quick) / timing.time_s) / np.log(faster)
    assert timing.critical_s["nvlink"] / timing.time_s == pytest.approx(float(slope), abs=1e-3)
    assert sum(timing.critical_s.values()) == pytest.approx(timing.time_s)


def test_auto_is_the_fastest_of_the_named_algorithms() -> None:
    machine = find_machine("2x8xh100-sxm")
    for ranks in (4.0, 8.0, 16.0):
        named = []
        for algorithm in ALGORITHMS["all_reduce"]:
            try:
                named.append(seconds(op(size=4 * MIB, ranks=ranks, algorithm=algorithm), machine))
            except RidgepointError as refused:
                assert refused.kind == "bad_plan"  # noqa: PT017
        assert seconds(op(size=4 * MIB, ranks=ranks), machine) == pytest.approx(min(named))


def test_engines_exchange_small_buffers_in_one_kernel_only_on_device_links() -> None:
    # small all-reduce: 3 µs on NVLink (custom kernels), but PCIe devices cannot read each other's memory that way
    nvlink, pcie = find_machine("8xh100-sxm"), find_machine("8xl40s")
    assert seconds(op(size=16e3), nvlink) < 0.4 * seconds(op(size=16e3, algorithm="nccl"), nvlink)
    assert seconds(op(size=16e3), pcie) == seconds(op(size=16e3, algorithm="nccl"), pcie)
    with pytest.raises(RidgepointError) as refused:
        RULES.expected(op(algorithm="one_shot"), pcie)
    assert refused.value.kind == "bad_plan"


def test_a_switch_that_reduces_halves_the_least_traffic() -> None:
    # design §4: bytes for all_reduce on a link with in-network reduction, else 2(n−1)/n · bytes
    with_, without = (
        find_machine("8xh100-sxm"),
        with_link(find_machine("8xh100-sxm"), "nvlink", in_network_reduction=False),
    )
    times = [settle(RULES.bound(op(size=1e9), m)).time_s for m in (with_, without)]
    rate = float(with_.device.links["nvlink"].bandwidth)
    assert times == pytest.approx([1e9 / rate, 1.75e9 / rate])


def test_a_reducing_network_helps_devices_whose_own_switch_does_not() -> None:
    # 4 nodes of 8: rings inside (2·7/8·b), the network adds: b/8 per port instead of 2·3/4·b/8
    machine = with_link(find_machine("4x8xa100-sxm-80gb"), "network", in_network_reduction=True)
    counts = traffic(op(size=800.0, ranks=32.0, algorithm="in_switch"), machine)["in_switch"]
    assert (float(counts.node_bytes), float(counts.network_bytes), float(counts.node_steps)) == (1400.0, 100.0, 14.0)


def test_a_mesh_gives_a_pair_one_port() -> None:
    # MI300X: 7 links of 64 GB/s. Two of eight devices share one of them, not the whole 448 GB/s
    pair, all_ = (settle(RULES.bound(op(size=1e9, ranks=n), find_machine("8xmi300x"))).time_s for n in (2.0, 8.0))
    assert pair == pytest.approx(1e9 / 64e9)
    assert all_ == pytest.approx(1.75e9 / 448e9)


def test_exchanges_pay_for_hops_on_a_torus() -> None:
    # 256 chips in a 16 × 16 torus: messages travel 8 hops on average (a rank's own part is none), so an exchange takes 8 times
    # the whole buffer's time, of which a switch moves 255/256
    torus = find_machine("256xtpu-v5e")
    switch = with_link(torus, "ici", topology="switch")
    o = op("all_to_all", 1e9, 256.0)
    ratio = settle(RULES.bound(o, torus)).time_s / settle(RULES.bound(o, switch)).time_s
    assert ratio == pytest.approx(8.0 * 256 / 255)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (op(ranks=16.0), "bad_plan"),
        (op(ranks=4.0, stride=4.0), "bad_plan"),
        (op(ranks=0.0), "bad_work"),
        (op("all_redcue"), "unknown_collective"),
        (op(algorithm="rnig"), "unknown_algorithm"),
        (op("all_to_all", algorithm="tree"), "unknown_algorithm"),
    ],
)
def test_what_cannot_be_is_refused_with_a_hint(bad: Collective, kind: str) -> None:
    # no silent wrong answer: a group larger than the machine, a typo
    for rule in (RULES.expected, RULES.bound):
        with pytest.raises(RidgepointError) as refused:
            rule(bad, find_machine("8xh100-sxm"))
        assert refused.value.kind == kind
        assert kind == "bad_work" or refused.value.hint


def test_memory_traffic_is_what_enters_and_leaves() -> None:
    # design §3, bytes by level: all_gather reads its own part and writes the whole
    gather, scatter = op("all_gather", 800.0), op("reduce_scatter", 800.0)
    assert (RULES.read_bytes(gather), RULES.write_bytes(gather)) == (100.0, 800.0)
    assert (RULES.read_bytes(scatter), RULES.write_bytes(scatter)) == (800.0, 100.0)
    assert RULES.read_bytes(replace(gather, ranks=1.0)) == 0.0


def test_its_sources_can_be_cited() -> None:
    # design §7: every run can print what it relied on
    assert len({cite(key) for key in RULES.sources}) == 5


# --- published and measured -------------------------------------------------------------------------------------------


def bus_bandwidth(name: str, operation: str, size: float, factor: float) -> float:
    return factor * size / float(seconds(op(operation, size, algorithm="nccl"), find_machine(name))) / 1e9


def test_bus_bandwidth_of_large_all_reduces_is_the_published_one() -> None:
    # nccl-tests on DGX systems: about 230 GB/s (DGX A100) and 470–480 GB/s with NVLink SHARP (DGX H100)
    assert 210 < bus_bandwidth("8xa100-sxm-80gb", "all_reduce", 8 * 2.0**30, 1.75) < 250
    assert 430 < bus_bandwidth("8xh100-sxm", "all_reduce", 8 * 2.0**30, 1.75) < 500


def test_bus_bandwidth_across_nodes_is_the_published_one() -> None:
    # nccl-tests over one NDR InfiniBand port per GPU (8 × 50 GB/s a node): 350–390 GB/s on 16 DGX H100 nodes
    machine = find_machine("16x8xh100-sxm")
    size = 8 * 2.0**30
    rate = 2.0 * 127.0 / 128.0 * size / float(seconds(op(size=size, ranks=128.0), machine))
    assert 340e9 < rate < 400e9


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm", "b200-sxm"])
def test_measured_collectives_above_a_mebibyte(name: str, shared: Path) -> None:
    # design §11 spirit: the form, not only the fit; ≤ 15 % median error in every operation above 1 MiB
    groups: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    with gzip.open(shared / "measurements" / "kernels.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            if row["machine"] != name or row["source"] != "aiconfigurator" or row["op"] not in ALGORITHMS:
                continue
            if "eager" in json.loads(row["extra"])["kernel"] or float(row["bytes"]) < MIB:
                continue
            key = row["op"], "nccl" if row["framework"] == "nccl" else "auto"
            groups.setdefault(key, []).append((float(row["bytes"]), float(row["ranks"]), float(row["time_us"]) * 1e-6))
    assert len(groups) == 5
    for (operation, algorithm), rows in groups.items():
        size, ranks, measured = np.array(rows).T
        predicted = seconds(op(operation, size, ranks, algorithm=algorithm), find_machine(f"8x{name}"))
        assert np.median(np.abs(predicted / measured - 1.0)) < 0.15, (operation, algorithm)


def test_rows_that_fan_out_cross_the_network_once_per_node():
    """Expert dispatch: 8 of 32 ranks on 4 nodes are on 3.6 nodes by chance; pairwise would send 6 copies over the network."""
    machine = find_machine("4x8xh100-sxm")
    size, k = 8e6, 8.0
    plain = traffic(Collective(operation="all_to_all", bytes=size, ranks=32.0), machine)["pairwise"]
    fanned = traffic(Collective(operation="all_to_all", bytes=size, ranks=32.0, fanout=k), machine)["pairwise"]
    assert plain.network_bytes == pytest.approx(size * 24 / 32)
    assert fanned.network_bytes == pytest.approx(size / k * 4 * (1 - 0.75**8) * 3 / 4)
    assert fanned.node_bytes == pytest.approx(size / k * 32 * (1 - (31 / 32) ** 8) * 7 / 8)
