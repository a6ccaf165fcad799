"""The properties of design §3 on random works and machines."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ridgepoint.cost.evaluate import Cost, evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.rules import BOUND
from ridgepoint.ops import Delay, Gemm
from ridgepoint.work import Overlap, Repeat, Seq
from tests.strategies import MACHINES, POINTS, Mystery, at_point, machines, works

ALONE = tuple(m for m in MACHINES if "x" not in m.split("-")[0])
QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@st.composite
def costs(draw, sweep=False) -> Cost:
    machine = draw(machines())
    return evaluate(draw(works(machine.devices, sweep)), machine)


def close(a, b, rel=1e-9):
    assert np.allclose(a, b, rtol=rel, atol=1e-30), (a, b)


# design §3: shares ≥ 0 and sum to 1
@given(costs())
@QUICK
def test_shares_are_a_partition_of_the_time(cost):
    if cost.time_s > 1e-290:  # below, numbers have few digits left
        assert all(share >= 0.0 for share in cost.shares.values())
        assert sum(cost.shares.values()) == pytest.approx(1.0)
        assert cost.shares[cost.bottleneck] == max(cost.shares.values())


# design §3: critical seconds sum to the time; a resource alone takes no longer than the whole
@given(costs())
@QUICK
def test_no_resource_is_busy_longer_than_the_time(cost):
    assert all(busy <= cost.time_s * (1 + 1e-9) for busy in cost.busy_s.values())


# design §3: speeding a resource up by ε lowers log(time) by share·ε to first order. At a kink the share jumps: the slope then
# lies between the shares before and after.
@given(costs(), st.data())
@QUICK
def test_a_share_is_the_elasticity_of_its_resource(cost, data):
    if cost.time_s <= 1e-290:
        return
    resource, step = data.draw(st.sampled_from(sorted(cost.shares))), 1e-5
    faster = cost.timing_at({resource: 1.0 + step})
    shares = [t.critical_s.get(resource, 0.0) / t.time_s for t in (cost.timing, faster)]
    slope = math.log(cost.time_s / faster.time_s) / math.log(1.0 + step)
    assert min(shares) - 1e-3 <= slope <= max(shares) + 1e-3


# design §3: nothing gets slower when a resource gets faster; limit(r) ≥ 1
@given(costs(), st.floats(1.0, 100.0), st.data())
@QUICK
def test_nothing_gets_slower_when_a_resource_gets_faster(cost, factor, data):
    if cost.time_s == 0:
        return
    resource = data.draw(st.sampled_from(sorted(cost.shares)))
    faster = cost.timing_at({resource: factor}).time_s
    assert faster <= cost.time_s * (1 + 1e-12)
    assert cost.limit(resource) * (1 + 1e-9) >= cost.time_s / faster
    assert cost.limit(resource) >= 1.0 - 1e-12


# design §3: bound ≤ expected
@given(machines(), st.data())
@QUICK
def test_the_physical_limit_is_below_the_expectation(machine, data):
    work = data.draw(works(machine.devices))
    assert evaluate(work, machine, mode=BOUND).time_s <= evaluate(work, machine).time_s * (1 + 1e-9)


# design §2: Overlap takes at least its longest part and at most their sum; design §3: Overlap ≤ Seq
@given(machines(), st.data())
@QUICK
def test_overlap_lies_between_its_longest_part_and_their_sum(machine, data):
    parts = data.draw(st.lists(works(machine.devices, leaves=3), min_size=1, max_size=3))
    together = evaluate(Overlap(*parts), machine).time_s
    alone = [evaluate(part, machine).time_s for part in parts]
    assert max(alone) * (1 - 1e-9) <= together <= sum(alone) * (1 + 1e-9)


# design §3: Repeat(2, a) = Seq(a, a); permuting Seq changes nothing
@given(machines(), st.data())
@QUICK
def test_sequences_are_sums(machine, data):
    a, b, c = (data.draw(works(machine.devices, leaves=3)) for _ in range(3))
    same = [(Repeat(2.0, a), Seq(a, a)), (Seq(a, b, c), Seq(c, a, b)), (Seq(a, Seq(b, c)), Seq(Seq(a, b), c))]
    for left, right in same:
        one, other = evaluate(left, machine), evaluate(right, machine)
        close(one.time_s, other.time_s)
        for seconds in ("busy_s", "critical_s"):
            found, wanted = getattr(one, seconds), getattr(other, seconds)
            assert found.keys() == wanted.keys()
            for resource, value in found.items():
                close(value, wanted[resource])


# design §2: every numeric field is a float or an array; design §4: scalar ≡ array
@given(machines(), st.data())
@settings(QUICK, max_examples=80)
def test_a_sweep_equals_its_points(machine, data):
    work = data.draw(works(machine.devices, sweep=True))
    whole = evaluate(work, machine)
    limits = {r: np.broadcast_to(v, POINTS) for r, v in whole.limits.items()}
    for i in range(POINTS):
        one = evaluate(at_point(work, i), machine)
        close(np.broadcast_to(whole.time_s, POINTS)[i], one.time_s)
        close(np.broadcast_to(whole.relative_spread, POINTS)[i], one.relative_spread)
        for resource, share in whole.shares.items():
            close(np.broadcast_to(share, POINTS)[i], one.shares.get(resource, 0.0))
            close(limits[resource][i], one.limit(resource))


# design §2: a million points share their distinct shapes; what is shared must be spread back to the right points
@pytest.mark.parametrize("name", ["h100-sxm", "8xa100-sxm-80gb"])
def test_a_large_sweep_of_few_shapes_equals_its_points(name):
    from ridgepoint.machines.catalog import find_machine

    machine, rng = find_machine(name), np.random.default_rng(0)
    m, n = rng.choice([1.0, 7.0, 128.0, 4096.0], 5000), rng.choice([64.0, 8192.0], 5000)
    times = rng.choice([1.0, 32.0], 5000)
    work = Overlap(Repeat(times, Gemm(m=m, n=n, k=512.0)), Seq(Gemm(m=n, n=m, k=64.0), Delay(seconds=m * 1e-6)))
    whole = evaluate(work, machine)
    for i in rng.choice(5000, 20):
        one = evaluate(at_point(work, int(i)), machine)
        close(np.asarray(whole.time_s)[i], one.time_s)
        for resource, share in whole.shares.items():
            close(np.broadcast_to(share, 5000)[i], one.shares.get(resource, 0.0))


# design §2: no silent zero
@given(machines(ALONE), st.floats(0.0, 1e9), st.floats(0.0, 1e9), st.data())
@QUICK
def test_an_op_without_a_rule_never_counts_zero(machine, read, written, data):
    op = Mystery(read_bytes=read, write_bytes=written, label="mystery.op")
    work = Seq(data.draw(works(machine.devices, leaves=3)), op)
    with pytest.raises(RidgepointError, match="mystery"):
        evaluate(work, machine, strict=True)
    cost = evaluate(work, machine)
    assert cost.unknown == (op,)
    assert 0.0 < cost.unknown_share <= 1.0
    assert any("mystery" in note for note in cost.notes)


@given(machines(), st.data())
@QUICK
def test_components_share_the_time_among_themselves(machine, data):
    cost = evaluate(data.draw(works(machine.devices)), machine)
    close(sum(c.critical_s for c in cost.components), cost.time_s, 1e-9)
