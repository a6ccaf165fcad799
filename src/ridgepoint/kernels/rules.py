"""The table of meaning: what each op kind computes, moves and takes (design §2, §4).

A kernel module exports one ``Rules``; ``KERNELS`` in ``kernels/__init__.py`` is the table. An op whose kind is not in it
raises in strict use and is reported with its share otherwise: it never counts zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num

EXPECTED, BOUND = "expected", "bound"
"""What may be asked of a rule: real kernels, or the physical limit."""


@dataclass(frozen=True)
class Rules:
    """What one op kind means. ``table`` names the coefficients whose spread gives the interval.

    ``flop(op)`` counts arithmetic (a multiply-add is two); ``read_bytes`` and ``write_bytes`` the least traffic with main
    memory: each input once, each output once. ``bound`` and ``expected`` are the two kernel models.
    """

    flop: Callable[[Any], Num]
    read_bytes: Callable[[Any], Num]
    write_bytes: Callable[[Any], Num]
    bound: Callable[[Any, Machine], Demand]
    expected: Callable[[Any, Machine], Demand]
    table: str
    sources: tuple[str, ...] = ()


def roofline(machine: Machine, flop: Num, format_name: str, moved_bytes: Num) -> Demand:
    """The physical limit of a kernel on one device: max(flop / peak, bytes / peak bandwidth), no latency.

    Source: Williams, Waterman, Patterson 2009, "Roofline: an insightful visual performance model".
    """
    arithmetic = machine.arithmetic(format_name)
    seconds: dict[str, Num] = {
        arithmetic.engine: flop / arithmetic.flop_per_s,
        machine.main_memory: moved_bytes / machine.memory_bytes_per_s,
    }
    notes = (arithmetic.note,) if arithmetic.note else ()
    return Demand((Phase(seconds),), notes=notes, arithmetic=(arithmetic.engine, arithmetic.format))


def zero(_: Any) -> Num:
    """The rule of kinds that do none of it (a collective computes nothing, a delay moves nothing)."""
    return 0.0
