"""What advice is ranked by: the figure of an estimate that should fall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.estimates import Estimate


@dataclass(frozen=True)
class Objective:
    """``measure`` gives what should be small; ``unit`` is what it is counted in, ``better`` how a ratio is called."""

    name: str
    unit: str
    better: str
    measure: Callable[[Estimate], float | None]


def _seconds(est: Estimate) -> float:
    return float(est.time_s)


def _seconds_each(est: Estimate) -> float:
    return 1.0 / float(est.samples_per_s)


def _usd_each(est: Estimate) -> float | None:
    return None if est.cost_usd is None else float(est.cost_usd) / _samples(est)


def _joules_each(est: Estimate) -> float | None:
    return None if est.energy_j is None else float(est.energy_j) / _samples(est)


def _samples(est: Estimate) -> float:
    return float(est.samples_per_s) * float(est.time_s)


def _bytes(est: Estimate) -> float:
    return float(est.memory.total_bytes)


OBJECTIVES = {
    o.name: o
    for o in (
        Objective("latency", "s", "faster", _seconds),
        Objective("throughput", "s per sample", "more per second", _seconds_each),
        Objective("cost", "$ per sample", "cheaper", _usd_each),
        Objective("energy", "J per sample", "less energy", _joules_each),
        Objective("memory", "B", "less memory", _bytes),
    )
}


def find_objective(name: str) -> Objective:
    """The objective of that name.

    Errors: ``unknown_objective`` with the nearest name.

    >>> find_objective("latency").unit
    's'
    """
    if name not in OBJECTIVES:
        close = nearest(name, OBJECTIVES, count=1)
        hint = f"did you mean {close[0]}?" if close else "use one of " + ", ".join(OBJECTIVES)
        raise RidgepointError("unknown_objective", f"unknown objective '{name}'", hint)
    return OBJECTIVES[name]


def gain(objective: Objective, before: Estimate, after: Estimate) -> float:
    """How many times better ``after`` is than ``before``; above 1 is better.

    Errors: ``no_price`` or ``no_power`` where the machine's sheet has no figure to compare.
    """
    old, new = objective.measure(before), objective.measure(after)
    if old is None or new is None:
        raise RidgepointError(
            "no_figure",
            f"{before.scenario.machine.device.name} has no {'price' if objective.name == 'cost' else 'power'} in its sheet",
            "rank by --objective latency, throughput or memory",
        )
    return old / new


def merit(objective: Objective, before: Estimate, after: Estimate) -> tuple[bool, float]:
    """A key that is larger for the better change: what fits comes before what does not; of what does, the gain counts.

    While nothing fits yet, bytes count: a run that cannot start gains nothing from being faster.
    """
    fits = bool(after.memory.fits)
    if fits or bool(before.memory.fits):
        return fits, gain(objective, before, after)
    return False, gain(OBJECTIVES["memory"], before, after)
