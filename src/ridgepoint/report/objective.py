"""How the figure that advice is ranked by is shown: time, tokens per second, money or energy per token, bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ridgepoint.advice.advice import Advice
from ridgepoint.estimates import Estimate
from ridgepoint.report.headline import made
from ridgepoint.report.text import gigabytes, money, number
from ridgepoint.units import duration, si

MILLION = 1e6


@dataclass(frozen=True)
class Shown:
    """``figure`` of an estimate, ``say`` writes it; ``rising`` where more is better."""

    title: str
    figure: Callable[[Estimate], float]
    say: Callable[[float], str]
    rising: bool = False

    def change(self, value: float) -> str:
        """A difference with its sign."""
        return f"{'+' if value > 0.0 else '−' if value < 0.0 else ''}{self.say(abs(value))}"


def shown(found: Advice) -> Shown:
    """What stands for the objective of ``found`` in its tables and its waterfall.

    Ratios of figures are the gains by which remedies are ranked: each figure is the objective's measure in another unit.

    >>> import ridgepoint as rp
    >>> task = rp.Decode(batch=8, context=32768)
    >>> asked = {o: rp.advise("llama-3.1-8b", on="h100-sxm", task=task, objective=o) for o in ("throughput", "memory")}
    >>> [(shown(a).title, shown(a).say(shown(a).figure(a.baseline)).split()[1]) for a in asked.values()]
    [('tokens per second', 'tokens/s'), ('memory per device', 'GB')]
    """
    base, name, measure = found.baseline, found.objective.name, found.objective.measure
    count, piece = made(base)
    per_sample = count / (float(base.samples_per_s) * float(base.time_s))

    def small(est: Estimate) -> float:
        return float(measure(est) or 0.0)

    if name == "throughput":
        unit = f"{piece}s/s"
        return Shown(f"{piece}s per second", lambda e: per_sample / small(e), lambda v: f"{number(v)} {unit}", True)
    if name == "cost":
        title = f"cost per million {piece}s"
        return Shown(title, lambda e: MILLION * small(e) / per_sample, money)
    if name == "energy":
        return Shown(f"energy per {piece}", lambda e: small(e) / per_sample, lambda v: si(v, "J"))
    if name == "memory":
        return Shown("memory per device", small, gigabytes)
    return Shown("time", small, duration)
