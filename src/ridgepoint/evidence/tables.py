"""Reading measured tables strictly: every malformed cell is named with file, line and column, and nothing is dropped.

A table is CSV or gzipped CSV with a header line; an empty cell means "not stated". ``Table`` keeps it by column, so
that a whole group of rows becomes one array expression.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.evidence.schema import FLAG, JSON, NATURAL, POSITIVE, SCHEMAS, TEXT, Schema
from ridgepoint.formats import find_format
from ridgepoint.numeric import Array

_SHOWN = 20
_RANGES: dict[str, Callable[[float], bool]] = {
    POSITIVE: lambda value: value > 0.0,
    NATURAL: lambda value: value >= 0.0,
    FLAG: lambda value: value in (0.0, 1.0),
}
_OF_FORMATS = ("dtype", "weight_dtype", "kv_dtype", "precision")
# Engines' word for the format of the model; trainers' words for formats of which masters are wider, or are not.
_UNSAID = {
    "auto": "",
    "bf16_true": "bf16",
    "bf16_mixed": "bf16",
    "16_true": "fp16",
    "16_mixed": "amp",
    "32_true": "fp32",
}
_JSON = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True)
class Malformed:
    """One cell (or line) that breaks the schema."""

    file: str
    line: int
    column: str
    problem: str

    def __str__(self) -> str:
        where = f", column `{self.column}`" if self.column else ""
        return f"{self.file}, line {self.line}{where}: {self.problem}"


@dataclass(frozen=True)
class Table:
    """A table by column: text as lists, numbers as arrays (NaN = not stated), ``extra`` decoded."""

    kind: str
    file: str
    lines: NDArray[np.int64]
    text: dict[str, list[str]]
    numbers: dict[str, Array]
    extra: list[dict[str, Any]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.lines)

    def measured(self) -> Array:
        """The measurement of every row, in the table's own unit."""
        return self.numbers[SCHEMAS[self.kind].measured]

    def take(self, index: NDArray[np.int64]) -> Table:
        """Some of the rows."""
        return Table(
            self.kind,
            self.file,
            self.lines[index],
            {name: [cells[i] for i in index] for name, cells in self.text.items()},
            {name: values[index] for name, values in self.numbers.items()},
            [self.extra[i] for i in index],
        )


def find_tables(folder: Path, kinds: tuple[str, ...] = ("kernels", "runs", "memory")) -> list[Path]:
    """The tables of ``folder`` by name: ``kernels.csv`` or ``kernels.csv.gz``, and so on.

    Errors: ``no_data`` when the folder holds none of them.
    """
    names = [f"{kind}.csv{end}" for kind in kinds for end in ("", ".gz")]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        wanted = ", ".join(f"{kind}.csv[.gz]" for kind in kinds)
        raise RidgepointError(
            "no_data", f"{folder} holds no measured table", f"put {wanted} there, or name it: --data DIR"
        )
    return found


def read_table(path: Path, kind: str | None = None) -> Table:
    """The table in ``path``, whose ``kind`` is its name up to the first dot unless given.

    Errors: ``no_data`` when the file cannot be read; ``bad_table`` naming every malformed cell (the first 20 in full).
    """
    schema = SCHEMAS.get(kind or path.name.split(".")[0])
    if schema is None:
        names = ", ".join(f"{name}.csv" for name in SCHEMAS)
        raise RidgepointError("bad_table", f"{path.name}: not the name of a table", f"name it one of {names}")
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows, lines, problems = _rows(reader, path.name)
    if not lines:
        raise RidgepointError(
            "bad_table", f"{path.name}: the file has no header line", "the first line names the columns"
        )
    header = rows.pop(0)
    lines.pop(0)
    in_header = _header(header, schema, path.name)
    if in_header:
        raise _refused(in_header)
    table, in_cells = _columns(schema, path.name, header, rows, lines)
    if problems or in_cells:
        raise _refused(problems + in_cells)
    return table


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except OSError as error:
        raise RidgepointError("no_data", f"{path}: {error.strerror or error}", "check the path") from None
    except (EOFError, UnicodeDecodeError, zlib.error) as error:
        raise RidgepointError("bad_table", f"{path.name}: {error}", "a table is UTF-8 text, plain or gzipped") from None


def _rows(reader: Any, file: str) -> tuple[list[list[str]], list[int], list[Malformed]]:
    """All rows with the line each starts on; a row of another length than the header is a problem."""
    rows: list[list[str]] = []
    lines: list[int] = []
    problems: list[Malformed] = []
    start = 1
    try:
        for row in reader:
            if row and rows and len(row) != len(rows[0]):
                problems.append(Malformed(file, start, "", f"{len(row)} cells where the header has {len(rows[0])}"))
            elif row:
                rows.append(row)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        problems.append(Malformed(file, start, "", str(error)))
    return rows, lines, problems


def _header(header: list[str], schema: Schema, file: str) -> list[Malformed]:
    problems = []
    for name in header:
        if name not in schema.columns:
            close = nearest(name, schema.columns, count=1)
            guess = f"did you mean {close[0]}?" if close else "known: " + ", ".join(schema.columns)
            problems.append(Malformed(file, 1, name, f"no such column in a {schema.kind} table ({guess})"))
    problems += [Malformed(file, 1, name, "is missing") for name in schema.required if name not in header]
    problems += [Malformed(file, 1, name, "appears twice") for name in {n for n in header if header.count(n) > 1}]
    return problems


