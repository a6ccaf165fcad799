"""How well predictions match a kernel table: every row predicted, errors by group beside the roofline's (design §8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgepoint.cost.evaluate import Cost, evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.rows import Batch, Expressed
from ridgepoint.evidence.tables import Table
from ridgepoint.kernels.rules import BOUND
from ridgepoint.numeric import Array

# Below this a kernel's time is mostly launch and clock resolution; such rows are counted apart.
SHORT_S = 5e-6


@dataclass(frozen=True)
class Predicted:
    """One figure per row in SI units: measured, predicted and roofline (NaN = not covered), and why not."""

    table: Table
    measured: Array
    predicted: Array
    roofline: Array
    spread: Array
    """Standard deviation of log(measured / predicted) that the estimate claims."""
    refused: dict[int, str]
    batches: list[Batch]

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Rows with a prediction."""
        return np.isfinite(self.predicted)


@dataclass(frozen=True)
class Group:
    """Errors of one group of rows, as design §10 names them; ratios are predicted / measured."""

    kind: str
    group: str
    machine: str
    rows: int
    covered: int
    mdape: float
    p90: float
    bias: float
    roofline_mdape: float
    inside: float
    """Part of the covered rows inside their 90 % interval."""
    long_rows: int
    """Covered rows of at least 5 µs, and their median error."""
    long_mdape: float


def predict_kernels(expressed: Expressed, progress: Callable[[int], None] = lambda done: None) -> Predicted:
    """Predicted and roofline seconds of every row that has a work; a kernel model's own refusal is a reason too."""
    rows = len(expressed.table)
    predicted, roofline, spread = (np.full(rows, np.nan) for _ in range(3))
    refused = dict(expressed.refused)
    for batch in expressed.batches:
        index = batch.rows.index
        try:
            cost = evaluate(batch.work, batch.machine, strict=True)
            predicted[index] = cost.time_s
            roofline[index] = plain_roofline(evaluate(batch.work, batch.sheet, BOUND, strict=True))
            spread[index] = cost.relative_spread
        except RidgepointError as error:
            refused |= dict.fromkeys((int(i) for i in index), str(error))
        progress(len(index))
    measured = expressed.table.measured() * 1e-6
    return Predicted(expressed.table, measured, predicted, roofline, spread, refused, expressed.batches)


def plain_roofline(bound: Cost) -> Array:
    """The baseline that everyone has: device kernels at peak rates, nothing for hosts and launches."""
    hosted = bound.busy_s.get("host", 0.0)
    return np.maximum(np.asarray(bound.time_s) - hosted, 1e-12)


def errors(measured: Array, predicted: Array) -> tuple[float, float, float]:
    """Median and 90th percentile of |predicted/measured − 1|, and the geometric mean of predicted/measured.

    >>> [round(e, 3) for e in errors(np.array([1.0, 2.0, 4.0]), np.array([1.1, 2.0, 3.0]))]
    [0.1, 0.22, 0.938]
    """
    if not len(measured):
        return np.nan, np.nan, np.nan
    ratio = predicted / measured
    ape = np.abs(ratio - 1.0)
    return float(np.median(ape)), float(np.percentile(ape, 90)), float(np.exp(np.mean(np.log(ratio))))


def group_names(table: Table) -> list[str]:
    """Op and format of every row, attention told apart by phase."""
    names = []
    for op, dtype, extra in zip(table.text["op"], table.text["dtype"], table.extra, strict=True):
        phase = f" {extra['phase']}" if op in {"attention", "mla_attention", "layer"} and "phase" in extra else ""
        names.append(f"{op}{phase} {dtype}")
    return names


def group_errors(result: Predicted, names: Iterable[str] | None = None) -> list[Group]:
    """Groups of op and format on each machine, largest ops first in the table's order."""
    labels = list(names) if names is not None else group_names(result.table)
    members: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(labels, result.table.text["machine"], strict=True)):
        members.setdefault(key, []).append(i)
    return [_group(result, name, machine, np.array(index)) for (name, machine), index in sorted(members.items())]


def _group(result: Predicted, name: str, machine: str, index: NDArray[np.int64]) -> Group:
    good = index[result.covered[index]]
    measured, predicted = result.measured[good], result.predicted[good]
    mdape, p90, bias = errors(measured, predicted)
    long = measured >= SHORT_S
    off = np.abs(np.log(measured / predicted)) if len(good) else np.array([])
    return Group(
        kind=result.table.kind,
        group=name,
        machine=machine,
        rows=len(index),
        covered=len(good),
        mdape=mdape,
        p90=p90,
        bias=bias,
        roofline_mdape=errors(measured, result.roofline[good])[0],
        inside=float(np.mean(off <= 1.645 * result.spread[good])) if len(good) else np.nan,
        long_rows=int(long.sum()),
        long_mdape=errors(measured[long], predicted[long])[0],
    )


def reasons(result: Predicted) -> list[tuple[str, int]]:
    """Why rows were not predicted, most frequent first."""
    return Counter(result.refused.values()).most_common()
