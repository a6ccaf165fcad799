"""Demands of ops, kept where the same ops come back: advice and sliders ask for the same ones on the same machine again."""

from __future__ import annotations

import math

import numpy as np

from ridgepoint.kernels.demand import Demand, Timing, settle
from ridgepoint.kernels.rules import BOUND
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.machines.machine import Machine
from ridgepoint.work import Op

REMEMBERED, FEW = 16384, 8
"""Ops of a machine whose demands are kept (fewer of several points), and points that each has at most."""


def demand_of(op: Op, machine: Machine, mode: str) -> Demand:
    """What an op demands of a machine: by its kernel's model, or at the physical limit."""
    rules = rules_of(op)
    return rules.bound(op, machine) if mode == BOUND else rules.expected(op, machine)


def remembered(op: Op, machine: Machine, mode: str) -> tuple[Demand, Timing]:
    """Demand and timing of an op at one point or few, as they were when a machine was asked for the same op before."""
    memo = machine.memo
    values = [value for name, value in vars(op).items() if name != "label"]
    key = (mode, type(op), *[_as_key(value) if isinstance(value, np.ndarray) else value for value in values])
    found = memo.get(key)
    if found is None:
        demand = demand_of(op, machine, mode)
        if len(memo) >= REMEMBERED // max(points(op), 1):
            memo.clear()
        found = memo[key] = demand, settle(demand, {})
    answer: tuple[Demand, Timing] = found
    return answer


def points(op: Op) -> int:
    """Points of an op: those of its arrays together."""
    held = arrays(op)
    return math.prod(np.broadcast_shapes(*(value.shape for value in held.values()))) if held else 1


def _as_key(value: np.ndarray) -> tuple[object, ...]:
    return value.shape, value.dtype.char, value.tobytes()


def arrays(op: Op) -> dict[str, np.ndarray]:
    """The fields of an op that hold arrays."""
    return {name: value for name, value in vars(op).items() if isinstance(value, np.ndarray)}
