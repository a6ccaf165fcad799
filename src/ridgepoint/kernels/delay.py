"""Fixed times that no resource of the machine shortens: network round trips, sensors, people."""

from __future__ import annotations

from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules, zero
from ridgepoint.machines.machine import Machine
from ridgepoint.ops import Delay


def bound(op: Delay, _machine: Machine) -> Demand:
    """The time itself: no machine is faster."""
    return Demand((Phase({"delay": op.seconds}),))


def expected(op: Delay, machine: Machine) -> Demand:
    """The time itself.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> settle(expected(Delay(seconds=0.25), find_machine("h100-sxm"))).critical_s
    {'delay': 0.25}
    """
    return bound(op, machine)


RULES = Rules(zero, zero, zero, bound, expected, table="")
