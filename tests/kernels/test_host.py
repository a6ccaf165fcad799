"""Host work: launches and other seconds over worker processes (design §4)."""

from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.kernels.demand import settle
from ridgepoint.kernels.host import RULES
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.ops import Host

H100 = find_machine("8xh100-sxm")


def seconds(op: Host, machine: Machine = H100) -> Any:
    return settle(RULES.expected(op, machine)).time_s


def test_launches_take_the_dispatch_time_of_the_table() -> None:
    # by hand: 500 launches at dispatch_s each, plus 1 ms, over 2 workers
    dispatch = H100.coefficients.host.dispatch_s
    assert seconds(Host(launches=500.0, seconds=1e-3, workers=2.0)) == (500.0 * dispatch + 1e-3) / 2.0


def test_an_interpreter_takes_longer_to_start_a_kernel_than_compiled_code() -> None:
    """Eager baselines would else be as fast as engines: a step of small kernels waits for the host."""
    eager, compiled = (seconds(Host(launches=500.0, eager=eager)) for eager in (True, False))
    assert eager == 500.0 * H100.coefficients.host.eager_s
    assert 3.0 < eager / compiled < 20.0


@given(st.floats(0.0, 1e5), st.floats(0.0, 10.0), st.floats(1.0, 64.0))
def test_expected_is_never_below_the_bound_and_stands_on_the_host(launches: float, time: float, workers: float) -> None:
    op = Host(launches=launches, seconds=time, workers=workers)
    timing = settle(RULES.expected(op, H100))
    assert settle(RULES.bound(op, H100)).time_s <= timing.time_s
    assert set(timing.busy_s) == {"host"}


def test_more_workers_than_cores_do_not_help() -> None:
    # eight devices share the node's cores; a ninth-thousandth worker has none of its own
    host = H100.device.host
    assert host is not None
    assert host.cores is not None
    share = host.cores / 8
    assert seconds(Host(seconds=1.0, workers=1e6)) == seconds(Host(seconds=1.0, workers=share))


def test_a_machine_of_unknown_cores_takes_the_workers_as_given() -> None:
    bare = Machine("bare", msgspec.structs.replace(H100.device, host=None))
    assert seconds(Host(seconds=1.0, workers=1e3), bare) == 1e-3


def test_an_array_is_its_scalars() -> None:
    launches, workers = np.array([0.0, 10.0, 1e3]), np.array([1.0, 4.0, 1e4])
    one = [float(seconds(Host(launches=n, workers=w))) for n, w in zip(launches, workers, strict=True)]
    np.testing.assert_allclose(seconds(Host(launches=launches, workers=workers)), one)


@given(st.floats(20e9, 2e12), st.floats(1.0, 4.0))
def test_more_memory_bandwidth_never_slows_the_host(memory: float, more: float) -> None:
    slow, fast = (find_machine(f"l4@host-bandwidth={size:.0f}B/s") for size in (memory, memory * more))
    assert seconds(Host(bytes=1e11), fast) <= seconds(Host(bytes=1e11), slow) * (1.0 + 1e-9)
