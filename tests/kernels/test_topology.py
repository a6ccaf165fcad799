"""Networks beyond full bisection: oversubscribed fat trees and dragonflies, by the place of a group (design §4)."""

from itertools import product

import numpy as np
import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.collective import RULES
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Collective

FULL = find_machine("64x8xh100-sxm")


def machine(over, pod):
    return find_machine(f"64x8xh100-sxm@oversubscription={over},pod={pod}")


def seconds(operation, on, ranks=64.0, stride=8.0, size=1e9, bound=False):
    op = Collective(operation=operation, bytes=size, ranks=ranks, stride=stride)
    return float(settle((RULES.bound if bound else RULES.expected)(op, on)).time_s)


def by_counting(pattern, nodes, apart, pod, over):
    """Every flow of one step put on its pod's uplinks, for all groups that fill the machine: the slowest uplink decides."""
    groups = [
        [first + apart * i for i in range(nodes)]
        for base in range(0, 64, apart * nodes)
        for first in range(base, base + apart)
    ]
    up = np.zeros(64 // pod)
    for group in groups:
        for i, node in enumerate(group):
            others = [group[(i + 1) % nodes]] if pattern == "ring" else [other for other in group if other != node]
            for other in others:
                if other // pod != node // pod:
                    up[node // pod] += 1.0 / len(others)
    return max(1.0, up.max() / (pod / over))


@pytest.mark.parametrize("pattern", ["ring", "exchange"])
def test_slow_down_is_that_of_counting_flows_on_uplinks(pattern):
    operation = {"ring": "all_gather", "exchange": "all_to_all"}[pattern]
    for (nodes, apart), pod, over in product(
        [(64, 1), (16, 1), (8, 8), (16, 4), (4, 1), (2, 32)], (1, 4, 8, 16), (2, 4)
    ):
        found = seconds(operation, machine(over, pod), nodes, 8.0 * apart, bound=True)
        full = seconds(operation, FULL, nodes, 8.0 * apart, bound=True)
        assert found / full == pytest.approx(by_counting(pattern, nodes, apart, pod, over)), (nodes, apart, pod, over)


def test_a_network_of_one_pod_or_without_oversubscription_is_the_plain_one():
    for operation in ("all_reduce", "all_gather", "all_to_all", "send_recv"):
        ranks = 2.0 if operation == "send_recv" else 64.0
        plain = seconds(operation, FULL, ranks)
        assert seconds(operation, machine(4, 64), ranks) == pytest.approx(plain) or operation == "send_recv"
        assert seconds(operation, machine(1, 8), ranks) == pytest.approx(plain)


def test_groups_inside_a_pod_or_a_node_do_not_care():
    for ranks, stride in ((8.0, 1.0), (8.0, 8.0), (4.0, 8.0)):
        assert seconds("all_reduce", machine(8, 8), ranks, stride) == seconds("all_reduce", FULL, ranks, stride)


def test_rank_order_decides_who_pays():
    """Eight nodes in a row lie in one pod; eight nodes with seven between each are in eight pods."""
    near, far = (seconds("all_gather", machine(4, 8), 8.0, stride) for stride in (8.0, 64.0))
    assert far == pytest.approx(4.0 * near, rel=0.1)


def test_more_oversubscription_is_never_faster():
    times = [
        [seconds(o, machine(over, 4)) for over in (1, 2, 4, 8)] for o in ("all_reduce", "all_gather", "all_to_all")
    ]
    assert all(each == sorted(each) for each in times)
    assert all(each[-1] > each[0] for each in times)


def test_what_makes_no_sense_is_refused():
    for spec in ("oversubscription=0.5", "oversubscription=0", "pod=0"):
        with pytest.raises(RidgepointError, match=spec.partition("=")[0]):
            find_machine(f"64x8xh100-sxm@{spec}")
