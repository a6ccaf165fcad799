"""Rows read together: the latency of whole requests, and whether runs come out in their true order.

A configuration is a row of the table without its metric. Its request latency is TTFT + (output − 1) · TPOT of the two rows
that state them, measured and predicted alike. Ranks are Spearman's correlation of predicted and measured figures
(Spearman 1904), ties sharing their mean rank: of serving over the configurations of one model on one machine, of other
tasks over everything that one machine ran in one way (networks, batches, lengths).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgepoint.evidence.tables import Table
from ridgepoint.evidence.validate import Predicted, errors
from ridgepoint.numeric import Array

LEAST = 5
"""Configurations from which a rank correlation says something."""
_RANKED = ("tpot_ms", "throughput_tok_s", "request latency")
_SAME_LOAD = ("prompt", "output", "concurrency")
_TIMED = ("latency_ms", "time_s", "throughput_samples_s")
"""Figures by which runs of other tasks are put in order."""
_CONDITIONS = ("layout", "threads", "powersave")
"""What rows state in ``extra`` of how a machine ran everything."""


@dataclass(frozen=True)
class Configurations:
    """A figure of several configurations: their rows in the table, measured, predicted and by the plain roofline."""

    rows: NDArray[np.int64]
    measured: Array
    predicted: Array
    roofline: Array


@dataclass(frozen=True)
class Ranking:
    """How well runs on a machine are ordered by one figure.

    ``way`` is "serve", or task, framework, mode and precision; ``load`` is "equal" or "any" of serving, else the conditions
    of the runs (layout, threads); ``model`` is empty where several are compared.
    """

    way: str
    figure: str
    model: str
    machine: str
    load: str
    configurations: int
    spearman: float


def request_latencies(result: Predicted) -> Configurations:
    """Milliseconds of whole requests, of the configurations that state TTFT, TPOT and the output's length."""
    table = result.table
    pairs: dict[tuple[object, ...], dict[str, int]] = {}
    for i in _serving(result):
        if table.text["metric"][i] in ("ttft_ms", "tpot_ms"):
            pairs.setdefault(_configuration(table, i), {})[table.text["metric"][i]] = i
    both = [(p["ttft_ms"], p["tpot_ms"]) for p in pairs.values() if len(p) == 2]
    index = np.array(both, dtype=np.int64).reshape(-1, 2)
    output = table.numbers["output"][index[:, 0]]
    index, output = index[np.isfinite(output)], output[np.isfinite(output)]
    first, each = index[:, 0], index[:, 1]

    def whole(figure: Array) -> Array:
        return figure[first] + (output - 1.0) * figure[each]

    return Configurations(first, whole(result.measured), whole(result.predicted), whole(result.roofline))


def latency_class(result: Predicted) -> dict[str, object] | None:
    """Errors of request latencies as a class of the report; None where no row states them."""
    found = request_latencies(result)
    if not len(found.rows):
        return None
    mdape, p90, bias = errors(found.measured, found.predicted)
    rows = {
        "kind": result.table.kind,
        "class": "serve request latency",
        "rows": len(found.rows),
        "covered": len(found.rows),
    }
    roofline = errors(found.measured, found.roofline)[0]
    return rows | {"mdape": mdape, "p90": p90, "bias": bias, "roofline_mdape": roofline}


def rankings(result: Predicted) -> list[Ranking]:
    """Rank correlations by figure and machine: serving configurations of each model, over all loads and at equal load;
    runs of other tasks by the way they ran.
    """
    found: list[Ranking] = []
    for name in _RANKED:
        figures = request_latencies(result) if name == "request latency" else _of_metric(result, name)
        found += _ranked(result.table, name, figures, "any", ())
        found += _ranked(result.table, name, figures, "equal", _SAME_LOAD)
    return found + _runs_ranked(result)


def spearman(a: Array, b: Array) -> float:
    """Correlation of ranks.

    >>> spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 20.0, 40.0, 30.0]))
    0.8
    """
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt(np.sum(x**2) * np.sum(y**2)))
    return round(float(np.sum(x * y)) / size, 9) if size else np.nan


def _ranks(values: Array) -> Array:
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    mean: Array = (np.cumsum(count) - (count - 1) / 2.0)[group]
    return mean


def _of_metric(result: Predicted, metric: str) -> Configurations:
    rows = np.array([i for i in _serving(result) if result.table.text["metric"][i] == metric], dtype=np.int64)
    return Configurations(rows, result.measured[rows], result.predicted[rows], result.roofline[rows])


def _ranked(table: Table, name: str, figures: Configurations, load: str, split: tuple[str, ...]) -> list[Ranking]:
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, row in enumerate(figures.rows):
        numbers = tuple(str(table.numbers[column][row]) for column in split)
        workload = str(table.extra[row].get("workload", "")) if split else ""
        key = (table.text["model"][row], table.text["machine"][row], numbers, workload)
        groups.setdefault(key, []).append(place)
    return [
        Ranking("serve", name, str(model), str(machine), load, len(at), _agreement(figures, at))
        for (model, machine, *_), at in groups.items()
        if len(at) >= LEAST
    ]


def _agreement(figures: Predicted | Configurations, at: list[int]) -> float:
    return spearman(figures.measured[at], figures.predicted[at])


def _runs_ranked(result: Predicted) -> list[Ranking]:
    """Runs without clients: all that a machine ran in one way, by each figure of time."""
    table = result.table
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for i in map(int, np.flatnonzero(result.covered)):
        metric, machine = table.text["metric"][i], table.text["machine"][i]
        if table.text["task"][i] != "serve" and metric in _TIMED:
            said = dict.fromkeys(table.text[name][i] for name in ("task", "framework", "mode", "precision"))
            held = {name: table.extra[i].get(name, "") for name in _CONDITIONS}
            conditions = " ".join(f"{name}={value}" for name, value in held.items() if value != "")
            groups.setdefault((" ".join(filter(None, said)), metric, machine, conditions), []).append(i)
    return [
        Ranking(way, metric, "", machine, load, len(at), _agreement(result, at))
        for (way, metric, machine, load), at in groups.items()
        if len(at) >= LEAST
    ]


def _serving(result: Predicted) -> list[int]:
    """Predicted rows of serving."""
    return [int(i) for i in np.flatnonzero(result.covered) if result.table.text["task"][i] == "serve"]


def _configuration(table: Table, i: int) -> tuple[object, ...]:
    """Everything that a row says beside its metric and its value."""
    texts = tuple(cells[i] for name, cells in table.text.items() if name not in ("metric", "unit"))
    numbers = tuple(str(values[i]) for name, values in table.numbers.items() if name != "value")
    return texts, numbers, tuple(sorted((key, str(value)) for key, value in table.extra[i].items()))
