"""Traces of requests: CSV with ``arrival_s,input_tokens,output_tokens`` and, where known, ``prefix_hash_ids``,
``priority`` and ``adapter`` (a number; −1: none), or public traces as they come (``trace_forms.py``).
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TextIO

import numpy as np

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.serving.trace_forms import lines, meant, seconds
from ridgepoint.serving.workload import Requests

NEEDED = ("arrival_s", "input_tokens", "output_tokens")
OPTIONAL = ("prefix_hash_ids", "priority", "adapter")
_A_YEAR = 365.0 * 86400.0
HASHED_TOKENS = 512
"""Tokens of the blocks that ``prefix_hash_ids`` names, as in Mooncake's traces."""


def read_trace(path: Path | str, id_tokens: int = HASHED_TOKENS) -> Requests:
    """The requests of a trace, ordered by arrival; ``id_tokens``: tokens of a block of ``prefix_hash_ids``.

    Errors: ``bad_trace`` with line and column; ``bad_file`` where there is no such file.
    """
    place = Path(path)
    try:
        with place.open(newline="", encoding="utf-8") as stream:
            return _read(stream, str(place), id_tokens)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RidgepointError("bad_trace", f"{place}: {error}", "traces are CSV in UTF-8") from None


def _read(stream: TextIO, name: str, id_tokens: int) -> Requests:
    rows = lines(stream, name)
    columns, own = _columns(next(rows, []), name)
    unanswered = 0
    arrival, prompt, output = array("d"), array("q"), array("q")
    ids, offsets, priority, adapter = array("q"), array("q", [0]), array("q"), array("q")
    for line, row in _filled(rows):
        cell = _Cell(name, line, row, columns)
        if not own and cell.unanswered():
            unanswered += 1
            continue
        arrival.append(cell.time("arrival_s"))
        prompt.append(cell.tokens("input_tokens"))
        output.append(cell.tokens("output_tokens"))
        if "prefix_hash_ids" in columns:
            ids.extend(cell.ids("prefix_hash_ids"))
            offsets.append(len(ids))
        if "priority" in columns:
            priority.append(cell.whole("priority"))
        if "adapter" in columns:
            adapter.append(cell.adapter("adapter"))
    if not arrival:
        raise RidgepointError("bad_trace", f"{name}: no request follows the header", "give a file with rows")
    if arrival[0] > _A_YEAR:  # dates, or seconds since 1970
        first = min(arrival)
        arrival = array("d", (time_s - first for time_s in arrival))
    order = np.argsort(np.array(arrival), kind="stable")
    table = Requests(
        np.array(arrival)[order],
        np.array(prompt, dtype=np.int64)[order],
        np.array(output, dtype=np.int64)[order],
        priority=np.array(priority, dtype=np.int64)[order] if priority else None,
        adapter=np.array(adapter, dtype=np.int64)[order] if adapter else None,
        source=name + (f" ({unanswered:,} requests without tokens left out)" if unanswered else ""),
    )
    return _with_ids(table, np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64), order, id_tokens)


def _with_ids(table: Requests, ids: np.ndarray, offsets: np.ndarray, order: np.ndarray, id_tokens: int) -> Requests:
    if len(offsets) == 1:
        return table
    if not np.array_equal(order, np.arange(len(order))):
        ids = np.concatenate([ids[offsets[i] : offsets[i + 1]] for i in order])
        offsets = np.concatenate([[0], np.cumsum(np.diff(offsets)[order])])
    return replace(table, ids=ids, offsets=offsets, id_tokens=id_tokens)


def _filled(rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    return ((line, row) for line, row in enumerate(rows, start=2) if row and any(cell.strip() for cell in row))


def _columns(header: list[str], name: str) -> tuple[dict[str, int], bool]:
    """Where each column is, and whether the header is the project's own."""
    titles = meant(header)
    found = {title: i for i, title in enumerate(titles)}
    for needed in NEEDED:
        if needed not in found:
            close = nearest(needed, found, count=1)
            hint = f"is '{close[0]}' meant? " if close else ""
            raise RidgepointError(
                "bad_trace",
                f"{name}, line 1: there is no column '{needed}'",
                f"{hint}the header must hold {', '.join(NEEDED)}; {', '.join(OPTIONAL)} may follow",
            )
    return found, all(header[found[needed]].strip().lstrip("\ufeff") == needed for needed in NEEDED)


class _Cell:
    """Reads the cells of one line, and says where one is wrong."""

    def __init__(self, name: str, line: int, row: list[str], columns: dict[str, int]) -> None:
        self.name, self.line, self.row, self.columns = name, line, row, columns

    def unanswered(self) -> bool:
        """Whether the request failed: public traces hold those, with no tokens."""
        return "0" in (self._text("input_tokens"), self._text("output_tokens"))

    def time(self, column: str) -> float:
        text = self._text(column)
        try:
            value = seconds(text)
        except ValueError:
            raise self._wrong(column, f"'{text}' is not a number, and no date") from None
        if not isfinite(value) or value < 0.0:
            raise self._wrong(column, f"{text} is not a time of at least 0")
        return value

    def whole(self, column: str) -> int:
        text = self._text(column)
        try:
            return int(text)
        except ValueError:
            raise self._wrong(column, f"'{text}' is not a whole number") from None

    def tokens(self, column: str) -> int:
        value = self.whole(column)
        if not 1 <= value <= 10**9:
            raise self._wrong(column, f"{value} tokens are not from 1 to 1,000,000,000")
        return value

    def adapter(self, column: str) -> int:
        value = self.whole(column)
        if value < -1:
            raise self._wrong(column, f"{value} is no number of an adapter; -1 means none")
        return value

    def ids(self, column: str) -> list[int]:
        index = self.columns[column]
        text = self.row[index] if index < len(self.row) else ""
        try:
            return [int(word) for word in text.split()]
        except ValueError:
            raise self._wrong(column, "ids are whole numbers with spaces between them") from None

    def _text(self, column: str) -> str:
        index = self.columns[column]
        if index >= len(self.row) or not self.row[index].strip():
            raise self._wrong(column, "the cell is empty")
        return self.row[index].strip()

    def _wrong(self, column: str, what: str) -> RidgepointError:
        place = f"{self.name}, line {self.line}, column {self.columns[column] + 1} ({column})"
        return RidgepointError("bad_trace", f"{place}: {what}", "correct the trace; nothing was simulated")
