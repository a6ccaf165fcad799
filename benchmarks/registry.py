"""The registry of benchmarks: what is measured, the target, and the table that sets one beside the other."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]
Measure = Callable[[], float]


@dataclass(frozen=True)
class Spec:
    """A benchmark: the call that returns its figure, in the given unit, and the target that it should reach."""

    name: str
    measures: str
    unit: str
    target: float
    measure: Measure
    better: Better = "lower"


@dataclass(frozen=True)
class Result:
    """The figure of one benchmark, or why there is none."""

    spec: Spec
    figure: float | None = None
    error: str = ""

    @property
    def ratio(self) -> float | None:
        """How far the figure is from its target, oriented so that at most 1 reaches it."""
        if self.figure is None:
            return None
        if self.spec.better == "lower":
            return self.figure / self.spec.target
        return self.spec.target / self.figure if self.figure else float("inf")

    @property
    def reached(self) -> bool:
        """Whether there is a figure and it is at least as good as the target."""
        return self.ratio is not None and self.ratio <= 1.0


SPECS: dict[str, Spec] = {}


def benchmark(
    name: str, *, measures: str, unit: str, target: float, better: Better = "lower"
) -> Callable[[Measure], Measure]:
    """Register the decorated call, which takes nothing and returns the figure, under a name of its own."""

    def register(measure: Measure) -> Measure:
        if name in SPECS:
            raise ValueError(f"two benchmarks are named {name!r}")
        if not target > 0:
            raise ValueError(f"the target of {name!r} must be positive, not {target!r}")
        SPECS[name] = Spec(name, measures, unit, target, measure, better)
        return measure

    return register


def selected(words: Sequence[str]) -> list[Spec]:
    """The benchmarks whose name holds one of the words; all of them when there are no words."""
    return [spec for spec in SPECS.values() if not words or any(word in spec.name for word in words)]


def run(spec: Spec) -> Result:
    """The result of one benchmark; a failure becomes a result too, so that the others still run."""
    try:
        return Result(spec, float(spec.measure()))
    except Exception as error:
        return Result(spec, error=f"{type(error).__name__}: {error}")


def seconds(call: Callable[[], object], *, repeats: int = 7, warmups: int = 1) -> float:
    """The median wall time of a call, after calls that are not counted."""
    for _ in range(warmups):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def table(results: Iterable[Result]) -> str:
    """The results as aligned text: name, what is measured, figure, target, ratio (at most 1 reaches the target)."""
    rows = [("benchmark", "measures", "figure", "target", "ratio", "")]
    notes = []
    for result in results:
        spec = result.spec
        bound = f"{'≤' if spec.better == 'lower' else '≥'} {quantity(spec.target, spec.unit)}"
        if result.figure is None or result.ratio is None:
            rows.append((spec.name, spec.measures, "–", bound, "–", "failed"))
            notes.append(f"{spec.name}: {result.error}")
        else:
            verdict = "reached" if result.reached else "missed"
            rows.append(
                (spec.name, spec.measures, quantity(result.figure, spec.unit), bound, f"{result.ratio:.2f}", verdict)
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *notes])


def quantity(value: float, unit: str) -> str:
    """A figure of three digits with its unit.

    >>> quantity(0.31234, "s"), quantity(1234567.0, "points/s")
    ('0.312 s', '1.23e+06 points/s')
    """
    return f"{value:.3g} {unit}"
