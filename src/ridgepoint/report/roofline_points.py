"""What a roofline shows of an estimate: ceilings, slopes, and one mark per component, per device."""

from __future__ import annotations

from dataclasses import dataclass

from ridgepoint.estimates import Estimate
from ridgepoint.kernels.rules import BOUND
from ridgepoint.machines.machine import Machine
from ridgepoint.machines.ridge import levels, rates
from ridgepoint.report.components import Row, rows

WHOLE = "the whole"
MUCH = 0.05


@dataclass(frozen=True)
class Mark:
    """A component: operations per byte of main memory, and per second as expected and at its physical limit."""

    label: str
    flop_per_byte: float
    flop_per_s: float
    bound_flop_per_s: float
    share: float
    """Of the whole time."""
    bound_by: str


@dataclass(frozen=True)
class Roofline:
    """Ceilings as (format, operations per second), slopes as (memory, bytes per second) with the main memory first."""

    ceilings: tuple[tuple[str, float], ...]
    used: frozenset[str]
    """Formats that do at least ``MUCH`` of the estimate's operations."""
    slopes: tuple[tuple[str, float], ...]
    marks: tuple[Mark, ...] = ()
    left_out: tuple[str, ...] = ()
    """Components without arithmetic or without traffic, which have no place here."""

    def in_use(self, names: str) -> bool:
        """Whether the estimate computes in a format of a ceiling."""
        return bool(self.used & {*names.split(", ")})


def roofline_of(est: Estimate) -> Roofline:
    """The roofline of one scenario.

    >>> import ridgepoint as rp
    >>> found = roofline_of(rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=32, context=8192)))
    >>> found.marks[0].label, round(found.marks[0].flop_per_byte), "bf16" in found.used
    ('the whole', 12, True)
    """
    shown = rows(est.cost.components, float(est.time_s))
    placed = [row for row in shown if row.flop > 0.0 and row.bytes > 0.0 and row.own_s > 0.0 and row.parts == 1]
    left_out = tuple(row.label for row in shown if row not in placed)
    marks = tuple(_mark(row, float(est.time_s)) for row in placed)
    total = sum(map(float, est.cost.flop.values()))
    used = frozenset(k.partition("/")[2] for k, flop in est.cost.flop.items() if float(flop) > MUCH * total)
    machine = est.scenario.machine
    return Roofline(ceilings(machine), used, slopes(machine), (*_whole(est), *marks), left_out)


def ceilings(machine: Machine) -> tuple[tuple[str, float], ...]:
    """Formats and their peak rates, formats of one rate together, fastest first.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> ceilings(find_machine("h100-sxm"))[1]
    ('fp16, bf16', 989400000000000.0)
    """
    names: dict[float, list[str]] = {}
    for _, fmt, rate in rates(machine):
        names.setdefault(rate, []).append(fmt)
    return tuple((", ".join(found), rate) for rate, found in names.items())


def slopes(machine: Machine) -> tuple[tuple[str, float], ...]:
    """Memories and their bandwidths, the main one first."""
    memory = machine.device.memory
    return tuple((memory[name].label, bandwidth) for name, bandwidth in levels(machine))


def _mark(row: Row, time_s: float) -> Mark:
    limit = row.flop / max(row.bound_s, 1e-300) if row.bound_s > 0.0 else row.flop / row.own_s
    return Mark(row.label, row.flop / row.bytes, row.flop / row.own_s, limit, row.time_s / time_s, row.bound_by)


def _whole(est: Estimate) -> tuple[Mark, ...]:
    flop, moved = sum(map(float, est.cost.flop.values())), float(est.cost.bytes)
    if flop <= 0.0 or moved <= 0.0 or float(est.time_s) <= 0.0:
        return ()
    limit = float(est.time_s) if est.mode == BOUND else float(est.bound_s)
    return (Mark(WHOLE, flop / moved, flop / float(est.time_s), flop / limit, 1.0, str(est.bottleneck)),)
