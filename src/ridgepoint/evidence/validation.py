"""Validation of a folder of tables: every kind predicted, errors by group and class, reasons, the worst rows (design §8)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np

from ridgepoint.citations import TABLES, Reliance, coefficients_of
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.evidence import attention_rows, expert_rows, layer_rows, matrix_rows, other_rows
from ridgepoint.evidence.configurations import latency_class, rankings
from ridgepoint.evidence.rows import Builder, express
from ridgepoint.evidence.run_rows import predict_runs, run_names, stand_ins_of
from ridgepoint.evidence.tables import Table, find_tables, read_table
from ridgepoint.evidence.validate import (
    SHORT_S,
    Group,
    Predicted,
    errors,
    group_errors,
    group_names,
    predict_kernels,
    reasons,
)
from ridgepoint.kernels import KERNELS
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.machines.catalog import find_machine
from ridgepoint.work import ops

BUILDERS: dict[str, Builder] = {
    **matrix_rows.BUILDERS,
    **expert_rows.BUILDERS,
    **attention_rows.BUILDERS,
    **layer_rows.BUILDERS,
    **other_rows.BUILDERS,
}
KINDS = ("kernels", "runs", "memory")
Progress = Callable[[str, int, int], None]
WORST = 10


@dataclass(frozen=True)
class Worst:
    """A row far from its prediction: where it is, both figures, and what the prediction is made of."""

    kind: str
    line: int
    group: str
    machine: str
    framework: str
    measured: float
    predicted: float
    shares: dict[str, float]


@dataclass(frozen=True)
class Validation:
    """What a folder of tables says about the predictions."""

    results: dict[str, Predicted]
    groups: list[Group]
    seconds: float

    @cached_property
    def citations(self) -> tuple[str, ...]:
        """What the predictions relied on: kernel models, and the coefficients of every machine that has a covered row."""
        return reduce(or_, map(_reliance, self.results.values()), Reliance()).lines


def _reliance(result: Predicted) -> Reliance:
    """Of kernels exactly; whole runs may use any kernel model."""
    used = {rules_of(op).table for batch in result.batches for op in ops(batch.work)} - {""}
    tables = tuple(used) if result.batches else TABLES
    names = {name for name, good in zip(result.table.text["machine"], result.covered, strict=True) if good}
    publications = reduce(or_, (kernel_reliance(table) for table in tables), Reliance())
    return publications | coefficients_of(map(find_machine, sorted(names)), tables)


def kernel_reliance(table: str) -> Reliance:
    """Publications behind the kernel models that use a coefficient table."""
    keys = [key for rules in KERNELS.values() if rules.table == table for key in rules.sources]
    return Reliance(tuple(keys))


def validate_folder(folder: Path, kinds: tuple[str, ...] = KINDS, progress: Progress = lambda *_: None) -> Validation:
    """Predictions of every row of the folder's tables.

    Errors: ``no_data`` without a table of these kinds; ``bad_table`` for malformed cells.
    """
    tables = [read_table(path) for path in find_tables(folder, kinds)]
    began = time.perf_counter()
    results: dict[str, Predicted] = {}
    groups: list[Group] = []
    for table in tables:
        results[table.kind] = _predicted(table, progress)
        names = group_names(table) if table.kind == "kernels" else run_names(table)
        groups += group_errors(results[table.kind], names)
    return Validation(results, groups, time.perf_counter() - began)


def _predicted(table: Table, progress: Progress) -> Predicted:
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        progress(table.kind, done, len(table))

    progress(table.kind, 0, len(table))
    if table.kind == "kernels":
        return predict_kernels(express(table, BUILDERS), count)
    return predict_runs(table, count)


def classes(validation: Validation) -> list[dict[str, Any]]:
    """Errors by class over all machines: op for kernels, task and metric for runs, metric for memory."""
    found = []
    for kind, result in validation.results.items():
        table = result.table
        columns = {"kernels": ("op",), "runs": ("task", "metric"), "memory": ("metric",)}[kind]
        names = [" ".join(parts) for parts in zip(*(table.text[name] for name in columns), strict=True)]
        labels = np.array(names)
        for name in dict.fromkeys(names):
            mine = labels == name
            good = mine & result.covered
            counted = good & (result.measured >= SHORT_S) if kind == "kernels" else good
            mdape, p90, bias = errors(result.measured[counted], result.predicted[counted])
            roofline = errors(result.measured[counted], result.roofline[counted])[0]
            row = {"kind": kind, "class": name, "rows": int(mine.sum()), "covered": int(good.sum()), "mdape": mdape}
            found.append(row | {"p90": p90, "bias": bias, "roofline_mdape": roofline})
        requests = latency_class(result) if kind == "runs" else None
        found += [requests] if requests is not None else []
    return found


def worst_rows(result: Predicted, count: int = WORST) -> list[Worst]:
    """The covered rows farthest from their predictions in ratio, short kernels left out, with shares of the prediction."""
    ratio = np.abs(np.log(np.where(result.covered, result.predicted / result.measured, 1.0)))
    if result.table.kind == "kernels":
        ratio = np.where(result.measured >= SHORT_S, ratio, 0.0)
        names = group_names(result.table)
    else:
        names = run_names(result.table)
    chosen = [int(i) for i in np.argsort(-ratio)[:count] if ratio[i] > 0.0]
    return [_worst(result, i, names[i]) for i in chosen]


def _worst(result: Predicted, i: int, name: str) -> Worst:
    table = result.table
    return Worst(
        kind=table.kind,
        line=int(table.lines[i]),
        group=name,
        machine=table.text["machine"][i],
        framework=table.text["framework"][i],
        measured=float(result.measured[i]),
        predicted=float(result.predicted[i]),
        shares=_shares(result, i),
    )


def _shares(result: Predicted, i: int) -> dict[str, float]:
    """Part of the prediction that each resource is responsible for, largest first; empty where it is not known."""
    for batch in result.batches:
        place = np.flatnonzero(batch.rows.index == i)
        if len(place):
            cost = evaluate(batch.work, batch.machine)
            size = len(batch.rows)
            part = {r: float(np.broadcast_to(s, size)[place[0]]) for r, s in cost.shares.items()}
            return {r: s for r, s in sorted(part.items(), key=lambda item: -item[1]) if s >= 0.01}
    return {}


def document(validation: Validation) -> dict[str, Any]:
    """Design §10's answer of ``validate``; figures that do not exist are null."""
    results = validation.results
    summary = {
        "rows": sum(len(result.table) for result in results.values()),
        "covered": sum(int(result.covered.sum()) for result in results.values()),
        "seconds": round(validation.seconds, 3),
        "classes": classes(validation),
        "not_predicted": [
            {"kind": kind, "reason": reason, "rows": rows}
            for kind, result in results.items()
            for reason, rows in reasons(result)
        ],
        "stand_ins": stand_ins(validation),
        "ranks": [asdict(rank) for rank in rankings(results["runs"])] if "runs" in results else [],
        "worst": [asdict(row) for result in results.values() for row in worst_rows(result)],
    }
    answer: dict[str, Any] = finite({"groups": [asdict(group) for group in validation.groups], "summary": summary})
    return answer | {"citations": list(validation.citations)}


def stand_ins(validation: Validation) -> list[dict[str, Any]]:
    """Software that nobody described, what predicts its rows, and how many are predicted so."""
    found: Counter[tuple[str, str]] = Counter()
    for kind in ("runs", "memory"):
        if kind in validation.results:
            result = validation.results[kind]
            pairs = zip(result.table.text["framework"], stand_ins_of(result.table), result.covered, strict=True)
            found.update((name, like) for name, like, covered in pairs if like and covered)
    return [{"framework": name, "like": like, "rows": rows} for (name, like), rows in found.most_common()]


def finite(value: Any) -> Any:
    """The document with null instead of what is not a number."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
