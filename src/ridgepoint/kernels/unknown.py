"""The rules of an op's kind, and those of a kind that nobody described: it is timed by its bytes and never counts zero."""

from __future__ import annotations

from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels import KERNELS
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules
from ridgepoint.machines.machine import Machine
from ridgepoint.work import Op


def rules_of(op: Op) -> Rules:
    """The rules of an op's kind, or those of an unknown kind."""
    return KERNELS.get(op.kind, _UNKNOWN)


def unknown_op(op: Op) -> RidgepointError:
    """What to say where every op must be known."""
    return RidgepointError(
        "unknown_op", f"no rule gives meaning to op kind '{op.kind}' ({op.label or 'no label'})", "add one to KERNELS"
    )


def _stated(name: str) -> Any:
    return lambda op: getattr(op, name, 0.0)


def _unknown_bound(op: Op, machine: Machine) -> Demand:
    moved = getattr(op, "read_bytes", 0.0) + getattr(op, "write_bytes", 0.0)
    return Demand((Phase({machine.main_memory: moved / machine.memory_bytes_per_s}),))


def _unknown_expected(op: Op, machine: Machine) -> Demand:
    common = machine.coefficients.device
    launch = Phase({"launch": common.launch_s})
    (traffic,) = _unknown_bound(op, machine).phases
    scaled = Phase({r: t / common.memory_efficiency for r, t in traffic.seconds.items()})
    return Demand((scaled, launch), notes=(f"op kind '{op.kind}' is unknown: timed by its bytes and one launch",))


_UNKNOWN = Rules(
    _stated("flop"), _stated("read_bytes"), _stated("write_bytes"), _unknown_bound, _unknown_expected, "device"
)
