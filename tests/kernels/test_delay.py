"""Fixed delays (design §2)."""

import numpy as np

from ridgepoint.kernels.delay import RULES
from ridgepoint.kernels.demand import settle
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Delay


def test_a_delay_takes_its_seconds_on_every_machine_and_nothing_else() -> None:
    # no resource of a machine shortens it: the whole time must stand on `delay`, in both models
    for name in ("h100-sxm", "m2-ultra"):
        for rule in (RULES.bound, RULES.expected):
            timing = settle(rule(Delay(seconds=0.05), find_machine(name)))
            assert timing.critical_s == {"delay": 0.05}


def test_an_array_is_its_scalars() -> None:
    seconds = np.array([0.0, 1.0, 2.5])
    np.testing.assert_array_equal(settle(RULES.expected(Delay(seconds=seconds), find_machine("t4"))).time_s, seconds)


def test_it_computes_and_moves_nothing() -> None:
    op = Delay(seconds=1.0)
    assert RULES.flop(op) == RULES.read_bytes(op) == RULES.write_bytes(op) == 0.0
