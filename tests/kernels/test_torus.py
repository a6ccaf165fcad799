"""Collectives on a torus: counts against simulated message passing and routing, port by port (design §4)."""

from itertools import permutations, product
from math import log2, prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.kernels.collective import RULES, traffic
from ridgepoint.kernels.demand import settle
from ridgepoint.kernels.torus import group_on, sides
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.description import BytesPerSecond, Link
from ridgepoint.ops import Collective
from ridgepoint.training.planner import plan_train


def link(dimensions, closes=None):
    return Link(
        label="", scope="node", bandwidth=BytesPerSecond(1.0), topology="torus", dimensions=dimensions, closes=closes
    )


def simulated_all_gather(side, dimensions):
    """Pass real blocks round: every device's part is cut in two for each dimension that it may begin with, one half for either
    direction. (most blocks sent over a port, steps, everyone holds everything), in units of 1/(2k) of a device's part.
    """
    devices = list(product(range(side), repeat=dimensions))
    held = {d: {(d, first, way) for first in range(dimensions) for way in (1, -1)} for d in devices}
    sent: dict[Any, int] = {}
    steps = 0
    for turn in range(dimensions):
        moving = {d: set(held[d]) for d in devices}
        for _ in range(side - 1):
            steps += 1
            arriving: dict[Any, set[Any]] = {d: set() for d in devices}
            for d, blocks in moving.items():
                for origin, first, way in blocks:
                    along = (first + turn) % dimensions
                    to = tuple((x + way) % side if j == along else x for j, x in enumerate(d))
                    arriving[to].add((origin, first, way))
                    sent[d, along, way] = sent.get((d, along, way), 0) + 1
            for d in devices:
                held[d] |= arriving[d]
            moving = arriving
    return max(sent.values()), steps, all(len(blocks) == 2 * dimensions * len(devices) for blocks in held.values())


@pytest.mark.parametrize(("side", "dimensions"), [(3, 1), (4, 1), (3, 2), (4, 2), (5, 2), (3, 3), (4, 3)])
def test_gathers_are_those_of_simulated_rings_in_every_dimension(side, dimensions):
    most, steps, done = simulated_all_gather(side, dimensions)
    n = side**dimensions
    assert done
    found = group_on(link(dimensions), n, float(n), 1.0)
    # A port carries 1/2k of the bandwidth; a block is 1/2k of 1/n of the buffer.
    assert most / n == pytest.approx((n - 1) / n / found.ring_share)
    assert found.hops == steps
    assert found.ring_share == pytest.approx(1.0)


def routed(side, dimensions, closed):
    """Every device sends one unit to every other, along one dimension after the other, the shorter way (half each way where
    both are as long): the most that any link carries.
    """
    load: dict[Any, float] = {}
    devices = list(product(range(side), repeat=dimensions))
    for here, there in product(devices, repeat=2):
        at = list(here)
        for j in range(dimensions):
            ahead = (there[j] - at[j]) % side
            if not closed:
                ways = [(1 if there[j] > at[j] else -1, abs(there[j] - at[j]), 1.0)]
            elif 2 * ahead == side:
                ways = [(1, ahead, 0.5), (-1, ahead, 0.5)]
            else:
                ways = [(1, ahead, 1.0) if 2 * ahead < side else (-1, side - ahead, 1.0)]
            for way, hops, part in ways:
                x = at[j]
                for _ in range(hops):
                    port = (*at[:j], x, *at[j + 1 :], j, way)
                    load[port] = load.get(port, 0.0) + part
                    x = (x + way) % side
            at[j] = there[j]
    return max(load.values())


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize(("side", "dimensions"), [(4, 1), (5, 1), (3, 2), (4, 2), (6, 2), (4, 3)])
def test_exchanges_load_the_links_as_routed_messages_do(side, dimensions, closed):
    n = side**dimensions
    found = group_on(link(dimensions, None if closed else 99), n, float(n), 1.0)
    seconds = (n - 1) / n / found.exchange_share  # of a buffer of 1, at a bandwidth of 1
    assert routed(side, dimensions, closed) / n * 2 * dimensions == pytest.approx(seconds)


@pytest.mark.parametrize("devices", [(8, 4), (16, 2), (4, 4), (8, 2), (16, 8)])
@pytest.mark.parametrize("closes", [None, 4, 16])
def test_gathers_over_unequal_sides_take_the_best_mixture_of_orders(devices, closes):
    """By trying mixtures: a part of the buffer goes along the first side first, the rest along the second."""
    a, b = devices
    found = group_on(link(2, closes), a * b, float(a * b), 1.0)
    rates = [ports / 4.0 for ports in found.ports]
    best = np.inf
    for part in np.linspace(0.0, 1.0, 20001):
        loads = (a - 1) * (part + (1 - part) * b), (b - 1) * ((1 - part) + part * a)
        best = min(best, max(load / rate for load, rate in zip(loads, rates, strict=True)))
    assert (a * b - 1) / found.ring_share == pytest.approx(best, rel=1e-3)


