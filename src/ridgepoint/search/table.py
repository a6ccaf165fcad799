"""A sweep as rows: for JSON, for CSV, for tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.document import plain
from ridgepoint.search.columns import SHARE
from ridgepoint.search.result import Sweep

Chosen = NDArray[np.bool_]


def indices(found: Sweep, only: Chosen | None = None) -> Iterator[tuple[int, ...]]:
    """The points in order, the last axis fastest; ``only`` where it is true."""
    everywhere = product(*(range(n) for n in found.shape))
    return everywhere if only is None else (index for index in everywhere if only[index])


def row(found: Sweep, index: tuple[int, ...]) -> dict[str, Any]:
    """One point: the axes' values, every column, the shares in a table of their own."""
    figures = {name: plain(column[index]) for name, column in found.columns.items()}
    shares = {n.removeprefix(SHARE): figures.pop(n) for n in [*figures] if n.startswith(SHARE)}
    error = figures.pop("error")
    if error:
        return {**_values(found, index), **dict.fromkeys(figures), "shares": {}, "error": error}
    return {**_values(found, index), **figures, "shares": {r: s for r, s in shares.items() if s}, "error": None}


def _values(found: Sweep, index: tuple[int, ...]) -> dict[str, Any]:
    return {name: plain(value) for name, value in found.at(index).items()}


def document(found: Sweep, only: Chosen | None = None) -> dict[str, Any]:
    """What varies, one object per point, which points lack an answer and why, the best points, what to know."""
    return {
        **{key: _plain(value) for key, value in found.base.items()},
        "vary": {a.name: [plain(v) for v in a.values] for a in found.axes},
        "points": found.size,
        "rows": [row(found, index) for index in indices(found, only)],
        "best": {name: None if at is None else _values(found, at) for name, at in best_points(found).items()},
        "failed": [{"reason": reason, "points": count} for reason, count in found.reasons.items()],
        "labels": {r: found.label(r) for r in found.machines},
        "assumptions": list(found.assumptions),
        "warnings": list(found.warnings),
        "citations": list(found.citations),
    }


def _plain(value: Any) -> Any:
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else plain(value)


def best_points(found: Sweep) -> dict[str, tuple[int, ...] | None]:
    """Column → the point that fits with its best value, for what people ask first."""
    asked = ("time_s", "tpot_s", "tokens_per_s", "samples_per_s", "usd_per_million_tokens", "energy_j_per_token")
    has = [name for name in asked if name in found.columns]
    kept = [n for n in has if not (n == "tpot_s" and _same(found, n, "time_s")) or n == "time_s"]
    if "tokens_per_s" in kept:
        kept.remove("samples_per_s")
    return {name: found.best(name) for name in kept}


def _same(found: Sweep, a: str, b: str) -> bool:
    return bool(np.array_equal(found.columns[a], found.columns[b], equal_nan=True))


def csv_text(found: Sweep, only: Chosen | None = None) -> str:
    """One line per point; nothing where there is no figure."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([a.name for a in found.axes] + list(found.columns))
    columns = list(found.columns.values())
    for index in indices(found, only):
        cells = [plain(c[index]) for c in columns]
        writer.writerow(["" if v is None else v for v in (*(plain(v) for v in found.at(index).values()), *cells)])
    return file.getvalue()