def _columns(
    schema: Schema, file: str, header: list[str], rows: list[list[str]], lines: list[int]
) -> tuple[Table, list[Malformed]]:
    cells = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(header, ())
    absent = ("",) * len(rows)
    text: dict[str, list[str]] = {}
    numbers: dict[str, Array] = {}
    extra: list[dict[str, Any]] = []
    problems: list[Malformed] = []
    for name, holds in schema.columns.items():
        column = cells.get(name, absent)
        if holds == TEXT:
            text[name] = _canonical(column) if name in _OF_FORMATS else list(column)
        elif holds == JSON:
            extra, bad = _objects(column)
            problems += [Malformed(file, lines[i], name, f"{column[i]!r} is not a JSON object") for i in bad]
        else:
            numbers[name], bad = _numbers(column, holds)
            problems += [Malformed(file, lines[i], name, f"{column[i]!r} is not {holds}") for i in bad]
    table = Table(schema.kind, file, np.array(lines, dtype=np.int64), text, numbers, extra)
    problems += _required(table, schema)
    first = {(p.line, p.column): p for p in reversed(problems)}
    return table, [first[key] for key in sorted(first)]


def _canonical(column: tuple[str, ...]) -> list[str]:
    """Cells that name number formats, as the catalogue writes them: ``BF16``, ``float16`` and ``float8_e4m3fn``, too.

    >>> _canonical(("BF16", "float8_e4m3fn", "W4A16", "auto", ""))
    ['bf16', 'fp8', 'w4a16', '', '']
    """
    meant = {}
    for cell in set(column):
        try:
            meant[cell] = find_format(cell).name
        except RidgepointError:
            written = cell.strip().lower()
            meant[cell] = _UNSAID.get(written.replace("-", "_"), written)
    return [meant[cell] for cell in column]


def _objects(column: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[int]]:
    seen: dict[str, dict[str, Any] | None] = {"": {}}
    for cell in set(column) - {""}:
        try:
            seen[cell] = _JSON.decode(cell)
        except msgspec.DecodeError:
            seen[cell] = None
    return [seen[cell] or {} for cell in column], [i for i, cell in enumerate(column) if seen[cell] is None]


def _numbers(column: tuple[str, ...], holds: str) -> tuple[Array, list[int]]:
    """Cells as numbers (empty = NaN), and the positions of those that are none or outside the allowed range."""
    value: dict[str, float | None] = {}
    for cell in set(column):
        try:
            number = float(cell) if cell else np.nan
            value[cell] = number if not cell or (np.isfinite(number) and _RANGES[holds](number)) else None
        except ValueError:
            value[cell] = None
    bad = [i for i, cell in enumerate(column) if value[cell] is None]
    return np.array([value[cell] if value[cell] is not None else np.nan for cell in column], dtype=np.float64), bad


def _required(table: Table, schema: Schema) -> Iterator[Malformed]:
    """Empty required cells, values outside a list, and what rows of this op must state."""

    def at(i: int, column: str, problem: str) -> Malformed:
        return Malformed(table.file, int(table.lines[i]), column, problem)

    for name in schema.required:
        if name in table.text:
            yield from (at(i, name, "is empty") for i, cell in enumerate(table.text[name]) if not cell)
    empty = np.flatnonzero(np.isnan(table.measured()))
    yield from (at(int(i), schema.measured, "holds no measurement") for i in empty)
    for name, allowed in schema.choices.items():
        for i, cell in enumerate(table.text[name]):
            if cell and cell not in allowed:
                close = nearest(cell, allowed, count=1)
                guess = f"did you mean {close[0]}?" if close else "known: " + ", ".join(sorted(allowed))
                yield at(i, name, f"unknown {name} '{cell}' ({guess})")
    if schema.units:
        yield from (at(i, "unit", problem) for i, problem in _other_units(table, schema.units))
    selected = np.array(table.text[schema.selector])
    for value, needed in schema.needs.items():
        mine = selected == value
        for name in needed:
            missing = np.flatnonzero(mine & np.isnan(table.numbers[name]))
            yield from (at(int(i), name, f"is empty, but a row of {value} needs it") for i in missing)


def _other_units(table: Table, units: Mapping[str, tuple[str, str]]) -> Iterator[tuple[int, str]]:
    """Rows whose unit is not the metric's: their values would be off by powers of ten in silence."""
    said = list(zip(table.text["metric"], table.text["unit"], strict=True))
    wrong = {(m, unit) for m, unit in set(said) if unit and m in units and not re.match(units[m][1], unit)}
    for i, (metric, unit) in enumerate(said):
        if (metric, unit) in wrong:
            yield i, f"{metric} is in {units[metric][0]}, not in '{unit}'"


def _refused(problems: list[Malformed]) -> RidgepointError:
    shown = "\n".join(str(problem) for problem in problems[:_SHOWN])
    more = f"\n… and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return RidgepointError(
        "bad_table", shown + more, "correct these cells; the columns are described in docs/accuracy.md"
    )