@given(st.sampled_from([(4, 4, 4), (8, 4, 4), (16, 16), (8, 4), (8,)]), st.integers(0, 7), st.integers(0, 7))
def test_groups_lie_along_the_sides_that_their_span_covers(shape, low, high):
    """By listing the ranks' coordinates: how many different ones along each side."""
    n = prod(shape)
    stride = 2 ** min(low, int(log2(n)))
    ranks = min(2**high, n // stride)
    found = group_on(link(len(shape)), n, float(ranks), float(stride))
    places = np.array([np.unravel_index(i * stride, shape[::-1])[::-1] for i in range(ranks)])
    assert [len(set(places[:, j].tolist())) for j in range(len(shape))] == [float(m) for m in found.ranks]


def test_groups_with_a_stride_within_a_ring_share_its_links():
    """Four of sixteen on a ring, three others between each two: a quarter of the ring's bandwidth."""
    apart, whole = (group_on(link(1), 16, ranks, stride) for ranks, stride in ((4.0, 4.0), (16.0, 1.0)))
    assert whole.ring_share == 1.0
    assert apart.ring_share == pytest.approx(0.25)
    assert apart.pair_share == pytest.approx(whole.pair_share / 4)


def test_slices_are_those_that_are_offered():
    assert [sides(n, 2) for n in (4, 8, 16, 32, 64, 128, 256)] == [
        (2, 2), (4, 2), (4, 4), (8, 4), (8, 8), (16, 8), (16, 16),
    ]  # fmt: skip
    assert [sides(n, 3) for n in (4, 8, 16, 32, 64, 512, 4096)] == [
        (2, 2, 1), (2, 2, 2), (4, 2, 2), (4, 4, 2), (4, 4, 4), (8, 8, 8), (16, 16, 16),
    ]  # fmt: skip
    assert sides(8960, 3) == (28, 20, 16)  # a pod of TPU v5p


def bound(machine, operation, ranks, stride=1.0, size=16e9):
    op = Collective(operation=operation, bytes=size, ranks=ranks, stride=stride)
    return float(settle(RULES.bound(op, find_machine(machine))).time_s)


def test_a_small_slice_has_no_rings():
    """Austin et al. 2025, chapter 2, question 6: 4 × 4 TPU v5e, 15 of 16 GB over two ports of 50 GB/s: 150 ms."""
    assert bound("16xtpu-v5e", "all_gather", 16.0) == pytest.approx(0.150)
    assert bound("256xtpu-v5e", "all_gather", 256.0) == pytest.approx(16e9 * 255 / 256 / 200e9)


def test_a_group_along_one_axis_has_the_ports_of_that_axis():
    """Austin et al. 2025, chapter 3: an AllGather over one axis takes V/W of the bidirectional bandwidth of that axis, over two
    axes half of it, over three a third.
    """
    one, two, three = (bound("64xtpu-v4", "all_gather", n) / (1 - 1 / n) for n in (4.0, 16.0, 64.0))
    assert one == pytest.approx(16e9 / 100e9)
    assert two == pytest.approx(one / 2)
    assert three == pytest.approx(one / 3)
    outer = bound("64xtpu-v4", "all_gather", 4.0, 16.0) / (1 - 1 / 4)
    assert outer == pytest.approx(one)


def test_all_reduce_is_two_gathers_and_steps_are_those_of_the_sides():
    counts = traffic(Collective(operation="all_reduce", bytes=64e6, ranks=64.0), find_machine("64xtpu-v4"))["ring"]
    assert float(counts.node_bytes) == pytest.approx(2 * 63 / 64 * 64e6)
    assert float(counts.node_steps) == 2 * 3 * 3


def test_an_array_is_its_scalars():
    ranks, stride = np.array([4.0, 16.0, 64.0, 4.0, 2.0]), np.array([1.0, 1.0, 1.0, 16.0, 2.0])

    def seconds(operation, n, s):
        op = Collective(operation=operation, bytes=1e9, ranks=n, stride=s)
        return settle(RULES.expected(op, find_machine("64xtpu-v4"))).time_s

    for operation in ("all_gather", "all_to_all", "all_reduce"):
        each = [float(seconds(operation, n, s)) for n, s in zip(ranks, stride, strict=True)]
        np.testing.assert_allclose(seconds(operation, ranks, stride), each)


def test_layouts_are_planned_on_a_torus():
    """Sixteen tensor-parallel ranks on two axes of 4 × 4 × 4 exchange over twice the ports of four on one."""
    found = plan_train("llama-3.1-8b", on="64xtpu-v4", batch=64, seq=2048, top=3)
    assert found.best.step_time_s > 0.0
    four, sixteen = (
        rp.estimate(
            "llama-3.1-8b", on="64xtpu-v4", task=rp.Train(batch=64, seq=2048), plan=rp.Plan(tp=tp, micro_batch=1)
        )
        for tp in (4, 16)
    )
    assert four.shares["ici"] > 0.0
    assert sixteen.shares["ici"] > 0.0


def test_orders_of_sides_are_all_there():
    """The bound over sets of sides is met by every order of three sides at its corner, none is below it."""
    m = (4, 3, 2)
    for order in permutations(range(3)):
        loads, so_far = [0.0] * 3, 1
        for j in order:
            loads[j] = (m[j] - 1) * so_far
            so_far *= m[j]
        for size in range(1, 4):
            for some in permutations(range(3), size):
                assert sum(loads[j] for j in some) >= prod(m[j] for j in some) - 1
